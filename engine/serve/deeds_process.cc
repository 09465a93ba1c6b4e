// Faults of processes: killed, stopped, or slowed down by being stopped for a part of the time.
#include <fmt/format.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>

#include "os/procfs.h"
#include "os/sys.h"
#include "serve/container.h"
#include "serve/deeds.h"
#include "serve/undo.h"

namespace holdfast::serve {

namespace {

struct Process {
  pid_t pid = 0;
  Json identity;
  os::Fd fd;
};

class Signalled : public Deed {
 public:
  explicit Signalled(std::vector<Process> processes) : processes_(std::move(processes)) {}

  std::vector<Change> changes() override {
    std::vector<Change> changes;
    for (const Process& process : processes_) {
      Change change;
      change.what = fmt::format("process {} ({}) is stopped", process.pid, os::command_line(process.pid));
      change.undo = process.identity;
      change.undo["do"] = "continue";
      changes.push_back(std::move(change));
    }
    return changes;
  }

 protected:
  bool send(int signal) {
    bool sent = false;
    for (const Process& process : processes_) sent |= os::send_signal(process.fd, signal);
    return sent;
  }
  Json states() const {
    Json states = Json::object();
    for (const Process& process : processes_) {
      char state = is_same(process.identity) ? os::process_state(process.pid) : 0;
      states[std::to_string(process.pid)] = state == 0 ? "gone" : std::string(1, state);
    }
    return states;
  }
  std::vector<Process> processes_;
};

class Killed : public Signalled {
 public:
  using Signalled::Signalled;
  std::vector<Change> changes() override {
    std::vector<Change> changes = Signalled::changes();
    for (Change& change : changes) {
      change.what = fmt::format("process {} is killed", change.undo.value("pid", 0));
      change.undo = {{"do", "nothing"}, {"why", "what is dead stays dead"}};
    }
    return changes;
  }
  Status trigger() override {
    if (!send(SIGKILL)) return fail(ErrorKind::GiveUpTest, "kill it: it has ended");
    return {};
  }
  Json verify() override {
    Json states = this->states();
    bool gone = std::all_of(states.begin(), states.end(), [](const Json& state) { return state == "gone" || state == "Z"; });
    return {{"verified", gone}, {"evidence", {{"states", states}}}};
  }
};

class Stopped : public Signalled {
 public:
  using Signalled::Signalled;
  Status trigger() override {
    if (!send(SIGSTOP)) return fail(ErrorKind::GiveUpTest, "stop it: it has ended");
    return {};
  }
  Json verify() override {
    Json states = this->states();
    bool stopped = std::all_of(states.begin(), states.end(), [](const Json& state) { return state == "T"; });
    return {{"verified", stopped}, {"evidence", {{"states", states}}}};
  }
};

// A tick is about 50 ms; of every ten, so many are spent stopped as the percentage says.
class Slowed : public Signalled {
 public:
  Slowed(std::vector<Process> processes, double percent) : Signalled(std::move(processes)), ticks_(std::lround(percent / 10)) {
    ticks_ = std::clamp<long>(ticks_, 1, 9);
  }
  Status trigger() override {
    on_ = true;
    if (!send(SIGSTOP)) return fail(ErrorKind::GiveUpTest, "slow it down: it has ended");
    ++stops_;
    return {};
  }
  void tick() override {
    if (!on_) return;
    ++now_;
    if (now_ % 10 == ticks_) send(SIGCONT);
    if (now_ % 10 == 0) {
      send(SIGSTOP);
      ++stops_;
    }
  }
  void stop() override { on_ = false; }
  Json verify() override {
    Json states = this->states();
    bool there = std::any_of(states.begin(), states.end(), [](const Json& state) { return state != "gone"; });
    return {{"verified", there && stops_ > 0}, {"evidence", {{"states", states}, {"stops", stops_}}}};
  }

 private:
  long ticks_;
  long now_ = 0;
  std::int64_t stops_ = 0;
  bool on_ = false;
};

bool is_ours(pid_t pid) {
  for (pid_t self = ::getpid(); self > 0; self = os::parent_of(self)) {
    if (self == pid) return true;
  }
  return false;
}

Result<Process> take(pid_t pid) {
  if (pid == 1 || is_ours(pid)) {
    return fail(ErrorKind::UserMistake, fmt::format("pid: {} is this service, or what it runs under", pid));
  }
  Process process;
  process.pid = pid;
  Result<os::Fd> fd = os::open_pidfd(pid);
  if (!fd || !os::is_running(pid)) return fail(ErrorKind::GiveUpTest, fmt::format("pid: there is no process {}", pid));
  if (::kill(pid, 0) != 0) return fail(ErrorKind::UserMistake, fmt::format("pid: process {} is not ours to signal", pid));
  process.fd = std::move(*fd);
  process.identity = identify(pid);
  return process;
}

}  // namespace

Result<std::unique_ptr<Deed>> make_process_deed(const Json& body, std::string& type, std::string& target) {
  std::string problem;
  auto pid = static_cast<pid_t>(number_of(body, "pid", 0, 0, 4194304, problem));
  std::string action = text_of(body, "action", "", problem);
  double percent = number_of(body, "percent", 50, 1, 99, problem);
  bool tree = flag_of(body, "tree", false, problem);
  std::string container = text_of(body, "container", "", problem);
  if (problem.empty() && pid == 0) problem = "pid: which process?";
  if (problem.empty() && !container.empty() && container_id(container).empty()) {
    problem = fmt::format("container: '{}' is no id of one", container);
  }
  if (problem.empty() && action != "kill" && action != "stop" && action != "slow") {
    problem = fmt::format("action: '{}' is none of kill, stop, slow", action);
  }
  if (problem.empty() && body.contains("percent") && action != "slow") problem = "percent: only for action slow";
  if (!problem.empty()) return fail(ErrorKind::UserMistake, problem);
  std::string where;
  if (!container.empty()) {
    Result<pid_t> outer = process_in_container(container_id(container), pid);
    if (!outer) return tl::unexpected(outer.error());
    where = fmt::format(" ({} in the container {})", pid, container_id(container).substr(0, 12));
    pid = *outer;
  }
  std::vector<pid_t> pids{pid};
  if (tree) {
    std::vector<pid_t> below = os::descendants_of(pid);
    pids.insert(pids.end(), below.begin(), below.end());
  }
  std::vector<Process> processes;
  for (pid_t one : pids) {
    Result<Process> process = take(one);
    if (!process && one == pid) return tl::unexpected(process.error());
    if (process) processes.push_back(std::move(*process));
  }
  type = "process_" + action;
  target = fmt::format("process {}{}{}", pid, where,
                       processes.size() > 1 ? fmt::format(" and {} below it", processes.size() - 1) : "");
  if (action == "kill") return std::unique_ptr<Deed>(new Killed(std::move(processes)));
  if (action == "stop") return std::unique_ptr<Deed>(new Stopped(std::move(processes)));
  return std::unique_ptr<Deed>(new Slowed(std::move(processes), percent));
}

}  // namespace holdfast::serve
