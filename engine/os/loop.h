// Loop: epoll, timers and signals in one place. Never blocks on a child.
//
// Facts it relies on:
// - epoll watches open file descriptions, not numbers. A descriptor that is closed while a copy lives in another process
//   stays registered, so unwatch() always removes it explicitly and before close().
// - Events of one epoll_wait batch may concern a descriptor that an earlier callback of the same batch has closed, and the
//   number may already be in use again. Each registration has a generation number that a stale event does not match.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <unordered_map>

#include "base/result.h"
#include "os/clock.h"
#include "os/fd.h"

namespace holdfast::os {

using TimerId = std::uint64_t;

class Loop {
 public:
  using FdCallback = std::function<void(std::uint32_t events)>;
  using Callback = std::function<void()>;

  static Result<Loop> open(const Clock& clock);

  /// Calls back, level-triggered, whenever `fd` has one of `events` (EPOLLIN, ...). The caller keeps `fd`.
  Status watch(int fd, std::uint32_t events, FdCallback callback);
  void change(int fd, std::uint32_t events);
  void unwatch(int fd);

  TimerId call_at(Time when, Callback callback);
  TimerId call_after(Duration delay, Callback callback) { return call_at(clock_->now() + delay, std::move(callback)); }
  /// Harmless for a timer that has fired or never was.
  void cancel(TimerId id);

  /// Runs until stop(); may be run again after that.
  Status run();
  void stop() { stopped_ = true; }
  [[nodiscard]] const Clock& clock() const { return *clock_; }

 private:
  struct Watch {
    std::uint32_t generation;
    FdCallback callback;
  };
  Loop(const Clock& clock, Fd epoll, Fd timer) : clock_(&clock), epoll_(std::move(epoll)), timer_(std::move(timer)) {}
  void run_due_timers();
  void arm_timer();

  const Clock* clock_;
  Fd epoll_;
  Fd timer_;
  std::unordered_map<int, Watch> watches_;
  std::map<std::pair<Time, TimerId>, Callback> timers_;
  std::unordered_map<TimerId, Time> due_;
  std::uint32_t next_generation_ = 1;
  TimerId next_timer_ = 1;
  bool stopped_ = false;
};

}  // namespace holdfast::os
