// The part of Dispatcher that ends a run: well, when it is stopped, or because the controller has gone.
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>

#include "os/procfs.h"
#include "run/dispatcher.h"

namespace holdfast::run {

void Dispatcher::check_end() {
  if (!running_ || told_end_) return;
  broker_.tidy();
  if (!waits_for_round_.empty() && (stopping_ || queue_.empty())) {
    // Not from inside of a verdict.
    loop_.call_after({}, [this] { begin_round(); });
    return;
  }
  if (is_unfinished() || !all_closed()) return;
  if (!outbox_.deliver()) return;  // A failure to keep them comes back here.
  told_end_ = true;
  if (devices_ != nullptr && devices_->size() > 0) tell({{"t", "gpus"}, {"devices", devices_->report()}});
  if (!farm_gpus_.empty()) tell({{"t", "gpus"}, {"devices", std::exchange(farm_gpus_, wire::Json::array())}});
  auto missing = std::count_if(tests_.begin(), tests_.end(), [](const Test& t) { return !t.settled; });
  if (log_) {
    // Not through keep(): a log that cannot be written has been reported by then.
    [[maybe_unused]] Status logged = log_->record({{"event", "run_finished"}, {"without_verdict", missing}});
  }
  tell({{"t", "end"}, {"without_verdict", missing}});
}

bool Dispatcher::any_busy() const {
  return std::any_of(slots_.begin(), slots_.end(), [](const auto& s) { return s->busy(); });
}

bool Dispatcher::is_unfinished() const {
  bool busy = std::any_of(slots_.begin(), slots_.end(), [](const auto& s) { return s->unfinished(); });
  // Somebody has to end these, who can: not what was shut down.
  bool open = std::any_of(slots_.begin(), slots_.end(), [](const auto& s) { return !s->shut(); });
  bool kept = std::any_of(slots_.begin(), slots_.end(), [](const auto& s) { return !s->shut() && s->has_worker(); });
  if (busy || kept || parked_ > 0 || !gangs_.empty() || (open && (tree_.any_live() || !held_.empty() || any_node_open())))
    return true;
  if (farm_ != nullptr) return !farm_->idle();
  return !stopping_ && (more_ || !queue_.empty() || !waits_for_round_.empty() || !reserved_.empty() || !staged_.empty());
}

void Dispatcher::stop(double grace) {
  stopping_ = true;
  stop_grace_ = grace;
  running_ = true;  // A stop before `run` ends the same way: with `end`.
  for (const auto& slot : slots_) {
    if (grace <= 0) {
      slot->shut_down();
    } else if (slot->busy()) {
      slot->stop(grace);
    }
  }
  // Never from inside a slot's callback: it may be about to say how its test ended.
  loop_.call_after({}, [this, grace] {
    if (farm_ != nullptr) farm_->stop(grace);
    while (!reserved_.empty()) drop_reserved(reserved_.begin()->first);
    put_staged_back();
    drop_unstarted_gangs();
    conclude_held();
    wake_idle();  // Their workers end.
    check_end();
  });
}

void Dispatcher::finish(int exit_status) {
  if (ending_) return;
  ending_ = true;
  for (const auto& slot : slots_) slot->shut_down();
  // A session may end before its run has (two Ctrl-C at once): what tests have shared is torn down all the same.
  after_close_ = [this] { end_when_over(); };
  broker_.close(limits_.grace);
  conclude_held();
  if (farm_ != nullptr) farm_->finish(exit_status, [this] { on_farm_over(); });
  // A second more than what one teardown may take: its hooks are the user's code too.
  root_->finish(exit_status, limits_.grace + 5);
  remember();  // While the zygote ends.
}

void Dispatcher::remember() {
  if (!history_) return;
  std::string notice;
  history_->add(journal::PastRun{began_, loop_.clock().wall() - began_, options_.slots}, results_, notice);
  if (!notice.empty()) note(notice);
  results_.clear();
}

void Dispatcher::abort_run() {
  if (ledger_) {
    [[maybe_unused]] Status noted = ledger_->add_event("aborted", "the controller went away", loop_.clock().wall());
    [[maybe_unused]] Status kept = ledger_->commit();
  }
  ending_ = true;
  for (const auto& slot : slots_) slot->shut_down();
  root_->kill();
  os::kill_descendants(::getpid(), [this](pid_t pid) { return broker_.owns(pid) || (farm_ != nullptr && farm_->owns(pid)); });
  // Only resources and a job are left: what a cloud, a server or a cluster has been asked for must be given back.
  root_over_ = true;
  after_close_ = [this] { end_when_over(); };
  broker_.close(limits_.grace);
  if (farm_ != nullptr) farm_->shut_down([this] { on_farm_over(); });
  end_when_over();
}

void Dispatcher::end() {
  farm_.reset();
  devices_.reset();
  managers_.clear();
  os::kill_descendants(::getpid(), [](pid_t) { return false; });
  forget_worlds();
  // A killed process needs a moment to be gone; its control group can be removed only then.
  for (int i = 0; i < 400; ++i) {
    while (::waitpid(-1, nullptr, WNOHANG) > 0) {
    }
    if (os::children_of(::getpid()).empty()) break;
    ::poll(nullptr, 0, 5);
  }
  slots_.clear();
  broker_.forget();
  if (ledger_) [[maybe_unused]]
    Status noted = ledger_->add_event("ended", "", loop_.clock().wall());
  ledger_.reset();
  tell({{"t", "bye"}});
  control_->flush(1000);
  loop_.stop();
}

void Dispatcher::kill_strays() {
  for (pid_t child : os::children_of(::getpid())) {
    bool ours = root_->owns(child) || broker_.owns(child) || (devices_ != nullptr && devices_->owns(child)) ||
                std::any_of(managers_.begin(), managers_.end(),
                            [child](const auto& entry) { return entry.second != nullptr && entry.second->owns(child); }) ||
                std::any_of(slots_.begin(), slots_.end(),
                            [child](const auto& s) { return s->zygote_pid() == child || s->looks_with(child); });
    if (ours) continue;
    for (pid_t below : os::descendants_of(child)) ::kill(below, SIGKILL);
    ::kill(child, SIGKILL);
  }
}

void Dispatcher::reap_children() {
  int status = 0;
  pid_t pid = 0;
  while ((pid = ::waitpid(-1, &status, WNOHANG)) > 0) root_->on_child_exit(pid, status);
}

}  // namespace holdfast::run
