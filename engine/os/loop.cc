#include "os/loop.h"

#include <sys/epoll.h>
#include <sys/timerfd.h>

#include <array>

namespace holdfast::os {

namespace {

constexpr std::uint64_t pack(int fd, std::uint32_t generation) {
  return (static_cast<std::uint64_t>(generation) << 32U) | static_cast<std::uint32_t>(fd);
}

}  // namespace

Result<Loop> Loop::open(const Clock& clock) {
  Fd epoll(::epoll_create1(EPOLL_CLOEXEC));
  if (!epoll.valid()) return fail_errno(ErrorKind::UserMistake, "open an epoll descriptor");
  Fd timer(::timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK));
  if (!timer.valid()) return fail_errno(ErrorKind::UserMistake, "open a timer descriptor");
  Loop loop(clock, std::move(epoll), std::move(timer));
  HOLDFAST_TRY(loop.watch(loop.timer_.get(), EPOLLIN, [fd = loop.timer_.get()](std::uint32_t) {
    std::uint64_t expirations = 0;
    // The due timers run after every batch; here only the descriptor is made quiet again.
    [[maybe_unused]] auto n = ::read(fd, &expirations, sizeof expirations);
  }));
  return loop;
}

Status Loop::watch(int fd, std::uint32_t events, FdCallback callback) {
  std::uint32_t generation = next_generation_++;
  epoll_event event{};
  event.events = events;
  event.data.u64 = pack(fd, generation);
  if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) != 0) {
    return fail_errno(ErrorKind::StopRun, "watch a descriptor");
  }
  watches_[fd] = Watch{generation, std::move(callback)};
  return {};
}

void Loop::change(int fd, std::uint32_t events) {
  auto it = watches_.find(fd);
  if (it == watches_.end()) return;
  epoll_event event{};
  event.events = events;
  event.data.u64 = pack(fd, it->second.generation);
  ::epoll_ctl(epoll_.get(), EPOLL_CTL_MOD, fd, &event);
}

void Loop::unwatch(int fd) {
  if (watches_.erase(fd) != 0) ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, fd, nullptr);
}

TimerId Loop::call_at(Time when, Callback callback) {
  TimerId id = next_timer_++;
  timers_.emplace(std::pair{when, id}, std::move(callback));
  due_.emplace(id, when);
  return id;
}

void Loop::cancel(TimerId id) {
  auto it = due_.find(id);
  if (it == due_.end()) return;
  timers_.erase({it->second, id});
  due_.erase(it);
}

void Loop::run_due_timers() {
  Time now = clock_->now();
  while (!timers_.empty() && timers_.begin()->first.first <= now && !stopped_) {
    auto node = timers_.extract(timers_.begin());
    due_.erase(node.key().second);
    node.mapped()();
  }
}

void Loop::arm_timer() {
  itimerspec spec{};
  if (!timers_.empty()) {
    auto since_epoch = timers_.begin()->first.first.time_since_epoch();
    auto whole = std::chrono::duration_cast<std::chrono::seconds>(since_epoch);
    spec.it_value.tv_sec = whole.count();
    spec.it_value.tv_nsec = std::chrono::duration_cast<std::chrono::nanoseconds>(since_epoch - whole).count();
    // A zero value would disarm the timer instead of firing at once.
    if (spec.it_value.tv_sec == 0 && spec.it_value.tv_nsec == 0) spec.it_value.tv_nsec = 1;
  }
  ::timerfd_settime(timer_.get(), TFD_TIMER_ABSTIME, &spec, nullptr);
}

Status Loop::run() {
  std::array<epoll_event, 64> events{};
  stopped_ = false;
  while (!stopped_) {
    arm_timer();
    int n = ::epoll_wait(epoll_.get(), events.data(), static_cast<int>(events.size()), -1);
    if (n < 0 && errno != EINTR) return fail_errno(ErrorKind::StopRun, "wait for events");
    for (int i = 0; i < n && !stopped_; ++i) {
      std::uint64_t data = events.at(static_cast<std::size_t>(i)).data.u64;
      auto it = watches_.find(static_cast<int>(data & 0xffffffffU));
      if (it == watches_.end() || it->second.generation != static_cast<std::uint32_t>(data >> 32U)) continue;
      FdCallback callback = it->second.callback;  // A copy: the callback may unwatch itself.
      callback(events.at(static_cast<std::size_t>(i)).events);
    }
    run_due_timers();
  }
  return {};
}

}  // namespace holdfast::os
