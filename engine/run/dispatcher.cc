#include "run/dispatcher.h"

#include <unistd.h>

#include <algorithm>

#include "base/version.h"
#include "inventory/cpus.h"
#include "os/procfs.h"
#include "wire/fields.h"

namespace holdfast::run {

namespace {

// A controller that reads slowly (a terminal, a pipe) must not make the engine hold all that tests print.
constexpr std::size_t kMaxQueued = std::size_t{16} << 20U;

// Seconds for which a reading of /proc/meminfo is good enough.
constexpr double kMemoryInterval = 0.1;

// Tests that a worker is told of at once, and the seconds that they take together: what it crashes on costs the others a wait.
constexpr std::size_t kAhead = 16;
constexpr double kAheadSeconds = 0.02;
// Of tests that can share a process of their program (targets/batch.py, which ends it after a second).
constexpr std::size_t kBatch = 64;
constexpr double kBatchSeconds = 0.25;

// Seconds after which a running test is worth a line.
constexpr double kTellAfter = 0.5;

// Variables by which numeric libraries choose their number of threads.
constexpr const char* kThreadVariables[] = {"OMP_NUM_THREADS",     "OPENBLAS_NUM_THREADS",   "MKL_NUM_THREADS",
                                            "NUMEXPR_NUM_THREADS", "VECLIB_MAXIMUM_THREADS", "BLIS_NUM_THREADS"};

// What the share of a slot sets; what the user has set stays.
wire::Json thread_environment(int slots) {
  wire::Json result = wire::Json::object();
  std::string share = std::to_string(std::max(1, inventory::usable_cpus() / std::max(1, slots)));
  for (const char* name : kThreadVariables) {
    if (::getenv(name) == nullptr) result[name] = share;
  }
  return result;
}

std::vector<std::string> environment_with(const wire::Json& added) {
  std::vector<std::string> result = os::own_environment();
  for (const auto& [name, value] : added.items()) result.push_back(name + "=" + value.get<std::string>());
  return result;
}

}  // namespace

Dispatcher::Dispatcher(os::Loop& loop, const Options& options)
    : loop_(loop), options_(options), outbox_(loop, outbox_host()), broker_(loop, limits_, broker_host()) {}

Dispatcher::~Dispatcher() = default;

Status Dispatcher::open() {
  // They came over exec, so they are inheritable; what the engine starts must not have them.
  os::set_close_on_exec(options_.control_fd);
  if (options_.zygote_fd >= 0) os::set_close_on_exec(options_.zygote_fd);
  os::Fd socket(options_.control_fd);
  os::set_nonblocking(socket.get());
  control_ = std::make_unique<wire::Channel>(loop_, std::move(socket), wire::kTrustedFrameLimit);
  HOLDFAST_TRY(control_->start([this](const wire::Json& frame) { on_control_frame(frame); },
                               [this](const std::string&) { abort_run(); }));
  wire::Json hello = {{"t", "hello"}, {"v", wire::kProtocolVersion}, {"version", kVersion}, {"slots", options_.slots}};
  if (is_node()) hello.update({{"node", options_.node}, {"nodes", options_.nodes}});
  tell(hello);
  root_ = std::make_unique<Root>(loop_, limits_, root_host());
  HOLDFAST_TRY(root_->open());
  if (options_.zygote_pid > 0) {
    HOLDFAST_TRY(root_->adopt(options_.zygote_pid, os::Fd(options_.zygote_fd), thread_environment(options_.slots)));
  }
  return {};
}

// ---- the controller --------------------------------------------------------------------------------------------------------

void Dispatcher::on_control_frame(const wire::Json& frame) {
  const std::string type = frame.value("t", "");
  if (type == "configure") {
    configure(frame);
  } else if (type == "run") {
    is_node() ? take_tests(frame) : run_tests();
  } else if (type == "stop") {
    stop(wire::number(frame, "grace", limits_.grace));
  } else if (type == "seen") {
    unseen_ = std::max(0, unseen_ - 1);
    if (farm_ != nullptr) farm_->seen();
    if (unseen_ == 0 && running_) {
      resume_staged();
      wake_idle();
    }
  } else if (type == "go_on") {
    if (Slot* kept = find(frame.value("slot", -1)); kept != nullptr) kept->go_on();
  } else if (type == "finish") {
    finish(frame.value("exitstatus", 0));
  }
}

void Dispatcher::configure(const wire::Json& frame) {
  const wire::Json limits = frame.value("limits", wire::Json::object());
  limits_.test = wire::number(limits, "test", limits_.test);
  limits_.setup = wire::number(limits, "setup", limits_.setup);
  limits_.call = wire::number(limits, "call", limits_.call);
  limits_.teardown = wire::number(limits, "teardown", limits_.teardown);
  limits_.exit = wire::number(limits, "exit", limits_.exit);
  limits_.collect = wire::number(limits, "collect", limits_.collect);
  limits_.grace = wire::number(limits, "grace", limits_.grace);
  tell_starts_ = frame.value("tell_starts", false);
  sternness_.strict = frame.value("strict", false);
  pause_on_failure_ = frame.value("pause_on_failure", false);
  wrap_ = frame.value("wrap", "");
  debug_ = frame.value("debug", false);
  sternness_.leaks = frame.value("leaks", "report");
  sternness_.flaky_fails = frame.value("flaky_fails", false);
  retries_ = frame.value("retries", Retries{});
  const wire::Json again = frame.value("again", wire::Json::object());
  again_ = Again{again.value("times", 0), wire::number(again, "seconds", 0)};
  dealing_.dist = frame.value("dist", "dynamic");
  pins_ = frame.value("pin", false);
  const wire::Json gpus = frame.value("gpus", wire::Json::object());
  gpu_options_ = GpuOptions{gpus.value("most", -1), gpus.value("per_slot", 0), gpus.value("soft", false),
                            gpus.value("no_gpu", "fail"), wire::number(gpus, "wait", 0)};
  examiner_ = Examiner{frame.value("diagnose", std::vector<std::string>{}), os::own_environment(), frame.value("cwd", "/")};
  memory_ = inventory::memory();
  open_records(frame);
  if (frame.contains("backend")) configure_farm(frame);
  wire::Json zygote = frame.value("zygote", wire::Json::object());
  if (is_node()) {
    // Its slots, and its temporary directory, are its own also where nodes share a file system, or a machine.
    const wire::Json node = frame.value("node", wire::Json::object());
    zygote["first_slot"] = node.value("first_slot", 0);
    zygote["slots_here"] = options_.slots;
    if (zygote.value("basetemp", wire::Json()).is_string()) {
      zygote["basetemp"] = zygote["basetemp"].get<std::string>() + "/" + options_.node;
    }
  }
  root_->configure(frame.value("argv", std::vector<std::string>{}), environment_with(thread_environment(options_.slots)),
                   frame.value("cwd", "/"), std::move(zygote));
}

void Dispatcher::open_records(const wire::Json& frame) {
  resume_ = frame.value("resume", false);
  auto ledger = journal::Ledger::open(is_node() ? journal::kInMemory : frame.value("journal", ""), resume_);
  if (!ledger) {
    fail_run("usage", ledger.error().message());
    return;
  }
  ledger_ = std::move(*ledger);
  if (resume_) {
    Result<std::string> rootdir = ledger_->value("rootdir");
    if (rootdir && !rootdir->empty() && *rootdir != frame.value("rootdir", "")) {
      fail_run("usage", fmt::format("resume: the ledger is of another suite, below {}", *rootdir));
      return;
    }
  }
  for (const char* key : {"rootdir", "args"}) keep(ledger_->set_value(key, frame.value(key, "")));
  keep(ledger_->set_value("engine", kVersion));
  keep(ledger_->add_event(resume_ ? "resumed" : "started", "", loop_.clock().wall()));
  keep(ledger_->commit());
  std::string notice;
  history_ = journal::History::open(frame.value("history", ""), notice);
  known_ = history_->load(notice);
  if (!notice.empty()) note(notice);
  began_ = loop_.clock().wall();
  auto log = report::EventLog::open(frame.value("log", ""));
  if (!log) {
    fail_run("usage", log.error().message());
    return;
  }
  log_.emplace(std::move(*log));
  keep(log_->record({{"event", "run_started"}, {"version", kVersion}, {"slots", options_.slots}, {"resumed", resume_}}));
}

// Errors of the ledger or the log end the run: a verdict that cannot be kept must not be shown as if it were.
bool Dispatcher::keep(const Status& status) {
  if (status) return true;
  fail_run("records", status.error().message());
  return false;
}

void Dispatcher::log_event(const char* kind, const nlohmann::ordered_json& fields) {
  if (!log_) return;
  nlohmann::ordered_json event = {{"event", kind}, {"at", loop_.clock().wall()}};
  event.update(fields);
  keep(log_->record(event));
}

void Dispatcher::fail_run(const std::string& kind, const std::string& text) {
  tell({{"t", "error"}, {"kind", kind}, {"text", text}});
  stop(0);
}

void Dispatcher::note(const std::string& text) { tell({{"t", "note"}, {"text", text}}); }

// ---- collection ------------------------------------------------------------------------------------------------------------

RootHost Dispatcher::root_host() {
  RootHost host;
  host.relay = [this](const wire::Json& frame) { relay(frame); };
  host.on_restart = [this] { on_collection_restarted(); };
  host.on_ready = [this](const wire::Json& frame) { on_ready(frame); };
  host.on_fatal = [this](FatalModule module) { fatal_.push_back(std::move(module)); };
  host.on_failed = [this](const std::string& kind, const std::string& text) { fail_run(kind, text); };
  host.on_finished = [this] {
    root_over_ = true;
    end_when_over();
  };
  host.examiner = [this]() -> const Examiner& { return examiner_; };
  return host;
}

void Dispatcher::relay(const wire::Json& frame) {
  if (collected_) {
    // A second root, for want of the first: it must have found the same tests, and the controller has heard it all.
    if (frame.value("t", "") == "items") {
      for (const wire::Json& item : frame.value("items", wire::Json::array())) found_again_.push_back(item.value("id", ""));
    }
    return;
  }
  if (frame.value("t", "") == "scopes") {
    read_scopes(frame);
    return;
  }
  if (frame.value("t", "") == "resources") {
    read_resources(frame);
    return;
  }
  if (frame.value("t", "") == "items") {
    for (const wire::Json& item : frame.value("items", wire::Json::array())) {
      ids_.push_back(item.value("id", ""));
      Test test;
      test.limit = wire::number(item, "timeout", 0);
      const wire::Json demand = item.value("demand", wire::Json::object());
      test.memory = demand.value("memory", std::uint64_t{0});
      test.hides_gpus = demand.value("gpus", -1) == 0;
      test.own = item.value("own", false);
      test.program = item.value("program", false);
      test.batch = item.value("batch", -1);
      test.slow = static_cast<float>(wire::number(item, "slow", 0));
      test.faulted = item.value("faulted", false);
      test.leaks = item.value("leaks", "");
      test.ranks = demand.value("ranks", 0);
      test.pool = demand.value("pool", false);
      test.manager = item.value("manager", "");
      test.scope = item.value("in", Tree::kNone);
      // Each rank sets up its own fixtures, once MPI is there.
      if (!tree_.has(test.scope) || test.ranks > 0) test.scope = Tree::kNone;
      test.needs = number_of_needs(item.value("needs", Broker::Needs{}));
      wishes_.add(ids_.back(), item, tree_.outermost(test.scope));
      if (item.contains("retries")) test.retries = std::make_unique<Retries>(item["retries"].get<Retries>());
      precedence_.add(tests_.size(), item.value("after", std::vector<std::size_t>{}),
                      item.value("requires", std::vector<std::size_t>{}));
      tests_.push_back(std::move(test));
    }
    if (ledger_) keep(ledger_->note_tests(ids_));
  }
  tell(frame);
}

void Dispatcher::on_collection_restarted() {
  found_again_.clear();
  if (collected_) return;  // A root that replaces one which died after collection; see on_ready.
  ids_.clear();
  tests_.clear();
  wishes_.clear();
  precedence_.clear();
  tree_.clear();
  scope_needs_.clear();
  broker_.clear();
  if (ledger_) keep(ledger_->forget_tests());
  tell({{"t", "restart"}});
}

void Dispatcher::on_ready(const wire::Json& frame) {
  if (collected_) {
    if (found_again_ != ids_) {
      fail_run("died", "the root zygote ended, and collecting again found other tests");
      return;
    }
    for (auto& [slot, socket] : waiting_for_root_) root_->start_slot_zygote(slot, socket, forkable_, slot >= options_.slots);
    waiting_for_root_.clear();
    return;
  }
  collected_ = true;
  log_event("collected", {{"tests", ids_.size()}});
  forkable_ = frame.value("forkable", true);
  dealing_.keep_order = frame.value("keep_order", false);
  cold_reason_ = frame.value("reason", "");
  const wire::Json mpi = frame.value("mpi", wire::Json::object());
  mpi_.manager = mpi.value("manager", "");
  mpi_.problem = mpi.value("problem", "");
  const wire::Json launch = mpi.value("launch", wire::Json::object());
  mpi_.launch.argv = launch.value("argv", std::vector<std::string>{});
  mpi_.launch.environment = launch.value("environment", std::map<std::string, std::string>{});
  mpi_.launch.without = launch.value("without", std::vector<std::string>{});
  tell(frame);
  // Nothing was found that could make the controller say no, and it has yet to read what was collected: begin at once.
  if (frame.value("go", false) && fatal_.empty() && !is_node()) run_tests();
}

// ---- running ---------------------------------------------------------------------------------------------------------------

void Dispatcher::run_tests() {
  if (running_ || ledger_ == nullptr || (farm_ == nullptr && await_gpus())) return;
  running_ = true;
  for (std::size_t i = 0; i < tests_.size() && is_node(); ++i) tests_[i].settled = !chosen_[i];
  // Their zygotes come up while all this is prepared and written down, which takes 40 ms for 30,000 tests.
  if (!resume_) start_slots(places_wanted());
  if (pins_) cpus_.reset(inventory::places_of_cpus());
  dealing_.slots = options_.slots;
  dealing_.capacity = plan::Capacity{std::max(inventory::usable_cpus(), options_.slots), memory_.limit};
  resolve_gpus();
  // Not before: the collection of a small suite is over before the controller has said where the history is.
  for (std::size_t i = 0; i < ids_.size() && !known_.empty(); ++i) {
    auto known = known_.find(ids_[i]);
    if (known == known_.end()) continue;
    tests_[i].usual = static_cast<float>(known->second.duration);
    wishes_.know(i, known->second, memory_.limit);
  }
  queue_.reset(wishes_.problem(dealing_));
  for (std::size_t i = 0; i < tests_.size(); ++i) {
    Test& test = tests_[i];
    if (!forkable_) test.scope = Tree::kNone;
    if (test.settled) {
      queue_.settle(i);  // Another node's.
      continue;
    }
    if (farm_ == nullptr && precedence_.waits(i)) queue_.settle(i);  // Until it is put back.
    tree_.expect(test.scope);
    broker_.expect(needs_[test.needs]);
  }
  if (Status status = ledger_->add_tests(ids_); !status) {
    fail_run(status.error().kind == ErrorKind::UserMistake ? "usage" : "records", status.error().message());
    check_end();
    return;
  }
  if (resume_) replay();
  settle_fatal_modules();
  if (farm_ != nullptr) {
    begin_farm();
  } else {
    refuse_impossible();
    settle_hopeless();
  }
  wishes_.clear();  // The scheduler knows them now.
  known_.clear();
  if (!forkable_ && !queue_.empty() && farm_ == nullptr)
    note("tests run in cold processes, since forking is not safe here: " + cold_reason_);
  if (resume_) start_slots(places_wanted());
  if (!slots_.empty()) refuse_wide_gangs();
  if (farm_ == nullptr && (!queue_.empty() || is_node())) broker_.begin(options_.slots);
  if (tell_starts_) tell_remaining();
  check_end();
}

void Dispatcher::replay() {
  std::vector<std::pair<std::string, journal::Record>> records;
  keep(ledger_->for_each_record(
      [&records](const std::string& id, const journal::Record& record) { records.emplace_back(id, record); }));
  for (auto& [id, record] : records) {
    bool collected = record.test < static_cast<std::int64_t>(ids_.size());
    if (collected) {
      auto index = static_cast<std::size_t>(record.test);
      tests_[index].settled = true;
      queue_.settle(index);
      tree_.settle(tests_[index].scope);
      broker_.settle(needs_of(index));
      free_successors(index, is_good(record.verdict));
    } else {
      // A module that died in import: known already, and perhaps imported again just now.
      fatal_.erase(std::remove_if(fatal_.begin(), fatal_.end(),
                                  [&, &module_id = id](const FatalModule& m) { return m.id == module_id; }),
                   fatal_.end());
    }
    settle(record, id, true, wire::Json::parse(record.reports, nullptr, false),
           wire::Json::parse(record.detail, nullptr, false));
  }
}

/// How many slots the tests without a verdict could use at a time.
std::size_t Dispatcher::places_wanted() const {
  std::size_t wanted = 0;
  for (const Test& test : tests_) wanted += test.settled ? 0 : static_cast<std::size_t>(std::max(1, test.ranks));
  return wanted;
}

void Dispatcher::start_slots(std::size_t places) {
  if (farm_ != nullptr) return;
  if (is_node()) places = static_cast<std::size_t>(options_.slots);  // More tests may come.
  std::size_t wanted = std::min<std::size_t>(static_cast<std::size_t>(options_.slots), places);
  if (wanted == 0) return;
  cgroup_ = os::Cgroup::create();
  for (std::size_t i = 0; i < wanted; ++i) {
    int id = static_cast<int>(i);
    slots_.push_back(std::make_unique<Slot>(loop_, id, limits_, slot_host(), cgroup_.create_child(fmt::format("slot-{}", id))));
    if (Status status = slots_.back()->open(); !status) {
      // What has been opened runs the tests; without any slot at all on_broken ends the run.
      on_broken(id, status.error().message() + " (raise `ulimit -n` or use fewer slots)");
      break;
    }
  }
}

SlotHost Dispatcher::slot_host() {
  SlotHost host;
  host.start_zygote = [this](int slot, const os::Fd& socket) {
    if (forkable_ && !root_->ready()) {
      waiting_for_root_.emplace_back(slot, os::duplicate(socket));
      root_->revive();
      return;
    }
    root_->start_slot_zygote(slot, socket, forkable_, slot >= options_.slots);
  };
  host.zygote_config = [this] { return root_->start_config(); };
  host.examiner = [this]() -> const Examiner& { return examiner_; };
  if (debug_) {
    host.on_kept = [this](int slot, std::size_t test, pid_t pid, const std::string& what) {
      tell({{"t", "kept"}, {"slot", slot}, {"test", test}, {"pid", pid}, {"what", what}});
    };
    host.on_released = [this](int slot) { tell({{"t", "released"}, {"slot", slot}}); };
  }
  host.on_idle = [this](int slot) { give_work(slot); };
  host.on_finished = [this](Attempt attempt) { on_finished(std::move(attempt)); };
  host.on_abandoned = [this](std::size_t test, int slot) { on_abandoned(test, slot); };
  host.on_apart = [this](std::size_t test) { on_apart(test); };
  host.on_ask = [this](int slot) { on_ask(slot); };
  host.on_went_on = [this](std::size_t test, int slot) { tell_if_it_takes_long(test, slot); };
  host.on_scope_ready = [this](int slot, int scope, const wire::Json& ready) { on_scope_ready(slot, scope, ready); };
  host.on_scope_lost = [this](int slot, int scope, bool owner) { on_scope_lost(slot, scope, owner); };
  host.on_replica = [this](int slot, int scope, bool good) { on_replica(slot, scope, good); };
  host.is_zygote = [this](pid_t pid) {
    return broker_.owns(pid) || std::any_of(slots_.begin(), slots_.end(), [pid](const auto& s) { return s->owns(pid); });
  };
  host.on_node = [this](int slot, std::size_t test, const std::string& kind, const std::string& node) {
    on_node(slot, test, kind, node);
  };
  host.on_worker_ended = [this](const WorkerEnd& end) { on_worker_ended(end); };
  host.on_output = [this](int slot, const std::string& text) {
    tell({{"t", "output"}, {"slot", slot}, {"text", text}});
    if (control_->queued_bytes() > kMaxQueued) control_->flush(1000);
  };
  host.on_broken = [this](int slot, const std::string& reason) {
    // Not from inside the slot's own call: it is about to be destroyed.
    loop_.call_after({}, [this, slot, reason] { on_broken(slot, reason); });
  };
  host.kill_strays = [this] { kill_strays(); };
  return host;
}

// A test that no machine like this one can ever run is told so now, instead of waiting for ever.
void Dispatcher::refuse_impossible() {
  for (std::size_t i = 0; i < tests_.size(); ++i) {
    const plan::Demand& demand = queue_.demand_of(i);
    std::string reason = plan::why_impossible(demand, dealing_.capacity);
    bool too_wide = demand.ranks > options_.slots;
    if (too_wide)
      reason = fmt::format("it asks for {} ranks, and there are {} slots (--hf-slots)", demand.ranks, options_.slots);
    bool by_gpus = reason.empty();
    if (by_gpus) reason = why_no_gpus(demand.devices, true);
    if (tests_[i].settled || reason.empty()) continue;
    bool none = devices_ == nullptr || devices_->size() == 0;
    journal::Record record;
    record.test = static_cast<std::int64_t>(i);
    bool skips = too_wide || (by_gpus && none && gpu_options_.no_gpu == "skip");
    record.verdict = skips ? "skipped" : "error";
    wire::Json detail = {{"problem", (too_wide ? "" : "this test can never run here: ") + reason}, {"phase", "setup"}};
    if (!settle_without_run(std::move(record), ids_[i], std::move(detail))) return;
  }
}

// Beside all bookings: while memory is short nothing more is begun, as long as something runs that may give some back.
bool Dispatcher::must_wait_for_memory() {
  if (loop_.clock().now() - memory_read_ > os::seconds(kMemoryInterval)) {
    memory_read_ = loop_.clock().now();
    memory_ = inventory::memory();
  }
  return inventory::is_short(memory_) && std::any_of(slots_.begin(), slots_.end(), [](const auto& s) { return s->busy(); });
}

// Every second: how long what has not begun will take, by what the history knows.
void Dispatcher::tell_remaining() {
  if (told_end_ || ending_) return;
  if (queue_.remaining() > 0) {
    tell({{"t", "progress"}, {"remaining", queue_.remaining() / std::max(1, options_.slots)}});
  }
  loop_.call_after(os::seconds(1), [this] { tell_remaining(); });
}

Slot* Dispatcher::find(int slot) {
  auto it = std::find_if(slots_.begin(), slots_.end(), [slot](const auto& s) { return s->id() == slot; });
  return it == slots_.end() ? nullptr : it->get();
}

void Dispatcher::give_work(int slot) {
  Slot* idle = find(slot);
  if (idle == nullptr || !idle->idle()) {
    check_end();
    return;
  }
  // It goes on when its scope is ready, or is a rank's.
  if (auto gang = gang_of_.find(slot); gang != gang_of_.end()) go_on_with(gang->second);
  if (staged_.count(slot) != 0 || gang_of_.count(slot) != 0) return;
  workers_gone(slot);
  if (!idle->idle()) return;
  if (tear_down_in(*idle) || close_node_in(*idle)) return;
  if (holds_back()) return;
  if (!stopping_ && !queue_.empty() && must_wait_for_memory()) return;
  queue_.may_open(!tree_.any_leaving() && !any_node_unused());
  std::optional<std::size_t> test;
  auto reserved = reserved_.find(slot);
  if (queue_.has_gangs()) queue_.offer(idle_slots(slot));
  if (!stopping_) test = reserved == reserved_.end() ? queue_.take(slot) : queue_.take_fresh(slot);
  if (!stopping_ && !test && reserved != reserved_.end()) {
    Order order = reserved->second;
    reserved_.erase(reserved);
    tell_if_it_takes_long(order.test, slot);
    stage(slot, std::move(order));
    return;
  }
  if (!test) {
    // Nothing is left for it (what other slots still run may come back, and then gets a new process).
    // Or its process holds GPUs that what waits may need.
    if (idle->has_worker() && (stopping_ || queue_.empty() || queue_.kept_lease(slot) != nullptr)) retire_in(slot);
    check_end();
    return;
  }
  if (tests_[*test].ranks > 0) form_gang(*test, slot);
  std::optional<Order> order = begin_attempt(*test, slot);
  if (order) tell_if_it_takes_long(*test, slot);
  if (order && order->reuse && idle->has_worker() && (queue_.wants_other_process(slot) || worlds_.count(slot) != 0)) {
    // Another scope's test, or none of a rank's, for a process of its own: when the worker has gone, the slot is idle again.
    reserved_[slot] = *order;
    retire_in(slot);
    return;
  }
  if (order) stage(slot, std::move(*order));
}

// What one slot's test held may be what another slot waits for.
void Dispatcher::wake_idle() {
  for (std::size_t i = 0; i < slots_.size(); ++i) {
    int slot = slots_[i]->id();
    bool has_reason =
        !queue_.empty() || slots_[i]->has_worker() || reserved_.count(slot) != 0 || tree_.any_live() || any_node_open();
    if (slots_[i]->idle() && has_reason) give_work(slot);
  }
}

/// Records that it begins: before it does, or, in a worker whose next test is quickly over, within a moment. Nothing if that
/// cannot be recorded.
std::optional<Order> Dispatcher::begin_attempt(std::size_t test, int slot) {
  Test& state = tests_[test];
  ++state.attempts;
  if (!keep(ledger_->start_attempt(static_cast<std::int64_t>(test), state.attempts, slot, loop_.clock().wall()))) return {};
  bool reuse = queue_.may_reuse(test);
  if (reuse) {
    outbox_.deliver_soon();
  } else if (!outbox_.commit()) {
    return {};
  }
  judged_again_ -= std::exchange(state.urgent, false) ? 1 : 0;
  if (!std::exchange(began_any_, true)) {
    log_event("first_attempt", nlohmann::ordered_json::object());
    again_.end = loop_.clock().now() + os::seconds(again_.seconds);
  }
  Order order{test, ids_[test], state.limit, reuse, reuse ? 0 : state.memory};
  order.look = policy_on_leaks(test) != "ignore";
  lend(order, slot);
  return order;
}

// Only of tests that take a while: nobody could read a line that changes faster, and most tests are over by then.
void Dispatcher::tell_if_it_takes_long(std::size_t test, int slot) {
  if (!tell_starts_) return;
  loop_.cancel(tell_timers_[slot]);
  tell_timers_[slot] = loop_.call_after(os::seconds(kTellAfter), [this, test, attempt = tests_[test].attempts, slot] {
    const Test& now = tests_[test];
    if (now.settled || now.attempts != attempt || !running_ || told_end_) return;
    tell({{"t", "begun"}, {"test", test}, {"slot", slot}, {"since", kTellAfter}});
  });
}

void Dispatcher::on_ask(int slot) {
  Slot* asking = find(slot);
  if (asking == nullptr) return;
  std::optional<std::size_t> test;
  queue_.may_open(!tree_.any_leaving() && !any_node_unused());
  if (!stopping_ && !must_wait_for_memory()) test = queue_.take(slot, true);
  std::vector<Order> next;
  if (test) {
    if (std::optional<Order> order = begin_attempt(*test, slot)) next.push_back(*order);
  }
  // A test that waits for its second judgement goes first, in its own process; the worker and its fixtures wait meanwhile.
  // And with -x nobody knows yet whether the present one will fail.
  // What a test needs may have to be looked at before it begins.
  bool go = judged_again_ == 0 && !pause_on_failure_ && (!test || needs_of(*test).empty());
  if (go) announce_quick_ones(slot, next);
  asking->answer(next, go);
  if (!next.empty() && !go) reserved_[slot] = next.front();
}

// Tests that earlier runs knew to be over in no time are not worth a question each. Those that can share a process of their
// program are taken to be quick until that is known to be wrong.
void Dispatcher::announce_quick_ones(int slot, std::vector<Order>& next) {
  double seconds = 0;
  while (!next.empty()) {
    const Test& last = tests_[next.back().test];
    bool batch = last.batch >= 0;
    double most = batch ? kBatchSeconds : kAheadSeconds;
    if (next.size() >= (batch ? kBatch : kAhead)) return;
    seconds += last.usual >= 0 ? last.usual : batch ? 0 : most;
    std::optional<std::size_t> test = queue_.plain_next(slot);
    if (!test || !needs_of(*test).empty()) return;
    const Test& following = tests_[*test];
    if (batch ? following.batch != last.batch : following.usual < 0) return;
    if (seconds + std::max(0.0, static_cast<double>(following.usual)) > most) return;
    if (queue_.take(slot, true) != test) return;
    std::optional<Order> order = begin_attempt(*test, slot);
    if (!order) return;
    next.push_back(*order);
  }
}

// They take longer than it is worth: each is asked for from now on, unless earlier runs know it to be quick.
void Dispatcher::on_apart(std::size_t test) {
  int batch = tests_[test].batch;
  if (batch < 0) return;
  for (Test& one : tests_) {
    if (one.batch == batch) one.batch = -1;
  }
}

void Dispatcher::on_worker_ended(const WorkerEnd& end) {
  kept_process_gone(end.slot);
  auto world = worlds_.find(end.slot);
  rank_gone(end.slot, world != worlds_.end() && !world->second->over);
  if (end.discarded) return;
  const Evidence& evidence = end.evidence;
  for (const Survivor& survivor : evidence.survivors) {
    auto later = std::upper_bound(end.began.begin(), end.began.end(), survivor.started + 0.01);
    std::string during =
        later == end.began.begin()
            ? ""
            : ", started by or about " + ids_[end.ran[static_cast<std::size_t>(later - end.began.begin() - 1)]];
    note(fmt::format("the worker of slot {} left process {} behind{}; it was killed: {}", end.slot, survivor.pid, during,
                     survivor.command));
  }
  bool good = evidence.exit && !evidence.exit->signalled && evidence.exit->code == 0;
  if (good || stopping_) return;
  std::string last = end.ran.empty() ? "" : ", the last one " + ids_[end.ran.back()];
  // No test ran in it any more, so no test is blamed for it.
  settle_extra(fmt::format("worker gw{} (at its exit, after {} tests{})", end.slot, end.ran.size(), last), evidence, "exit",
               end.stacks, end.out, end.err);
}

void Dispatcher::on_abandoned(std::size_t test, int slot) {
  forget_staged(slot);
  if (rank_abandoned(test, slot)) return;
  in_use_.erase(test);
  queue_.finished(slot, test);
  drop_lease(test);
  keep(ledger_->abandon_attempt(static_cast<std::int64_t>(test), "stopped", loop_.clock().wall()));
  outbox_.deliver_soon();
  if (!stopping_) {
    --tests_[test].attempts;
    queue_.put_back(test);
  }
  loop_.call_after({}, [this, slot] {
    give_work(slot);
    if (stopping_) wake_idle();  // The last one that runs has ended: scopes can be torn down, wherever they are.
  });
}

void Dispatcher::drop_reserved(int slot) {
  auto reserved = reserved_.find(slot);
  if (reserved == reserved_.end()) return;
  std::size_t test = reserved->second.test;
  reserved_.erase(reserved);
  on_abandoned(test, slot);
}

void Dispatcher::on_broken(int slot, const std::string& reason) {
  auto it = std::find_if(slots_.begin(), slots_.end(), [slot](const auto& s) { return s->id() == slot; });
  if (it == slots_.end()) return;
  (*it)->shut_down();
  slots_.erase(it);
  rank_gone(slot, true);
  queue_.close(slot);
  tree_.lost_in(slot);
  drop_reserved(slot);
  if (auto staged = staged_.find(slot); staged != staged_.end()) on_abandoned(staged->second.test, slot);
  if (slots_.empty() && !queue_.empty()) {
    fail_run("infra", fmt::format("no slot is left: {}", reason));
  } else {
    note(fmt::format("slot {} was given up: {}", slot, reason));
    refuse_wide_gangs();
  }
  check_end();
}

}  // namespace holdfast::run
