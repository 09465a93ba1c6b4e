// Outbox: verdicts on their way to the controller and the log. It promises that nobody hears of one before the ledger has it,
// and that every one whose commit fails is named to the owner instead of being shown.
//
// They are gathered for a moment, since a commit costs more than what it makes durable, and since the controller has to be
// woken for each delivery.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "os/loop.h"
#include "wire/channel.h"

namespace holdfast::run {

struct News {
  std::int64_t test = 0;         ///< Its number in the ledger.
  nlohmann::ordered_json event;  ///< For the log.
  wire::Json frame;              ///< For the controller.
};

struct OutboxHost {
  /// Makes the ledger durable up to now; false if that failed, and the run with it.
  std::function<bool()> commit;
  std::function<void(const News&)> show;
  /// A verdict that is not kept, and so counts as none.
  std::function<void(const News&)> lost;
};

class Outbox {
 public:
  Outbox(os::Loop& loop, OutboxHost host) : loop_(loop), host_(std::move(host)) {}
  ~Outbox() { loop_.cancel(timer_); }
  Outbox(const Outbox&) = delete;
  Outbox& operator=(const Outbox&) = delete;

  void add(News news) { news_.push_back(std::move(news)); }
  /// Commits now, and leaves the showing to the next delivery.
  bool commit();
  /// Commits and shows everything. False if the commit failed; what was safe before is shown all the same.
  bool deliver();
  /// deliver() within a moment.
  void deliver_soon();

 private:
  os::Loop& loop_;
  OutboxHost host_;
  std::vector<News> news_;
  std::size_t safe_ = 0;  ///< The first so many of them are in the ledger.
  os::TimerId timer_ = 0;
};

}  // namespace holdfast::run
