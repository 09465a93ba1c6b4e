#include "run/root.h"

#include <signal.h>

#include <algorithm>

#include "os/procfs.h"

namespace holdfast::run {

namespace {

constexpr int kMaxBlindRestarts = 1;
constexpr std::size_t kTail = std::size_t{64} << 10U;
// Descriptor number of a cold zygote's socket (python/holdfast/zygote.py).
constexpr int kColdSocket = 3;

}  // namespace

Root::Root(os::Loop& loop, const Limits& limits, RootHost host)
    : loop_(loop), limits_(limits), host_(std::move(host)), postmortem_(loop) {}

Root::~Root() { loop_.cancel(deadline_); }

Status Root::open() {
  Result<ProcessFiles> files = ProcessFiles::open();
  if (!files) return tl::unexpected<Error>(files.error());
  files_ = std::move(*files);
  return {};
}

Status Root::adopt(pid_t pid, os::Fd socket, const wire::Json& environment) {
  pid_ = pid;
  if (Result<os::Fd> pidfd = os::open_pidfd(pid)) pidfd_ = std::move(*pidfd);
  os::set_nonblocking(socket.get());
  channel_ = std::make_unique<wire::Channel>(loop_, std::move(socket), wire::kTrustedFrameLimit);
  HOLDFAST_TRY(channel_->start([this](const wire::Json& frame) { on_frame(frame); },
                               [this](const std::string& problem) {
                                 problem_ = problem;
                                 on_hung_up();
                               }));
  files_.clear();
  channel_->send({{"t", "start"}, {"v", wire::kProtocolVersion}, {"env", environment}, {"skip", skipped_}, {"config", start_}},
                 files_.descriptors());
  return {};
}

void Root::configure(std::vector<std::string> argv, std::vector<std::string> env, std::string cwd, wire::Json start) {
  argv_ = std::move(argv);
  env_ = std::move(env);
  cwd_ = std::move(cwd);
  start_ = std::move(start);
  configured_ = true;
  arm_collect_deadline();
  if (dead_before_configured_ || pid_ == 0) restart_or_fail();
}

void Root::start_cold() {
  auto pair = os::open_channel_pair();
  if (!pair) {
    host_.on_failed("died", pair.error().message());
    return;
  }
  std::vector<std::string> argv = argv_;
  argv.emplace_back("--root");
  Result<pid_t> pid =
      os::spawn(argv, env_, cwd_, {{1, files_.out.get()}, {2, files_.err.get()}, {kColdSocket, pair->second.get()}});
  if (!pid) {
    host_.on_failed("died", pid.error().message());
    return;
  }
  collecting_.clear();
  timed_out_.reset();
  ready_ = false;
  problem_.clear();
  if (Status status = adopt(*pid, std::move(pair->first), wire::Json::object()); !status) {
    host_.on_failed("died", status.error().message());
  }
  arm_collect_deadline();
}

void Root::on_frame(const wire::Json& frame) {
  const std::string type = frame.value("t", "");
  if (type == "collecting") {
    collecting_.push_back(frame.value("id", ""));
    arm_collect_deadline();
  } else if (type == "collected") {
    if (!collecting_.empty()) collecting_.pop_back();
    arm_collect_deadline();
  } else if (type == "ready") {
    ready_ = true;
    loop_.cancel(deadline_);
    host_.on_ready(frame);
  } else if (type == "usage" || type == "internal") {
    failed_ = true;
    host_.on_failed(type, frame.value("text", ""));
  } else if (type != "hello" && type != "forked" && type != "exited") {
    host_.relay(frame);
  }
}

void Root::on_hung_up() {
  // A zygote without its channel is of no use, alive or not (a module may have closed all descriptors while it was imported).
  if (!finishing_) os::send_signal(pidfd_, SIGKILL);
}

void Root::arm_collect_deadline() {
  loop_.cancel(deadline_);
  if (ready_ || !configured_ || limits_.collect <= 0) return;
  deadline_ = loop_.call_after(os::seconds(limits_.collect), [this] { on_collect_deadline(); });
}

void Root::on_collect_deadline() {
  timed_out_ = Phase::Idle;
  os::send_signal(pidfd_, kStackSignal);
  // The stacks are written within milliseconds, or never: an import that holds a lock cannot keep faulthandler from it.
  deadline_ = loop_.call_after(os::seconds(0.1), [this] {
    own_stacks_ = os::file_size(files_.stacks.get());
    std::vector<pid_t> pids{pid_};
    for (pid_t below : os::descendants_of(pid_)) pids.push_back(below);
    postmortem_.start(host_.examiner(), pids, files_.stacks.get(), [this](wire::Json found) {
      processes_ = std::move(found);
      os::send_signal(pidfd_, SIGKILL);
    });
  });
}

bool Root::on_child_exit(pid_t pid, int status) {
  spawners_.erase(pid);
  if (pid != pid_) return false;
  if (channel_) channel_->drain();
  postmortem_.cancel();
  pid_ = 0;
  loop_.cancel(deadline_);
  channel_.reset();
  pidfd_.reset();
  if (finishing_) {
    host_.on_finished();
    return true;
  }
  if (failed_) return true;
  if (ready_) {
    ready_ = false;  // The slots' zygotes live on; see revive().
    return true;
  }
  if (!configured_) {
    dead_before_configured_ = true;
    return true;
  }
  if (!collecting_.empty()) {
    FatalModule module;
    module.id = collecting_.back();
    module.evidence.exit = exit_of_wait_status(status);
    module.evidence.timed_out = timed_out_;
    module.evidence.limit = limits_.collect;
    module.evidence.slate = files_.slate();
    module.stacks = os::read_tail(files_.stacks.get(), kTail);
    if (own_stacks_ > 0 && module.stacks.size() > own_stacks_) module.stacks.resize(own_stacks_);
    own_stacks_ = 0;
    module.processes = std::exchange(processes_, wire::Json::array());
    module.out = os::read_tail(files_.out.get(), kTail);
    module.err = os::read_tail(files_.err.get(), kTail);
    skipped_.push_back(module.id);
    host_.on_fatal(std::move(module));
    host_.on_restart();
    start_cold();
    return true;
  }
  restart_or_fail();
  return true;
}

void Root::restart_or_fail() {
  if (blind_restarts_++ >= kMaxBlindRestarts) {
    failed_ = true;
    std::string said = os::read_tail(files_.err.get(), kTail);
    host_.on_failed("died", "the root zygote ended while no module was being imported" + (said.empty() ? "" : ":\n" + said));
    return;
  }
  host_.on_restart();
  start_cold();
}

void Root::revive() {
  if (pid_ == 0 && !failed_) restart_or_fail();
}

void Root::start_slot_zygote(int slot, const os::Fd& socket, bool forkable, bool keeper) {
  if (forkable) {
    if (channel_) channel_->send({{"t", "zygote"}, {"slot", slot}, {"keeper", keeper}}, {socket.get()});
    return;
  }
  std::vector<std::string> argv = argv_;
  argv.emplace_back("--spawner");
  // Where it cannot be started, the slot's end of the socket reads end of file, and the slot counts a failed start.
  if (Result<pid_t> pid = os::spawn(argv, env_, cwd_, {{kColdSocket, socket.get()}})) spawners_.insert(*pid);
}

void Root::finish(int exit_status, double limit) {
  finishing_ = true;
  if (pid_ == 0 || !channel_) {
    host_.on_finished();
    return;
  }
  if (!ready_) {
    kill();  // It is still importing something: there is no session to finish.
    return;
  }
  channel_->send({{"t", "finish"}, {"exitstatus", exit_status}});
  loop_.cancel(deadline_);
  deadline_ = loop_.call_after(os::seconds(limit), [this] { kill(); });
}

void Root::kill() { os::send_signal(pidfd_, SIGKILL); }

}  // namespace holdfast::run
