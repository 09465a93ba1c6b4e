// The part of Slot that keeps to deadlines: what is found out about a test that hangs, and how it is ended.
#include <signal.h>
#include <unistd.h>

#include <algorithm>

#include "os/procfs.h"
#include "run/slot.h"

namespace holdfast::run {

namespace {

// Seconds that a rank gets to come back from SIGINT when another one has failed. Most are inside of MPI, and never do.
constexpr double kGangGrace = 0.3;

}  // namespace

void Slot::after(double delay_seconds, os::Loop::Callback callback) {
  loop_.cancel(timer_);
  timer_ = loop_.call_after(os::seconds(delay_seconds), std::move(callback));
}

Slate Slot::slate() const {
  Slate copy = files_.slate();
  // The page is the test's to write: a time from the future would put a deadline off for ever.
  double now = monotonic();
  if (!(copy.phase_start >= begun_ && copy.phase_start <= now)) copy.phase_start = begun_;
  return copy;
}

void Slot::check_deadline() {
  if (kept_) return;
  Slate page = slate();
  double limit = test_limit_ > 0 ? test_limit_ : limits_.test;
  Due due = due_of(limits_, limit, phase_of(page), begun_, page.phase_start);
  double now = monotonic();
  if (due.at > 0 && now >= due.at) {
    expire(phase_of(page), due.limit);
    return;
  }
  double wait = due.at > 0 ? due.at - now : 0;
  double shortest = shortest_phase(limits_);
  if (shortest > 0 && (wait == 0 || shortest < wait)) wait = shortest;
  if (wait > 0) after(wait, [this] { check_deadline(); });
}

void Slot::expire(Phase phase, double limit) {
  attempt_.evidence.timed_out = phase;
  attempt_.evidence.limit = limit;
  attempt_.evidence.was_stopped = os::process_state(test_pid()) == 'T';
  climb(Ladder::Stacks);
}

void Slot::climb(Ladder step) {
  ladder_ = step;
  switch (step) {
    case Ladder::None:
      break;
    case Ladder::Stacks:
      signal_test(kStackSignal);
      // A stopped process writes its stacks only when it goes on.
      if (attempt_.evidence.was_stopped) signal_test(SIGCONT);
      poll_stacks(0, loop_.clock().now() + os::seconds(0.5));
      break;
    case Ladder::Examined:
      // Not while the run ends: nobody waits for an explanation any more.
      stopping_ ? climb(Ladder::Interrupted) : examine();
      break;
    case Ladder::Kept:
      stop_tree(SIGSTOP);
      keep(fmt::format("hangs in {}", name_of(attempt_.evidence.timed_out.value_or(Phase::Idle))));
      break;
    case Ladder::Interrupted:
      signal_test(SIGINT);
      after(attempt_.evidence.ended_with_gang ? std::min(kGangGrace, limits_.grace) : limits_.grace,
            [this] { climb(Ladder::Terminated); });
      break;
    case Ladder::Terminated:
      signal_test(SIGTERM);
      after(std::min(1.0, limits_.grace), [this] { climb(Ladder::Killed); });
      break;
    case Ladder::Killed:
      kill_tree();
      break;
  }
}

void Slot::poll_stacks(std::size_t last_size, os::Time give_up) {
  std::size_t size = os::file_size(files_.stacks.get());
  // Nothing says that faulthandler has finished, except that the file no longer grows.
  if ((size > 0 && size == last_size) || loop_.clock().now() >= give_up) {
    climb(Ladder::Examined);
    return;
  }
  after(0.01, [this, size, give_up] { poll_stacks(size, give_up); });
}

void Slot::examine() {
  loop_.cancel(timer_);
  // From here on other processes write theirs, when they are asked.
  own_stacks_ = os::file_size(files_.stacks.get());
  const Examiner nobody;
  const Examiner& examiner = host_.examiner ? host_.examiner() : nobody;
  postmortem_.start(examiner, processes(), files_.stacks.get(), [this](wire::Json found) {
    attempt_.processes = std::move(found);
    if (ladder_ == Ladder::Examined) climb(host_.on_kept && !stopping_ ? Ladder::Kept : Ladder::Interrupted);
  });
}

/// Of the test, its children and daemons.
void Slot::stop_tree(int signal) {
  for (pid_t pid : processes()) {
    if (pid > 1) ::kill(pid, signal);  // 0 would be our own group.
  }
}

void Slot::keep(const std::string& what) {
  kept_ = true;
  loop_.cancel(timer_);
  host_.on_kept(id_, attempt_.test, test_pid(), what);
}

void Slot::go_on() {
  if (!kept_ || current_ == nullptr) return;
  kept_ = false;
  stop_tree(SIGCONT);
  if (ladder_ == Ladder::Kept) {
    climb(Ladder::Interrupted);
  } else {
    // A crash goes its way. Its deadline has passed, perhaps, but that is not what it has died of.
    after(10, [this] { climb(Ladder::Killed); });
  }
}

// The process has stopped itself in its signal handler (shim/crashnote.c), which its parent does not tell.
void Slot::look_for_crash() {
  loop_.cancel(crash_timer_);
  if (!host_.on_kept) return;
  crash_timer_ = loop_.call_after(os::seconds(0.1), [this] {
    if (current_ == nullptr || current_->pid == 0 || exited_ || kept_ || ladder_ != Ladder::None) return;
    pid_t pid = test_pid();
    Slate page = slate();
    if (page.crash_set == 1 && os::process_state(pid) == 'T') {
      keep("has crashed: " + signal_name(page.signal));
    } else {
      look_for_crash();
    }
  });
}

/// Of the test: its own first, then all below it, and daemons that it has started.
std::vector<pid_t> Slot::processes() const {
  pid_t own = test_pid();
  std::vector<pid_t> found{own};
  for (pid_t pid : os::descendants_of(own)) found.push_back(pid);
  for (pid_t orphan : survivors()) {
    if (!began_with_test(orphan)) continue;
    found.push_back(orphan);
    for (pid_t pid : os::descendants_of(orphan)) found.push_back(pid);
  }
  return found;
}

void Slot::kill_tree() {
  // With a group the zygote goes too, and comes back in milliseconds; without, everything below it but the next test. What was
  // set up in a scope would not come back.
  group_killed_ = scopes_.empty() && cgroup_.kill_all();
  if (!group_killed_) {
    // What it has started first: once it is dead they are orphans, and look like something that it left behind.
    if (current_->pid > 0) os::kill_descendants(current_->pid, [](pid_t) { return false; });
    os::send_signal(current_->pidfd, SIGKILL);
    kill_below();
  }
  // If even that is not followed by an exit (a process in uninterruptible sleep), the slot goes on without it.
  after(10, [this] {
    if (from_ != nullptr) on_gone(*from_);
  });
}

void Slot::end_with_gang() {
  if (current_ == nullptr || exited_ || ladder_ != Ladder::None || kept_) return;
  attempt_.evidence.ended_with_gang = true;
  attempt_.evidence.was_stopped = os::process_state(test_pid()) == 'T';
  // Over already, and waiting for the others on its way out: nothing of it is worth a look.
  climb(attempt_.evidence.done ? Ladder::Killed : Ladder::Stacks);
}

void Slot::stop(double grace) {
  if (current_ == nullptr || exited_) return;
  stopping_ = true;
  if (ladder_ == Ladder::Examined) {
    postmortem_.cancel();
    climb(Ladder::Interrupted);
  }
  if (kept_) {
    if (host_.on_released) host_.on_released(id_);
    go_on();
  }
  if (ladder_ != Ladder::None) return;  // At a deadline already: that ends sooner.
  ladder_ = Ladder::Interrupted;
  // A scope's teardown is what the grace is for.
  if (!attempt_.tearing_down) signal_test(SIGINT);
  after(grace, [this] { climb(Ladder::Killed); });
}

void Slot::shut_down() {
  shut_ = true;
  loop_.cancel(timer_);
  release_all();
  if (zygote_pid() > 0 && !cgroup_.kill_all()) {
    os::kill_descendants(zygote_pid(), [](pid_t) { return false; });
  }
  if (own_ != nullptr) os::send_signal(own_->pidfd, SIGKILL);
  if (current_ != nullptr) {
    os::send_signal(current_->pidfd, SIGKILL);
    stopping_ = true;
    finish();
  }
  drop_everything();
}

}  // namespace holdfast::run
