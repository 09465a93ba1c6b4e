// The part of Slot that keeps a process from one test to the next: its worker.
#include <signal.h>
#include <unistd.h>

#include <algorithm>

#include "os/procfs.h"
#include "run/leavings.h"
#include "run/slot.h"

namespace holdfast::run {

void Slot::answer(const std::vector<Order>& next, bool go) {
  if (current_ == nullptr) return;
  auto named = [](const Order& order) {
    wire::Json frame = {{"test", order.test}, {"id", order.id}};
    if (!order.look) frame["look"] = false;
    if (!order.gpus.is_null()) frame["gpus"] = order.gpus;
    return frame;
  };
  wire::Json frame = {{"t", "next"}};
  if (!next.empty()) {
    frame.update(named(next.front()));
    frame["go"] = go;
  }
  for (std::size_t i = 1; i < next.size(); ++i) frame["then"].push_back(named(next[i]));
  if (go) announced_.assign(next.begin(), next.end());
  current_->channel->send(frame);
}

// The test has ended and its process lives on. One that had to be interrupted is not trusted with another test.
void Slot::on_done_in_worker() {
  if (ladder_ != Ladder::None) {
    climb(Ladder::Killed);
    return;
  }
  loop_.cancel(timer_);
  attempt_.evidence.lives_on = true;
  poisoned_ = attempt_.done.value("poisoned", false);
  // Tests that were to run in one program do not: others may be free to run them.
  if (attempt_.done.value("apart", false)) {
    poisoned_ = true;
    if (host_.on_apart) host_.on_apart(attempt_.test);
  }
  if (!is_good(attempt_.evidence.pytest_verdict)) attempt_.before = current_->ran;
  current_->ran.push_back(attempt_.test);
  current_->began.push_back(begun_);
  // A daemon that it has started is the zygote's child now. One that belongs to a shared fixture stays.
  std::vector<pid_t> orphans = new_orphans();
  if (attempt_.done.value("shared", false)) orphans.clear();
  Attempt ended = take_attempt();
  if (orphans.empty()) {
    go_on_in_worker(std::move(ended));
    return;
  }
  // They may be just about to end: its verdict waits for that, the worker does not.
  held_.push_back({std::move(ended), std::move(orphans)});
  held_timers_.push_back(loop_.call_after(os::seconds(kSurvivorGrace), [this] {
    held_timers_.pop_front();
    release();
  }));
  go_on_in_worker(std::nullopt);
}

void Slot::go_on_in_worker(std::optional<Attempt> ended) {
  if (poisoned_) {
    // What it says of itself: nothing more can run in it. The tests that it was told of go to others.
    poisoned_ = false;
    std::deque<Order> promised = std::exchange(announced_, {});
    worker_ = std::move(current_);
    retiring_ = true;  // Before anybody hears of it: nothing is to be begun here.
    if (ended) host_.on_finished(std::move(*ended));
    for (; !promised.empty(); promised.pop_back()) host_.on_abandoned(promised.back().test, id_);
    if (!shut_ && worker_ != nullptr) retire_worker();
    return;
  }
  if (!announced_.empty()) {
    Order next = std::move(announced_.front());
    announced_.pop_front();
    start_attempt(next);
    check_deadline();
    host_.on_went_on(next.test, id_);
    if (ended) host_.on_finished(std::move(*ended));
    return;
  }
  worker_ = std::move(current_);
  if (ended) host_.on_finished(std::move(*ended));
  if (!shut_ && current_ == nullptr && zygote_pid() > 0) host_.on_idle(id_);
}

/// Orphans that the test of the worker which has just ended has started. A process's age is known in hundredths of a second
/// only, so one that was there at the end of an earlier test is that one's.
std::vector<pid_t> Slot::new_orphans() {
  std::vector<pid_t> now = survivors();
  std::vector<pid_t> before = std::exchange(orphans_, now);
  auto is_old = [&](pid_t pid) {
    return std::find(before.begin(), before.end(), pid) != before.end() || !began_with_test(pid);
  };
  now.erase(std::remove_if(now.begin(), now.end(), is_old), now.end());
  return now;
}

void Slot::release() {
  auto [attempt, orphans] = std::move(held_.front());
  held_.pop_front();
  for (pid_t pid : orphans) {
    if (!os::is_running(pid)) continue;
    attempt.evidence.survivors.push_back(describe_survivor(pid));
    os::kill_descendants(pid, [](pid_t) { return false; });
    ::kill(pid, SIGKILL);
  }
  host_.on_finished(std::move(attempt));
}

void Slot::release_all() {
  for (os::TimerId timer : std::exchange(held_timers_, {})) loop_.cancel(timer);
  while (!held_.empty()) release();
}

void Slot::retire_worker() {
  retiring_ = true;
  worker_expired_ = 0;
  release_all();
  from_ = worker_->from;
  files_.clear();
  worker_->channel->send({{"t", "end"}});
  double limit = limits_.exit > 0 ? limits_.exit : 3600;
  after(limit, [this, limit] {
    if (worker_ == nullptr) return;
    worker_expired_ = limit;
    os::send_signal(worker_->pidfd, kStackSignal);
    after(0.5, [this] {
      if (worker_ != nullptr) os::send_signal(worker_->pidfd, SIGKILL);
    });
  });
}

void Slot::discard_worker() {
  if (worker_ == nullptr || discarding_) return;
  discarding_ = true;
  release_all();
  os::send_signal(worker_->pidfd, SIGKILL);
}

void Slot::tell_discarded() {
  WorkerEnd gone;
  gone.slot = id_;
  gone.discarded = true;
  host_.on_worker_ended(gone);
}

// Between two tests, or when it was told to end.
void Slot::on_worker_gone(int status) {
  if (std::exchange(discarding_, false)) {
    worker_.reset();
    bool was_retiring = std::exchange(retiring_, false);
    if (was_retiring) loop_.cancel(timer_);
    if (current_ == nullptr) kill_below();
    tell_discarded();
    if (!shut_ && current_ == nullptr && zygote_pid() > 0) host_.on_idle(id_);
    return;
  }
  WorkerEnd end;
  end.slot = id_;
  end.ran = std::move(worker_->ran);
  end.began = std::move(worker_->began);
  end.evidence.exit = exit_of_wait_status(status);
  end.evidence.slate = files_.slate();
  if (retiring_ && worker_expired_ > 0) {
    end.evidence.timed_out = Phase::Exit;
    end.evidence.limit = worker_expired_;
  }
  end.stacks = os::read_tail(files_.stacks.get(), kStacksTail);
  end.out = os::read_tail(files_.out.get(), kOutputTail);
  end.err = os::read_tail(files_.err.get(), kOutputTail);
  worker_.reset();
  ended_worker_ = std::move(end);
  if (retiring_) {
    settle_worker(loop_.clock().now() + os::seconds(kSurvivorGrace));
  } else {
    // By itself, between two tests: what it had started goes with it, unless a test runs whose processes those may be.
    if (current_ == nullptr) kill_below();
    host_.on_worker_ended(*std::exchange(ended_worker_, std::nullopt));
  }
}

void Slot::settle_worker(os::Time give_up) {
  std::vector<pid_t> left = survivors();
  if (!left.empty() && loop_.clock().now() < give_up) {
    after(0.01, [this, give_up] { settle_worker(give_up); });
    return;
  }
  for (pid_t pid : left) ended_worker_->evidence.survivors.push_back({pid, os::command_line(pid), os::start_time(pid)});
  if (!left.empty()) kill_below();
  loop_.cancel(timer_);
  retiring_ = false;
  host_.on_worker_ended(*std::exchange(ended_worker_, std::nullopt));
  if (!shut_ && zygote_pid() > 0) host_.on_idle(id_);
}

}  // namespace holdfast::run
