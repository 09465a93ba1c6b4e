// The part of Dispatcher that runs tests again and again, to find those that fail now and then (--hf-stress,
// --hf-repeat-until). A test that has passed waits until all others have begun, so that none is left behind and no slot waits.
// Its verdict is its first that is no pass, or its last.
#include <algorithm>

#include "run/dispatcher.h"

namespace holdfast::run {

namespace {

constexpr const char* kAgain = "again";  // Why an attempt was not the last one.

}  // namespace

/// True if the verdict was taken: that of a test which is to run again.
bool Dispatcher::keep_for_another_round(Verdict& verdict) {
  const std::string& said = verdict.record.verdict;
  Test& state = tests_[verdict.test];
  if (!runs_again()) return false;
  if (!is_good(said)) {
    if (state.passes > 0) verdict.detail["passes"] = state.passes;
    return false;
  }
  ++state.passes;
  if (said == "skipped" || !may_run_again(state)) {
    tell_of_first_notes(verdict);
    return false;
  }
  waits_for_round_.push_back(std::move(verdict));
  loop_.call_after({}, [this] { begin_round(); });
  return true;
}

bool Dispatcher::may_run_again(const Test& test) const {
  if (stopping_ || (again_.times > 0 && test.passes >= again_.times)) return false;
  return again_.seconds <= 0 || loop_.clock().now() < again_.end;
}

/// All that waits for it begins again, or has its verdict, where its time is over by now or the run is stopped.
void Dispatcher::begin_round() {
  if (waits_for_round_.empty() || !(stopping_ || queue_.empty())) return;
  std::vector<Verdict> waiting = std::exchange(waits_for_round_, {});
  // What is put back last goes first: the ones that have run least.
  std::sort(waiting.begin(), waiting.end(), [this](const Verdict& one, const Verdict& other) {
    int passes = tests_[one.test].passes;
    int others = tests_[other.test].passes;
    return passes != others ? passes > others : one.test > other.test;
  });
  for (Verdict& verdict : waiting) {
    std::size_t test = verdict.test;
    Test& state = tests_[test];
    if (!may_run_again(state)) {
      tell_of_first_notes(verdict);
      settle_around(test);
      if (!hold(verdict)) conclude(std::move(verdict));
      continue;
    }
    journal::Record record = verdict.record;
    record.reports = "[]";
    record.detail = "{}";
    if (!keep(ledger_->end_attempt(record, kAgain, loop_.clock().wall()))) return;
    if (!verdict.notes.empty()) first_notes_.try_emplace(test, std::move(verdict));
    queue_.put_back(test, false, false);
  }
  outbox_.deliver_soon();
  wake_idle();
  check_end();
}

/// What one of its runs had to say (that it has left something, say) is not to be lost since a later one had not.
void Dispatcher::tell_of_first_notes(Verdict& verdict) {
  auto first = first_notes_.find(verdict.test);
  if (first == first_notes_.end()) return;
  if (verdict.notes.empty()) {
    verdict.notes = std::move(first->second.notes);
    verdict.detail = std::move(first->second.detail);
  }
  first_notes_.erase(first);
}

}  // namespace holdfast::run
