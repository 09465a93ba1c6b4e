#include "run/slot.h"

#include <signal.h>
#include <sys/epoll.h>
#include <unistd.h>

#include <algorithm>

#include "os/procfs.h"
#include "os/sockets.h"
#include "run/leavings.h"
#include "wire/fields.h"

namespace holdfast::run {

namespace {

constexpr int kMaxFailedStarts = 3;
constexpr std::size_t kMaxFindings = std::size_t{64} << 20U;
// Of what a test's process says that it has left.
constexpr std::size_t kMaxLeaks = 200;
constexpr std::size_t kMaxLeakText = 500;

/// Only a worker that runs a test has a reason to.
bool ends_or_asks(const wire::Json& frame) {
  const std::string type = frame.value("t", "");
  return type == "ask" || type == "done" || type == "settled";
}

std::vector<Leak> read_leaks(const wire::Json& frame) {
  std::vector<Leak> found;
  auto leaks = frame.find("leaks");
  if (leaks == frame.end() || !leaks->is_array()) return found;
  for (const wire::Json& leak : *leaks) {
    auto kind = leak.find("kind");
    auto text = leak.find("text");
    if (kind == leak.end() || !kind->is_string() || text == leak.end() || !text->is_string()) continue;
    if (found.size() < kMaxLeaks) {
      found.push_back({kind->get<std::string>().substr(0, 20), text->get<std::string>().substr(0, kMaxLeakText)});
    }
  }
  return found;
}

}  // namespace

Slot::Slot(os::Loop& loop, int id, const Limits& limits, SlotHost host, os::Cgroup cgroup)
    : loop_(loop), id_(id), limits_(limits), host_(std::move(host)), cgroup_(std::move(cgroup)), postmortem_(loop) {}

Slot::~Slot() {
  loop_.cancel(timer_);
  loop_.cancel(sample_timer_);
  loop_.cancel(crash_timer_);
  for (os::TimerId timer : held_timers_) loop_.cancel(timer);
  if (own_ != nullptr) forget(*own_);
  for (auto& [scope, zygote] : scopes_) forget(*zygote);
  loop_.cancel(forget_timer_);
  if (stream_read_.valid()) loop_.unwatch(stream_read_.get());
}

Status Slot::open() {
  Result<ProcessFiles> files = ProcessFiles::open();
  if (!files) return tl::unexpected<Error>(files.error());
  files_ = std::move(*files);
  auto pipe = os::open_pipe();
  if (!pipe) return tl::unexpected<Error>(pipe.error());
  stream_read_ = std::move(pipe->first);
  stream_write_ = std::move(pipe->second);
  HOLDFAST_TRY(loop_.watch(stream_read_.get(), EPOLLIN, [this](std::uint32_t) { read_stream(); }));
  ask_for_zygote();
  return {};
}

// ---- zygotes ---------------------------------------------------------------------------------------------------------------

void Slot::ask_for_zygote() {
  auto pair = os::open_channel_pair();
  if (!pair) {
    host_.on_broken(id_, pair.error().message());
    return;
  }
  own_ = std::make_unique<Zygote>();
  own_->number = ++last_number_;
  own_->channel = std::make_unique<wire::Channel>(loop_, std::move(pair->first), wire::kTrustedFrameLimit);
  from_ = own_.get();
  if (Status started = listen(*own_->channel, own_->number); !started) {
    host_.on_broken(id_, started.error().message());
    return;
  }
  host_.start_zygote(id_, pair->second);
  send_files(*own_);
}

void Slot::send_files(Zygote& zygote) {
  std::vector<int> descriptors = files_.descriptors();
  descriptors.push_back(stream_write_.get());
  descriptors.push_back(files_.findings.get());
  zygote.channel->send({{"t", "slot"}, {"slot", id_}, {"keeper", host_.keeper}, {"config", host_.zygote_config()}},
                       descriptors);
}

// By number, since a process of a test becomes that of a scope, and back, and keeps its channel.
Status Slot::listen(wire::Channel& channel, int number) {
  return channel.start([this, number](wire::Json frame) { on_frame(number, std::move(frame)); },
                       [this, number](const std::string& problem) { on_end(number, problem); });
}

Zygote* Slot::numbered(int number) {
  if (own_ != nullptr && own_->number == number) return own_.get();
  if (coming_ != nullptr && coming_->number == number) return coming_.get();
  auto found = std::find_if(scopes_.begin(), scopes_.end(), [number](const auto& s) { return s.second->number == number; });
  return found != scopes_.end() ? found->second.get() : nullptr;
}

void Slot::on_frame(int number, wire::Json frame) {
  wire::drop_wrong_fields(frame);
  if (current_ != nullptr && current_->number == number) {
    on_test_frame(std::move(frame));
  } else if (Zygote* zygote = numbered(number); zygote != nullptr) {
    on_zygote_frame(*zygote, frame);
  } else if (worker_ != nullptr && worker_->number == number && ends_or_asks(frame)) {
    // Between two tests: one of them has spoken in its name, and it still runs a test that the engine believes to be over.
    discard_worker();
  }
  // Anything else that a worker says between two tests is said again when it is its turn.
}

void Slot::on_end(int number, const std::string& problem) {
  if (current_ != nullptr && current_->number == number) {
    on_test_hung_up(problem);
    return;
  }
  Zygote* zygote = numbered(number);
  if (zygote == nullptr) return;
  if (zygote == coming_.get()) {
    loop_.call_after({}, [this, number] {
      if (coming_ != nullptr && coming_->number == number) on_copied(false);
    });
  } else if (zygote->pid == 0) {
    // A zygote that ends before its hello has no pidfd yet that could tell of its death.
    loop_.call_after({}, [this] { on_own_gone(); });
  } else if (!problem.empty()) {
    os::send_signal(zygote->pidfd, SIGKILL);
  }
}

void Slot::on_zygote_frame(Zygote& zygote, const wire::Json& frame) {
  const std::string type = frame.value("t", "");
  if (type == "hello") {
    on_hello(zygote, frame);
  } else if (type == "replica" && &zygote == coming_.get()) {
    send_files(zygote);
  } else if (type == "forked") {
    if (zygote.asked.empty()) return;
    auto then = std::move(zygote.asked.front());
    zygote.asked.pop_front();
    then(frame.value("pid", 0));
  } else if (type == "exited") {
    on_exited(frame);
  } else if (type == "checked") {
    host_.on_checked(id_, frame);
  }
}

void Slot::on_hello(Zygote& zygote, const wire::Json& frame) {
  if (zygote.pid != 0) return;
  zygote.resident = frame.value("resident", std::uint64_t{0});
  pid_t pid = frame.value("pid", 0);
  Result<os::Fd> pidfd = os::open_pidfd(pid);
  bool own = &zygote == own_.get();
  if (!pidfd) {
    own ? on_own_gone() : on_copied(false);
    return;
  }
  zygote.pid = pid;
  zygote.pidfd = std::move(*pidfd);
  [[maybe_unused]] bool grouped = cgroup_.add(pid);
  Status watched = loop_.watch(zygote.pidfd.get(), EPOLLIN, [this, number = zygote.number](std::uint32_t) {
    if (own_ != nullptr && own_->number == number) {
      on_own_gone();
    } else {
      on_scope_gone(number);
    }
  });
  if (!watched) {
    host_.on_broken(id_, watched.error().message());
  } else if (!own) {
    on_copied(true);
  } else if (!shut_) {
    host_.on_idle(id_);
  }
}

// It is no concern of ours any more, whether it lives or not.
void Slot::forget(Zygote& zygote) {
  if (zygote.pidfd.valid()) loop_.unwatch(zygote.pidfd.get());
  if (next_ != nullptr && next_->from == &zygote) next_.reset();
  if (worker_ != nullptr && worker_->from == &zygote) forget_worker();
  if (from_ == &zygote) from_ = own_ != nullptr && own_.get() != &zygote ? own_.get() : nullptr;
}

void Slot::drop_everything() {
  coming_.reset();
  while (!scopes_.empty()) {
    std::unique_ptr<Zygote> zygote = std::move(scopes_.begin()->second);
    scopes_.erase(scopes_.begin());
    os::send_signal(zygote->pidfd, SIGKILL);
    forget(*zygote);
    if (!shut_) host_.on_scope_lost(id_, zygote->scope, zygote->owner);
  }
  if (own_ != nullptr) {
    os::send_signal(own_->pidfd, SIGKILL);
    forget(*own_);
  }
  own_.reset();
  from_ = nullptr;
  if (current_ != nullptr) current_->from = nullptr;
  next_.reset();
  forget_worker();
  retiring_ = false;
}

/// It has gone with its zygote.
void Slot::forget_worker() {
  discarding_ = false;
  if (worker_ == nullptr) return;
  worker_.reset();
  if (shut_) return;
  // Not from inside: this may be in the middle of another slot's affairs.
  loop_.cancel(forget_timer_);
  forget_timer_ = loop_.call_after({}, [this] {
    if (!shut_) tell_discarded();
  });
}

void Slot::on_own_gone() {
  if (own_ == nullptr) return;
  bool had_started = own_->pid != 0;
  own_->channel->drain();  // It may have said that the test had exited before it died itself.
  drop_everything();
  if (shut_) {
    if (current_ != nullptr) finish();
    return;
  }
  if (current_ != nullptr) {
    failed_starts_ = 0;
    // The test's process dies with its zygote (PR_SET_PDEATHSIG); what it had started is the engine's now.
    if (current_->channel) current_->channel->drain();
    os::send_signal(current_->pidfd, SIGKILL);
    host_.kill_strays();
    finish();
    return;
  }
  failed_starts_ = had_started ? failed_starts_ : failed_starts_ + 1;
  if (failed_starts_ >= kMaxFailedStarts) {
    host_.on_broken(id_, "its zygote ended three times before it was ready");
    return;
  }
  ask_for_zygote();
}

void Slot::on_gone(const Zygote& zygote) {
  if (own_ != nullptr && &zygote == own_.get()) {
    on_own_gone();
  } else {
    os::send_signal(zygote.pidfd, SIGKILL);
    on_scope_gone(zygote.number);
  }
}

void Slot::fork_from(Zygote& zygote, const os::Fd& socket, std::function<void(pid_t)> then) {
  zygote.asked.push_back(std::move(then));
  zygote.channel->send({{"t", "fork"}}, {socket.get()});
}

void Slot::fork_process(Zygote& from) {
  auto pair = os::open_channel_pair();
  if (!pair) return;  // begin() tries again, and gives the slot up if there is still no descriptor.
  next_ = std::make_unique<Process>();
  next_->number = ++last_number_;
  next_->from = &from;
  next_->channel = std::make_unique<wire::Channel>(loop_, std::move(pair->first), wire::kTestFrameLimit);
  fork_from(from, pair->second, [this, number = next_->number](pid_t pid) { on_forked(number, pid); });
}

// It reads the end of its socket, and ends.
void Slot::discard_next() {
  if (next_ != nullptr && next_->pid != 0) leaving_.push_back(next_->pid);
  next_.reset();
}

void Slot::on_forked(int number, pid_t pid) {
  Process* process = nullptr;
  for (Process* candidate : {current_.get(), next_.get(), worker_.get()}) {
    if (candidate != nullptr && candidate->number == number) process = candidate;
  }
  if (process == nullptr) {
    leaving_.push_back(pid);
    return;
  }
  process->pid = pid;
  // May fail if it is dead already; its exit is then the next frame, and nothing needs to be sent to it.
  if (Result<os::Fd> pidfd = os::open_pidfd(pid)) process->pidfd = std::move(*pidfd);
  if (process != current_.get()) return;
  if (process->claimed_pid != 0) note_inner(process->claimed_pid);
  send_go();
  if (early_ready_) on_set_up(*std::exchange(early_ready_, std::nullopt));
}

// ---- one test --------------------------------------------------------------------------------------------------------------

/// Makes a fork of `from` the current process. False, with the order given back, if there is none to be had.
bool Slot::take_process(Zygote& from, const Order& order) {
  if (next_ != nullptr && next_->from != &from) discard_next();
  if (next_ == nullptr) fork_process(from);
  if (next_ == nullptr) {
    host_.on_abandoned(order.test, id_);
    host_.on_broken(id_, "no descriptor is left for a test's socket (raise `ulimit -n` or use fewer slots)");
    return false;
  }
  current_ = std::move(next_);
  if (Status started = listen(*current_->channel, current_->number); !started) {
    host_.on_broken(id_, started.error().message());
    return false;
  }
  return true;
}

void Slot::begin(const Order& order, bool fork_next) {
  bool kept = order.reuse && worker_ != nullptr;
  Zygote& from = zygote_of(order.scope);
  if (kept) {
    current_ = std::move(worker_);
  } else if (!take_process(from, order)) {
    return;
  }
  from_ = current_->from;
  // With a worker about, its writes between two tests are lost here: nobody could say to which of them they belong.
  files_.clear();
  announced_.clear();
  start_attempt(order);
  wire::Json go = {{"t", "go"}, {"test", order.test}, {"id", order.id}};
  if (order.reuse) go["reuse"] = true;
  if (!order.look) go["look"] = false;
  if (!order.resources.is_null()) go["resources"] = order.resources;
  if (!order.gpus.is_null()) go["gpus"] = order.gpus;
  if (!order.mpi.is_null()) go["mpi"] = order.mpi;
  go_ = std::move(go);
  pmi_ = order.pmi;
  if (order.memory > 0) {
    memory_group_ = os::MemoryGroup::create(fmt::format("holdfast-{}-{}", ::getpid(), id_), order.memory);
    attempt_.evidence.memory_limit = memory_group_.usable() ? order.memory : 0;
  }
  send_go();
  check_deadline();
  if (fork_next && next_ == nullptr) fork_process(from);
}

void Slot::sample_later() {
  loop_.cancel(sample_timer_);
  sample_timer_ = loop_.call_after(os::seconds(attempt_.usage.interval()), [this] {
    // At a deadline it is about to be killed, and looked at more closely.
    if (current_ == nullptr || current_->pid == 0 || exited_ || ladder_ != Ladder::None) return;
    Sample sample = look(current_->pid);
    sample.at = monotonic() - begun_;
    attempt_.usage.add(sample);
    sample_later();
  });
}

void Slot::send_go() {
  if (current_ == nullptr || !go_) return;
  if (memory_group_.usable() && current_->pid == 0) return;  // Its number comes with the zygote's answer.
  if (memory_group_.usable()) [[maybe_unused]]
    bool added = memory_group_.add(current_->pid);
  std::shared_ptr<os::Fd> with = std::move(pmi_);
  current_->channel->send(*std::exchange(go_, std::nullopt),
                          with != nullptr ? std::vector<int>{with->get()} : std::vector<int>{});
}

void Slot::start_attempt(const Order& order) {
  attempt_ = Attempt{};
  attempt_.test = order.test;
  attempt_.slot = id_;
  attempt_.reused = order.reuse;
  begun_ = monotonic();
  begun_wall_ = loop_.clock().wall();
  hung_up_at_ = 0;
  test_limit_ = order.limit;
  exited_ = false;
  asked_ = false;
  early_ready_.reset();
  kept_ = false;
  sample_later();
  look_for_crash();
  own_stacks_ = 0;
  stopping_ = false;
  ladder_ = Ladder::None;
}

void Slot::on_test_frame(wire::Json frame) {
  const auto type = frame.find("t");
  if (attempt_.reused && ends_or_asks(frame) && frame.value("test", SIZE_MAX) != attempt_.test) {
    // A test that wrote to its worker's socket: from then on the worker and the engine would talk of different tests, and each
    // wait for the other.
    on_test_hung_up("a frame that is not of this test");
  } else if (type != frame.end() && *type == "report" && frame.contains("report") && frame["report"].is_object()) {
    attempt_.reports.push_back(std::move(frame["report"]));
  } else if (type != frame.end() && *type == "ask" && attempt_.reused && !asked_ && announced_.empty()) {
    asked_ = true;
    if (ladder_ == Ladder::None) {
      host_.on_ask(id_);
    } else {
      answer({}, false);
    }
  } else if (type != frame.end() && *type == "done" && frame.contains("verdict") && frame["verdict"].is_string()) {
    attempt_.evidence.done = true;
    attempt_.evidence.pytest_verdict = frame["verdict"].get<std::string>();
    // A test without much to say says it all at its end.
    if (auto reports = frame.find("reports"); reports != frame.end() && reports->is_array()) {
      for (wire::Json& report : *reports) {
        if (report.is_object()) attempt_.reports.push_back(std::move(report));
      }
      frame.erase(reports);
    }
    attempt_.evidence.leaks = read_leaks(frame);
    attempt_.evidence.batched = frame.value("batched", false);
    attempt_.own_seconds = wire::number(frame, "seconds", -1);
    attempt_.evidence.interrupted = frame.value("interrupted", false);
    if (auto program = frame.find("program"); program != frame.end() && program->is_object()) {
      double status = wire::number(*program, "status", 0);
      attempt_.evidence.program = exit_of_wait_status(status > 0 && status <= UINT16_MAX ? static_cast<int>(status) : 0);
      // It was read from our files already, to see what the program says of its test.
      if (auto output = program->find("output"); output != program->end() && output->is_string()) attempt_.out = *output;
      if (auto stacks = program->find("stacks"); stacks != program->end() && stacks->is_string()) attempt_.stacks = *stacks;
    }
    if (auto used = frame.find("usage"); attempt_.reused && used != frame.end() && used->is_object()) {
      attempt_.usage.user = wire::number(*used, "user", 0);
      attempt_.usage.system = wire::number(*used, "system", 0);
    }
    attempt_.done = std::move(frame);
    // A rank that is kept has something to settle with the others first, which may never come to it.
    if (attempt_.reused && !attempt_.done.value("unsettled", false)) on_done_in_worker();
  } else if (type != frame.end() && *type == "settled" && attempt_.reused && attempt_.evidence.done) {
    std::vector<Leak> more = read_leaks(frame);
    attempt_.evidence.leaks.insert(attempt_.evidence.leaks.end(), more.begin(), more.end());
    attempt_.spent = frame.value("spent", false);
    on_done_in_worker();
  } else if (type != frame.end() && *type == "ready" && attempt_.scope >= 0 && !attempt_.tearing_down) {
    on_set_up(frame);
  } else if (type != frame.end() && *type == "at") {
    note_inner(frame.value("pid", 0));
  } else if (type != frame.end() && (*type == "left" || *type == "opened" || *type == "closed") && frame.contains("node")) {
    host_.on_node(id_, attempt_.test, *type, frame.value("node", ""));
  } else if (attempt_.tearing_down && type != frame.end() && (*type == "forked" || *type == "exited" || *type == "checked")) {
    // What it had been asked before it was told to tear down.
    if (*type == "forked") leaving_.push_back(frame.value("pid", 0));
  } else {
    on_test_hung_up("a frame of an unknown kind");
  }
}

/// The tool that it runs under is its parent: what is to stop or to explain itself is the test.
void Slot::note_inner(pid_t pid) {
  current_->claimed_pid = pid;
  if (current_->pid == 0) return;  // Its own number is not known yet; on_forked() comes back to it.
  std::vector<pid_t> below = os::descendants_of(current_->pid);
  if (std::find(below.begin(), below.end(), pid) == below.end()) return;
  if (Result<os::Fd> pidfd = os::open_pidfd(pid)) {
    current_->inner = std::move(*pidfd);
    current_->inner_pid = pid;
  }
}

void Slot::on_test_hung_up(const std::string& problem) {
  if (problem.empty()) {
    if (!attempt_.evidence.done) hung_up_at_ = monotonic();
    return;
  }
  // What it says can no longer be understood, so it cannot end well any more.
  if (attempt_.evidence.problem.empty()) attempt_.evidence.problem = problem;
  if (!exited_) climb(Ladder::Killed);
}

void Slot::on_exited(const wire::Json& frame) {
  pid_t pid = frame.value("pid", 0);
  int status = frame.value("status", 0);
  leaving_.erase(std::remove(leaving_.begin(), leaving_.end(), pid), leaving_.end());
  if (next_ != nullptr && next_->pid == pid) {
    next_.reset();
    return;
  }
  if (worker_ != nullptr && worker_->pid == pid) {
    on_worker_gone(status);
    return;
  }
  if (current_ == nullptr || current_->pid != pid || exited_) return;
  exited_ = true;
  loop_.cancel(timer_);
  if (kept_ && host_.on_released) host_.on_released(id_);
  postmortem_.cancel();
  current_->channel->drain();
  attempt_.evidence.exit = exit_of_wait_status(status);
  std::uint64_t peak = frame.value("maxrss", std::uint64_t{0}) << 10U;
  if (!attempt_.reused) {
    constexpr std::uint64_t kBlock = 512;  // What getrusage(2) counts storage in.
    attempt_.usage.user = frame.value("user", 0.0) * 1e-6;
    attempt_.usage.system = frame.value("system", 0.0) * 1e-6;
    attempt_.usage.read = frame.value("in", std::uint64_t{0}) * kBlock;
    attempt_.usage.written = frame.value("out", std::uint64_t{0}) * kBlock;
  }
  attempt_.usage.peak = peak;
  std::uint64_t before = from_ != nullptr ? from_->resident : 0;
  if (!attempt_.reused && before > 0) attempt_.memory = peak - std::min(peak, before);
  // Every exit closes the socket a moment before its status is known; only one that was closed long before says something.
  attempt_.evidence.hung_up = hung_up_at_ > 0 && monotonic() - hung_up_at_ > 0.05;
  look_for_survivors(loop_.clock().now() + os::seconds(kSurvivorGrace));
}

// ---- after the test --------------------------------------------------------------------------------------------------------

/// What the tool has written since the test began, and how much of that while it ran; all of it where the test could not tell.
Findings Slot::findings_of(const wire::Json& done) const {
  Findings found;
  found.text = os::read_tail(files_.findings.get(), kMaxFindings);
  found.end = found.text.size();
  auto span = done.find("tool_log");
  if (span != done.end() && span->is_array() && span->size() == 2 && found.text.size() < kMaxFindings) {
    auto at = [&](std::size_t i) {
      const wire::Json& value = (*span)[i];
      return std::min<std::size_t>(value.is_number_unsigned() ? value.get<std::size_t>() : 0, found.text.size());
    };
    found.end = std::max(at(0), at(1)) - at(0);
    // Nothing since: then what it has said before.
    found.text.erase(0, at(0) < found.text.size() ? at(0) : 0);
    if (found.text.size() > kOutputTail) found.text.resize(kOutputTail);
  } else if (found.text.size() > kOutputTail) {
    found.text.erase(0, found.text.size() - kOutputTail);
    found.end = found.text.size();
  }
  found.end = std::min(found.end, found.text.size());
  return found;
}

void Slot::signal_test(int signal) { os::send_signal(current_->inner.valid() ? current_->inner : current_->pidfd, signal); }

bool Slot::is_ours(pid_t pid) const {
  auto among = [pid](const std::vector<pid_t>& pids) { return std::find(pids.begin(), pids.end(), pid) != pids.end(); };
  return (current_ != nullptr && pid == current_->pid) || (next_ != nullptr && pid == next_->pid) ||
         (worker_ != nullptr && pid == worker_->pid) || among(leaving_) || (from_ != nullptr && among(from_->residents)) ||
         host_.is_zygote(pid);
}

/// Kills what the test that has just ended, or is to end, has started.
void Slot::kill_below() {
  if (from_ != nullptr && from_->pid > 0) os::kill_descendants(from_->pid, [this](pid_t pid) { return is_ours(pid); });
}

namespace {

// multiprocessing's, which has the other end of a pipe to the test's process.
bool is_resource_tracker(pid_t pid) {
  return os::command_line(pid).find("multiprocessing.resource_tracker") != std::string::npos;
}

}  // namespace

// /proc counts in hundredths of a second, rounded down.
bool Slot::began_with_test(pid_t pid) const { return os::start_time(pid) >= begun_ - 0.01; }

std::vector<pid_t> Slot::survivors() const {
  std::vector<pid_t> found;
  if (from_ == nullptr || from_->pid == 0) return found;
  // The zygote is a subreaper and the test's process is gone, so whatever the test left is a child of the zygote now (or of
  // such a child), however often it has forked and called setsid.
  for (pid_t pid : os::children_of(from_->pid)) {
    if (is_ours(pid)) continue;
    // A process that is being forked ahead, and whose number has not reached us yet.
    if (!from_->asked.empty()) continue;
    // Beside a kept worker, what was there before this test is the worker's.
    if (current_ != nullptr && worker_ != nullptr && !began_with_test(pid)) continue;
    if (os::is_running(pid)) found.push_back(pid);
  }
  return found;
}

void Slot::look_for_survivors(os::Time give_up) {
  bool forking = from_ != nullptr && !from_->asked.empty();
  std::vector<pid_t> left = survivors();
  if (left.empty() && !forking) {
    finish();
    return;
  }
  if (forking && loop_.clock().now() > give_up + os::seconds(5)) {
    on_gone(*from_);  // It does not answer: a test can stop its zygote with a signal.
    return;
  }
  os::Time now = loop_.clock().now();
  // It begins with the first shared memory of a test, ends when that has ended, and is slow at both on a busy machine.
  auto ends_itself = [&] {
    return now < give_up + os::seconds(kTrackerGrace) && std::all_of(left.begin(), left.end(), is_resource_tracker);
  };
  if (now < give_up || forking || ends_itself()) {
    after(forking ? 0.001 : 0.01, [this, give_up] { look_for_survivors(give_up); });
    return;
  }
  for (pid_t pid : left) {
    // All of it is killed, but what earlier tests of a worker had left is not charged to the one in which it died.
    if (attempt_.reused && !began_with_test(pid)) continue;
    attempt_.evidence.survivors.push_back(describe_survivor(pid));
    for (pid_t below : os::descendants_of(pid)) attempt_.evidence.survivors.push_back(describe_survivor(below));
  }
  wait_for_kill(0);
}

void Slot::wait_for_kill(int tries) {
  if (survivors().empty()) {
    finish();
    return;
  }
  if (tries < 50) {
    kill_below();
    after(0.005, [this, tries] { wait_for_kill(tries + 1); });
    return;
  }
  kill_tree();
}

Attempt Slot::take_attempt() {
  read_stream();
  attempt_.duration = attempt_.own_seconds >= 0 ? attempt_.own_seconds : monotonic() - begun_;
  attempt_.evidence.slate = slate();
  loop_.cancel(sample_timer_);
  return std::exchange(attempt_, Attempt{});
}

void Slot::finish() {
  loop_.cancel(timer_);
  postmortem_.cancel();
  std::unique_ptr<Process> ended = std::move(current_);
  // The zygote was killed too, and may have told of the test's end before it died: nothing more is begun there.
  if (std::exchange(group_killed_, false)) drop_everything();
  std::deque<Order> promised = std::exchange(announced_, {});
  attempt_.pid = ended != nullptr ? ended->pid : 0;
  if (attempt_.reused) attempt_.before = std::move(ended->ran);
  Attempt attempt = take_attempt();
  if (memory_group_.usable()) {
    attempt.evidence.memory_kills = memory_group_.kills();
    attempt.evidence.memory_peak = memory_group_.peak();
    memory_group_ = os::MemoryGroup();
  }
  // Nobody told, so its own words are missing.
  if (!attempt.evidence.done && ended != nullptr) {
    attempt.evidence.leaks = clear_leavings(files_.trail(), ended->pid, begun_wall_);
  }
  if (!attempt.evidence.program) attempt.stacks = os::read_tail(files_.stacks.get(), kStacksTail);
  if (own_stacks_ > 0 && attempt.stacks.size() > own_stacks_) attempt.stacks.resize(own_stacks_);
  if (!attempt.evidence.program) attempt.out = os::read_tail(files_.out.get(), kOutputTail);
  attempt.err = os::read_tail(files_.err.get(), kOutputTail);
  attempt.findings = findings_of(attempt.done);
  // Interrupted from outside: that is nobody's verdict. A test that had finished by itself all the same keeps its own; one that
  // had only said so, and whose end nobody saw, does not: we may have killed it.
  bool finished_anyway = attempt.evidence.done && attempt.evidence.exit && ladder_ == Ladder::None;
  if (stopping_ && !finished_anyway && !attempt.tearing_down) {
    host_.on_abandoned(attempt.test, id_);
  } else {
    host_.on_finished(std::move(attempt));
  }
  // It had been told which tests come next, and cannot run them any more. What is put back last is taken first.
  for (; !promised.empty(); promised.pop_back()) host_.on_abandoned(promised.back().test, id_);
  if (shut_) return;
  if (own_ == nullptr) {
    ask_for_zygote();
  } else if (own_->pid > 0) {
    host_.on_idle(id_);
  }
}

void Slot::read_stream() {
  char buffer[65536];
  for (;;) {
    ssize_t n = ::read(stream_read_.get(), buffer, sizeof buffer);
    if (n <= 0) return;
    std::string text(buffer, static_cast<std::size_t>(n));
    attempt_.stream += text;
    if (attempt_.stream.size() > 2 * kOutputTail) attempt_.stream.erase(0, attempt_.stream.size() - kOutputTail);
    host_.on_output(id_, text);
  }
}

}  // namespace holdfast::run
