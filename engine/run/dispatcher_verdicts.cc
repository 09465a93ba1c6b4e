// The part of Dispatcher that makes verdicts: of attempts that have ended, of tests that never ran, and what is told and
// written of each.
#include <signal.h>

#include <algorithm>

#include "run/dispatcher.h"

namespace holdfast::run {

namespace {

// A test is slow if it took so many times what it usually takes, and so many seconds more.
constexpr double kSlowTimes = 3;
constexpr double kSlowSeconds = 1;

// The words of a report whose test has been told of already.
std::string text_of(const wire::Json& reports) {
  const wire::Json data = reports.at(0).value("data", wire::Json::object());
  const wire::Json text = data.value("longrepr", wire::Json());
  if (text.is_string()) return text.get<std::string>();
  if (!text.is_object()) return "";
  const wire::Json crash = text.value("reprcrash", wire::Json());
  if (!crash.is_object()) return "";
  return fmt::format("{}:{}: {}", crash.value("path", ""), crash.value("lineno", 0), crash.value("message", ""));
}

}  // namespace

void Dispatcher::settle_fatal_modules() {
  for (const FatalModule& module : fatal_) {
    settle_extra(module.id, module.evidence, "collect", module.stacks, module.out, module.err, wire::Json::array(),
                 module.processes);
  }
  fatal_.clear();
}

// A verdict of something that is not a collected test.
void Dispatcher::settle_extra(const std::string& id, const Evidence& evidence, const std::string& phase,
                              const std::string& stacks, const std::string& out, const std::string& err,
                              const wire::Json& reports, const wire::Json& processes) {
  Result<std::int64_t> index = ledger_->add_extra_test(id);
  if (!index) {
    keep(tl::unexpected<Error>(index.error()));
    return;
  }
  journal::Record record;
  record.test = *index;
  record.verdict = judge(evidence);
  wire::Json detail = describe(evidence, record.verdict);
  detail["phase"] = phase;
  detail["stacks"] = stacks;
  detail["out"] = out;
  detail["err"] = err;
  if (!reports.empty()) detail["problem"] = text_of(reports);
  if (!processes.empty()) detail["processes"] = processes;
  settle_without_run(std::move(record), id, std::move(detail));
}

// A verdict on what was not run as a test is. `begun`: its attempt is in the ledger. False if it cannot be recorded.
bool Dispatcher::settle_without_run(journal::Record record, const std::string& id, wire::Json detail, bool begun) {
  double now = loop_.clock().wall();
  record.detail = detail.dump(-1, ' ', false, wire::Json::error_handler_t::replace);
  if ((!begun && !keep(ledger_->start_attempt(record.test, 1, 0, now))) || !keep(ledger_->finish_attempt(record, now)))
    return false;
  if (auto test = static_cast<std::size_t>(record.test); test < tests_.size()) {
    tests_[test].settled = true;
    queue_.settle(test);
    tree_.settle(tests_[test].scope);
    broker_.settle(needs_of(test));
  }
  settle(record, id, false, wire::Json::array(), std::move(detail));
  if (auto test = static_cast<std::size_t>(record.test); test < tests_.size()) free_successors(test, is_good(record.verdict));
  return true;
}

/// Of a test that has its verdict: those that have waited for it.
void Dispatcher::free_successors(std::size_t test, bool good) {
  if (farm_ != nullptr) return;  // The nodes see to it, each for its own.
  Precedence::Freed freed = precedence_.over(test, good);
  for (std::size_t next : freed.ready) {
    if (!tests_[next].settled) queue_.put_back(next);
  }
  for (std::size_t next : freed.hopeless) {
    if (tests_[next].settled || stopping_) continue;
    journal::Record record;
    record.test = static_cast<std::int64_t>(next);
    record.verdict = "error";
    record.attempts = 1;
    settle_without_run(
        std::move(record), ids_[next],
        {{"problem", fmt::format("{} has not passed, which sets up what it needs", ids_[test])}, {"phase", "setup"}});
  }
  if (freed.ready.empty()) return;
  // Not from inside of a verdict.
  loop_.call_after({}, [this] {
    settle_hopeless();
    wake_idle();
    check_end();
  });
}

void Dispatcher::on_finished(Attempt attempt) {
  if (attempt.tearing_down) {
    attempt.node.empty() ? on_torn_down(std::move(attempt)) : on_node_closed(attempt);
    return;
  }
  if (Gang* gang = gang_in(attempt.slot); gang != nullptr) {
    on_rank_ended(*gang, std::move(attempt));
    return;
  }
  queue_.finished(attempt.slot, attempt.test);
  finish_attempt(std::move(attempt));
}

/// Its slot, or slots, are free by now.
void Dispatcher::finish_attempt(Attempt attempt) {
  for (const char* wish : {"exit", "stop"}) {
    if (attempt.done.contains(wish)) tell({{"t", wish}, {"with", attempt.done[wish]}});
  }
  if (attempt.done.contains("exit")) {
    // pytest.exit() inside a test ends the session; as in plain pytest the test itself has no outcome.
    stopping_ = true;
    on_abandoned(attempt.test, attempt.slot);
    return;
  }
  int slot = attempt.slot;
  bool worker_died = attempt.reused && !attempt.evidence.lives_on;
  if (!await_devices(attempt) && !await_check(attempt)) decide(std::move(attempt));
  if (worker_died) kept_process_gone(slot);
}

/// Its verdict, or another try.
void Dispatcher::decide(Attempt attempt) {
  Evidence& evidence = attempt.evidence;
  Test& state = tests_[attempt.test];
  evidence.wrapped = !wrap_.empty();
  const std::string& leaks = policy_on_leaks(attempt.test);
  if (leaks == "ignore") {
    evidence.survivors.clear();
    evidence.leaks.clear();
  }
  bool killed = evidence.exit && evidence.exit->signalled && evidence.exit->signal == SIGKILL;
  // With a group of its own its kills are known.
  if (killed && !evidence.timed_out && evidence.memory_kills == 0) {
    evidence.kernel_words = kernel_kills_.words_on(attempt.pid);
  }
  journal::Record record;
  record.test = static_cast<std::int64_t>(attempt.test);
  record.verdict = judge(evidence);
  record.duration = attempt.duration;
  record.attempts = state.attempts;
  record.slot = attempt.slot;
  std::string blamed = blame_devices(state, ids_[attempt.test], is_good(record.verdict));
  if (!blamed.empty() && is_good(record.verdict)) {
    note(fmt::format("{} has passed on another device: its failure was that of {}", ids_[attempt.test], blamed));
  }
  wire::Json notes = notes_of(evidence);
  wire::Json detail = describe(evidence, record.verdict);
  detail["usage"] = attempt.usage.describe();
  if (attempt.vram > 0) detail["usage"]["vram"] = attempt.vram;
  if (!attempt.ranks.empty()) {
    detail["rank"] = attempt.rank;
    const wire::Json& chosen = attempt.ranks[static_cast<std::size_t>(attempt.rank)];
    if (auto code = chosen.find("mpi_abort"); code != chosen.end()) detail["mpi_abort"] = *code;
    detail["ranks"] = std::move(attempt.ranks);
  }
  if (!attempt.suspicion.evidence.empty()) detail["gpu_evidence"] = attempt.suspicion.evidence;
  if (detail.contains("phase") || detail.contains("problem")) {
    detail["stacks"] = attempt.stacks;
    detail["out"] = attempt.out;
    detail["err"] = attempt.err;
    detail["stream"] = attempt.stream;
    if (!attempt.processes.empty()) detail["processes"] = std::move(attempt.processes);
  }
  if (std::string cause = reason_to_repeat(attempt, record.verdict); !cause.empty()) {
    repeat(attempt, std::move(record), std::move(detail), cause);
    if (attempt.scope >= 0) on_setup_failed(attempt, true);
    wake_idle();
    return;
  }
  if (attempt.suspicion.proved && !is_good(record.verdict)) {
    // No other device was left to settle it on.
    record.attempt_verdict = record.verdict;
    detail["was"] = std::exchange(record.verdict, "infra");
    detail["phase"] = name_of(phase_of(evidence.slate));
    detail["problem"] = fmt::format("{} cannot be relied on: {}", devices_->names_of(attempt.suspicion.devices),
                                    fmt::join(attempt.suspicion.evidence, "; "));
  }
  if (!state.earlier.empty()) weigh(state.earlier, sternness_, record, attempt.reports, notes, detail);
  add_findings(wrap_, attempt.findings, sternness_.strict, record, notes, detail);
  if (leaks == "fail") fail_for_leaks(evidence, record, detail);
  if (state.slow > 0) {
    if (record.duration > state.slow) {
      notes.push_back("slow");
      detail["slow"] = state.slow;
    }
  } else if (state.usual >= 0 && record.duration > std::max(kSlowTimes * state.usual, kSlowSeconds + state.usual)) {
    notes.push_back("slow");
    detail["usual"] = state.usual;
  }
  if (!attempt.lost.empty() && !is_good(record.verdict)) {
    notes.push_back("broke");
    detail["broke"] = attempt.lost;
    broker_.blame(needs_of(attempt.test), attempt.lost);
  }
  add_to_phase(attempt.reports, "setup", std::exchange(state.setup, 0));
  Verdict verdict{attempt.test,   std::move(record), std::move(notes),    std::move(attempt.reports), std::move(detail),
                  attempt.memory, attempt.vram,      attempt.usage.cpu(), attempt.usage.written};
  if (keep_for_another_round(verdict)) {
    wake_idle();
    return;
  }
  settle_around(attempt.test);
  if (!hold(verdict)) conclude(std::move(verdict));
  if (attempt.scope >= 0) on_setup_failed(attempt, false);
  wake_idle();
}

void Dispatcher::conclude(Verdict verdict) {
  journal::Record& record = verdict.record;
  record.notes = verdict.notes.dump();
  record.reports = verdict.reports.dump(-1, ' ', false, wire::Json::error_handler_t::replace);
  record.detail = verdict.detail.dump(-1, ' ', false, wire::Json::error_handler_t::replace);
  if (!keep(ledger_->finish_attempt(record, loop_.clock().wall()))) return;
  Test& state = tests_[verdict.test];
  state.settled = true;
  state.earlier.clear();
  const std::string& id = ids_[verdict.test];
  results_.push_back(
      {id, record.verdict, record.notes, record.duration, verdict.memory, verdict.cpu, verdict.written, verdict.vram});
  settle(record, id, false, std::move(verdict.reports), std::move(verdict.detail));
  free_successors(verdict.test, is_good(record.verdict));
}

// A failure in a used process may be the fault of a test that ran there before: a pristine process decides. What then still
// fails is tried again as often as the user wants that for its verdict.
std::string Dispatcher::reason_to_repeat(const Attempt& attempt, const std::string& verdict) const {
  if (is_good(verdict) || stopping_) return "";
  if (may_blame_devices(attempt)) return kOtherDevice;
  if (may_blame_resources(attempt.lost, tests_[attempt.test].earlier)) return kResourceLost;
  const Test& test = tests_[attempt.test];
  bool had_others = test.program ? attempt.evidence.batched : !attempt.before.empty() && !queue_.shares_scope(attempt.test);
  // One that has passed among others already (--hf-stress) fails now and then, whoever ran before it.
  if (attempt.reused && had_others && test.passes == 0) return kJudgedAgain;
  if (runs_again()) return "";  // A mark's retries would forgive what is looked for.
  return may_retry(verdict, test.earlier, test.retries != nullptr ? *test.retries : retries_) ? kRetried : "";
}

void Dispatcher::repeat(const Attempt& attempt, journal::Record record, wire::Json detail, const std::string& cause) {
  if (attempt.reused) detail["before"] = attempt.before;
  record.reports = attempt.reports.dump(-1, ' ', false, wire::Json::error_handler_t::replace);
  record.detail = detail.dump(-1, ' ', false, wire::Json::error_handler_t::replace);
  if (!keep(ledger_->end_attempt(record, cause, loop_.clock().wall()))) return;
  outbox_.deliver_soon();
  Test& test = tests_[attempt.test];
  test.earlier.push_back(Earlier{record.verdict, cause, attempt.reports, std::move(detail), attempt.suspicion});
  test.urgent = true;
  test.pool = false;  // In ranks of its own.
  if (cause == kOtherDevice) {
    bool crowded = attempt.suspicion.crowded;
    queue_.move_away(attempt.test, crowded ? 0 : attempt.suspicion.devices, crowded);
    note(fmt::format("{} is judged again {}: {}", ids_[attempt.test], crowded ? "with a GPU to itself" : "on another device",
                     fmt::join(attempt.suspicion.evidence, "; ")));
  }
  ++judged_again_;
  // What ran out of memory is tried with all the memory that there is; and where a resource dies twice, it will be known whose
  // doing that is.
  queue_.put_back(attempt.test, true, record.verdict == "oom" || (cause == kResourceLost && test.earlier.size() > 1));
}

// What the log and the controller are to hear, once the verdict is safe in the ledger.
void Dispatcher::settle(const journal::Record& record, const std::string& id, bool replayed, wire::Json reports,
                        wire::Json detail) {
  wire::Json notes = wire::Json::parse(record.notes, nullptr, false);
  News news;
  news.test = record.test;
  news.event = {{"event", "verdict"},          {"id", id},
                {"verdict", record.verdict},   {"notes", notes},
                {"attempts", record.attempts}, {"duration", record.duration}};
  for (const wire::Json& leak : detail.value("leaked", wire::Json::array()))
    news.event["leaked"].push_back(leak.value("text", ""));
  if (auto node = detail.find("node"); node != detail.end()) news.event["node"] = *node;
  if (auto usage = detail.find("usage"); usage != detail.end()) {
    news.event["usage"] = *usage;
    news.event["usage"].erase("samples");
  }
  news.frame = {{"t", "result"},
                {"id", id},
                {"verdict", record.verdict},
                {"notes", std::move(notes)},
                {"attempts", record.attempts},
                {"duration", record.duration},
                {"slot", record.slot},
                {"replayed", replayed},
                {"reports", std::move(reports)},
                {"detail", std::move(detail)}};
  news.frame["test"] = record.test < static_cast<std::int64_t>(ids_.size()) ? wire::Json(record.test) : wire::Json();
  outbox_.add(std::move(news));
  if (pause_on_failure_ && !is_good(record.verdict)) {
    ++unseen_;
    outbox_.deliver();
  } else {
    outbox_.deliver_soon();
  }
}

OutboxHost Dispatcher::outbox_host() {
  OutboxHost host;
  host.commit = [this] { return !ledger_ || keep(ledger_->commit()); };
  host.show = [this](const News& news) {
    if (log_) keep(log_->record(news.event));
    tell(news.frame);
  };
  host.lost = [this](const News& news) {
    if (auto test = static_cast<std::size_t>(news.test); test < tests_.size()) tests_[test].settled = false;
  };
  return host;
}

}  // namespace holdfast::run
