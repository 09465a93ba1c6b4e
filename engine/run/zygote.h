// Zygote: a process that a slot's tests are forked from. The slot's own, which was forked from the root zygote; one in which a
// scope was set up; or a replica of such, which another slot has set up.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <vector>

#include "os/fd.h"
#include "wire/channel.h"

namespace holdfast::run {

struct Zygote {
  static constexpr int kSlotsOwn = -1;

  int number = 0;  ///< Names it in callbacks that may come after its end.
  int scope = kSlotsOwn;
  bool owner = false;        ///< It has set its scope up, and will tear it down.
  Zygote* parent = nullptr;  ///< It was forked from; null for the slot's own, and for a replica, whose parent another slot has.
  pid_t pid = 0;             ///< 0 until it has said hello.
  os::Fd pidfd;
  std::unique_ptr<wire::Channel> channel;
  std::uint64_t resident = 0;  ///< Bytes; what a fork of it starts with.
  /// Who waits for the number of a fork; it answers in the order of the requests.
  std::deque<std::function<void(pid_t)>> asked;
  /// What fixtures of its scope have started: it is no test's.
  std::vector<pid_t> residents;
};

}  // namespace holdfast::run
