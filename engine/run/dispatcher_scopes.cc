// The part of Dispatcher that brings a slot to where a test can run, and tears scopes down when nobody needs them any more.
//
// A test's scopes are set up from the top, each by the slot that needs it first, as part of the attempt of the test that waits
// for it. Other slots that need it wait, and then get a replica. The verdict of a scope's last test waits for the scope's
// teardown.
#include <algorithm>

#include "run/dispatcher.h"

namespace holdfast::run {

namespace {

// Numbers of the processes of scopes that cannot be forked, for the scheduler; others count up from 1.
constexpr std::uint32_t kWorkerOfScope = 0x80000000U;

}  // namespace

void Dispatcher::read_scopes(const wire::Json& frame) {
  for (const wire::Json& scope : frame.value("scopes", wire::Json::array())) {
    if (!tree_.add(scope.value("id", ""), scope.value("level", ""), scope.value("parent", Tree::kNone))) return;
    scope_needs_.push_back(scope.value("needs", Broker::Needs{}));
  }
}

void Dispatcher::log_scope(const char* what, int scope, int slot, std::optional<double> seconds) {
  nlohmann::ordered_json fields = {{"what", what}, {"id", tree_.at(scope).id}, {"slot", slot}};
  if (seconds) fields["duration"] = *seconds;
  log_event("scope", fields);
}

// ---- to where the test can run ---------------------------------------------------------------------------------------------

/// The next step on the way to the test of `order`; the last one begins it.
void Dispatcher::stage(int slot, Order order) {
  Slot* here = find(slot);
  if (here == nullptr) return;
  int scope = tests_[order.test].scope;
  std::vector<int> path = tree_.path(scope);
  for (int copy : here->replicas()) {
    if (std::find(path.begin(), path.end(), copy) == path.end()) here->drop(copy);
  }
  Tree::Step step = tree_.next(scope, [here](int other) { return here->has(other); });
  staged_.erase(slot);
  const Broker::Needs& needs = needs_of(order.test);
  if (holds_back() || (!needs.empty() && !broker_.prepare(needs))) {
    staged_[slot] = std::move(order);
    return;
  }
  if (!needs.empty()) order.resources = broker_.values(needs);
  switch (step.kind) {
    case Tree::Step::Kind::Run: {
      order.scope = step.scope;
      // The next process waits ready, also beside a worker: for a second judgement, or to take its place.
      bool more = queue_.waiting() > 0 && (step.scope == Tree::kNone || tree_.at(step.scope).left > 1);
      if (!needs.empty()) in_use_[order.test] = broker_.use(needs);
      if (tests_[order.test].ranks > 0) {
        begin_gang(std::move(order));
      } else {
        here->begin(order, more);
      }
      break;
    }
    case Tree::Step::Kind::SetUp:
      set_up(*here, step.scope, order);
      break;
    case Tree::Step::Kind::Replicate:
      staged_[slot] = order;
      here->replicate(step.scope, *find(tree_.at(step.scope).slot));
      break;
    case Tree::Step::Kind::Wait:
      staged_[slot] = order;
      break;
  }
}

void Dispatcher::set_up(Slot& slot, int scope, const Order& order) {
  if (slot.has_worker()) {
    // It may have to become the slot's worker itself.
    reserved_[slot.id()] = order;
    slot.retire_worker();
    return;
  }
  staged_[slot.id()] = order;
  tree_.begin_setup(scope, slot.id());
  built_on_[scope] = broker_.generations(scope_needs_[static_cast<std::size_t>(scope)]);
  log_scope("setup", scope, slot.id());
  Order first = order;
  first.reuse = false;
  slot.set_up(scope, tree_.at(scope).parent, first);
}

void Dispatcher::on_scope_ready(int slot, int scope, const wire::Json& ready) {
  Order order = staged_.at(slot);
  double seconds = ready.value("duration", 0.0);
  const std::string reason = ready.value("reason", "");
  tree_.ready(scope, seconds);
  tests_[order.test].setup += seconds;
  log_scope("ready", scope, slot, seconds);
  const Broker::Needs& needs = scope_needs_[static_cast<std::size_t>(scope)];
  if (reason.empty() && !broker_.lost_since(needs, built_on_[scope]).empty()) {
    find(slot)->discard(scope);  // A resource that it was built on is no more; its end makes us begin anew.
    return;
  }
  if (!reason.empty()) {
    to_worker(slot, scope, ready.value("fixture", ""), reason);
    order.reuse = queue_.may_reuse(order.test);
  }
  stage(slot, std::move(order));
  resume_staged();
}

/// Slots that wait for a scope look again.
void Dispatcher::resume_staged() {
  if (holds_back()) return;
  std::vector<int> waiting;
  for (const auto& [slot, order] : staged_) {
    Slot* here = find(slot);
    Tree::Step step = tree_.next(tests_[order.test].scope, [here](int other) { return here->has(other); });
    bool can = step.kind != Tree::Step::Kind::Wait && broker_.prepare(needs_of(order.test));
    if (can && here->idle() && !here->is_copying()) waiting.push_back(slot);
  }
  for (int slot : waiting) {
    if (auto staged = staged_.find(slot); staged != staged_.end()) stage(slot, Order(staged->second));
  }
}

// Its process cannot be forked, and has become the slot's worker: the tests of the scope run there, one after the other.
void Dispatcher::to_worker(int slot, int scope, const std::string& fixture, const std::string& reason) {
  tree_.to_worker(scope);
  std::vector<std::size_t> bound;
  for (std::size_t i = 0; i < tests_.size(); ++i) {
    if (!tests_[i].settled && !tests_[i].own && tree_.is_within(tests_[i].scope, scope)) bound.push_back(i);
  }
  std::size_t count = queue_.bind(bound, kWorkerOfScope + static_cast<std::uint32_t>(scope), slot, staged_.at(slot).test);
  keep_lease(staged_.at(slot).test, slot);
  note(fmt::format(
      "{}: its {} tests run one after the other in one process, since what {} has set up does not survive a fork: {}",
      tree_.at(scope).id, count, fixture, reason));
  // What other slots had in hand for it belongs to this one now.
  std::vector<int> others;
  for (const auto& [other, order] : staged_) {
    if (other != slot && tree_.is_within(tests_[order.test].scope, scope)) others.push_back(other);
  }
  for (int other : others) on_abandoned(staged_.at(other).test, other);
}

void Dispatcher::on_replica(int slot, int scope, bool good) {
  auto staged = staged_.find(slot);
  if (staged == staged_.end()) return;
  Order order = staged->second;
  if (good || tree_.at(scope).state != Tree::State::Ready) {
    stage(slot, std::move(order));
    return;
  }
  // The process of the scope does not answer, or its fork dies. Others may be running below it, so only this test does without.
  note(fmt::format("{}: no copy of its process was to be had for {}, which sets up for itself", tree_.at(scope).id, order.id));
  staged_.erase(staged);
  find(slot)->begin(order, false);
}

void Dispatcher::on_scope_lost(int slot, int scope, bool owner) {
  if (!owner) return;
  bool needed = tree_.at(scope).left > 0;
  tree_.lost(scope);
  if (stopping_) return;
  log_scope("lost", scope, slot);
  note(fmt::format("{}: the process in which it was set up has ended, so its teardown will not run{}", tree_.at(scope).id,
                   needed ? "; it is set up again for the tests that are left" : ""));
  loop_.call_after({}, [this, scope] {
    resume_staged();
    // What was to be torn down with it has been held back for that.
    auto held = held_.find(scope);
    if (held == held_.end()) return;
    Verdict verdict = std::move(held->second);
    held_.erase(held);
    if (!hold(verdict)) conclude(std::move(verdict));
    wake_idle();
    check_end();
  });
}

/// The attempt that was to set a scope up has ended without that. `again`: its test will be tried again.
void Dispatcher::on_setup_failed(const Attempt& attempt, bool again) {
  int scope = attempt.scope;
  staged_.erase(attempt.slot);
  tree_.lost(scope);
  log_scope("lost", scope, attempt.slot);
  std::vector<std::pair<int, std::size_t>> waiting;
  for (const auto& [slot, order] : staged_) {
    if (tree_.is_within(tests_[order.test].scope, scope)) waiting.emplace_back(slot, order.test);
  }
  if (again) {
    for (auto [slot, test] : waiting) on_abandoned(test, slot);
    return;
  }
  tree_.dead(scope);
  const std::string& culprit = ids_[attempt.test];
  std::vector<bool> begun(tests_.size());
  for (auto [slot, test] : waiting) {
    begun[test] = true;
    queue_.finished(slot, test);
    drop_lease(test);
    staged_.erase(slot);
  }
  for (std::size_t i = 0; i < tests_.size(); ++i) {
    if (i == attempt.test || tests_[i].settled || !tree_.is_within(tests_[i].scope, scope)) continue;
    journal::Record record;
    record.test = static_cast<std::int64_t>(i);
    record.verdict = "error";
    record.attempts = begun[i] ? tests_[i].attempts : 1;
    wire::Json detail = {{"phase", "setup"},
                         {"problem", fmt::format("{}: its setup ended its process, see {}", tree_.at(scope).id, culprit)}};
    if (!settle_without_run(std::move(record), ids_[i], std::move(detail), begun[i])) return;
  }
  loop_.call_after({}, [this] {
    wake_idle();
    check_end();
  });
}

void Dispatcher::forget_staged(int slot) {
  auto staged = staged_.find(slot);
  if (staged == staged_.end()) return;
  staged_.erase(staged);
  if (auto scope = tree_.set_up_by(slot)) tree_.lost(*scope);
  loop_.call_after({}, [this] { resume_staged(); });
}

/// The run ends: what waits for its scopes does not begin any more.
void Dispatcher::put_staged_back() {
  std::vector<std::pair<int, std::size_t>> waiting;
  for (const auto& [slot, order] : staged_) {
    Slot* here = find(slot);
    if (here == nullptr || !here->busy()) waiting.emplace_back(slot, order.test);
  }
  for (auto [slot, test] : waiting) on_abandoned(test, slot);
}

// ---- the end of scopes -----------------------------------------------------------------------------------------------------

void Dispatcher::settle_around(std::size_t test) {
  broker_.settle(needs_of(test));
  int scope = tests_[test].scope;
  tree_.settle(scope);
  for (int here = scope; tree_.has(here); here = tree_.at(here).parent) last_in_[here] = test;
}

/// True if the verdict was taken, to be told when the scope that ends with its test has been torn down.
bool Dispatcher::hold(Verdict& verdict) {
  auto due = tree_.due_above(tests_[verdict.test].scope);
  if (!due || held_.count(*due) != 0 || stopping_) return false;
  held_.emplace(*due, std::move(verdict));
  return true;
}

/// Where no slot is left that could tear anything down, the verdicts that waited for it stand.
void Dispatcher::conclude_held() {
  if (std::any_of(slots_.begin(), slots_.end(), [](const auto& s) { return !s->shut(); })) return;
  for (auto& [scope, verdict] : std::exchange(held_, {})) conclude(std::move(verdict));
  outbox_.deliver();
}

/// Begins to tear down what nobody needs any more, if the slot has set it up.
bool Dispatcher::tear_down_in(Slot& slot) {
  bool all = stopping_ && !any_busy();
  auto scope = tree_.due_in(slot.id(), all);
  if (!scope) return false;
  for (const auto& other : slots_) {
    if (other->id() != slot.id()) other->drop(*scope);
  }
  tree_.begin_teardown(*scope);
  log_scope("teardown", *scope, slot.id());
  auto last = last_in_.find(*scope);
  std::size_t test = last != last_in_.end() ? last->second : 0;
  Order order{test, ids_[test]};
  order.limit = stopping_ ? stop_grace_ : 0;
  slot.tear_down(*scope, order, !stopping_ && queue_.waiting() > 0);
  return true;
}

void Dispatcher::on_torn_down(Attempt attempt) {
  int scope = attempt.scope;
  double seconds = attempt.done.value("duration", attempt.duration);
  tree_.over(scope, seconds);
  log_scope("over", scope, attempt.slot, seconds);
  const Tree::Scope& entry = tree_.at(scope);
  tell({{"t", "scope"},
        {"id", entry.id},
        {"level", entry.level},
        {"tests", entry.tests},
        {"setup", entry.setup},
        {"teardown", seconds}});
  if (sternness_.leaks == "ignore") {
    attempt.evidence.survivors.clear();
    attempt.evidence.leaks.clear();
  }
  std::vector<std::string> left = left_by(attempt.evidence);
  for (const std::string& text : left) note(fmt::format("{}: its teardown left behind: {}", entry.id, text));
  if (sternness_.leaks == "fail" && !left.empty() && attempt.evidence.problem.empty()) {
    attempt.evidence.problem = fmt::format("its teardown left behind: {}", fmt::join(left, "; "));
  }
  std::optional<Verdict> held;
  if (auto found = held_.find(scope); found != held_.end()) {
    held = std::move(found->second);
    held_.erase(found);
    add_to_phase(held->reports, "teardown", seconds);
  }
  charge(attempt, judge(attempt.evidence), held);
  if (held && !hold(*held)) conclude(std::move(*held));
  loop_.call_after({}, [this] {
    resume_staged();
    wake_idle();
    check_end();
  });
}

/// What went wrong in a scope's teardown: an error of the test that ended last, as in pytest; where it ended the process, or no
/// test waits for it, a verdict of its own.
void Dispatcher::charge(const Attempt& attempt, const std::string& verdict, std::optional<Verdict>& held) {
  if (is_good(verdict)) return;
  bool told = verdict == "error" && attempt.evidence.done && !attempt.reports.empty();
  if (told && held) {
    for (const wire::Json& report : attempt.reports) held->reports.push_back(report);
    if (is_good(held->record.verdict)) held->record.verdict = "error";
    return;
  }
  settle_extra(tree_.at(attempt.scope).id, attempt.evidence, "teardown", attempt.stacks, attempt.out, attempt.err,
               told ? attempt.reports : wire::Json::array());
}

/// A worker that held scopes has ended: nothing is left of them.
void Dispatcher::workers_gone(int slot) {
  Slot* here = find(slot);
  if (here == nullptr) return;
  auto done = tree_.worker_in(slot);
  if (!done) return;
  if (here->has_worker()) {
    // Its last test has torn down what it had set up; it is no place for others.
    if (here->idle()) here->retire_worker();
    return;
  }
  tree_.worker_gone(*done);
  loop_.call_after({}, [this] { wake_idle(); });
}

}  // namespace holdfast::run
