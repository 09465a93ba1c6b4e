#include "run/postmortem.h"

#include <signal.h>
#include <sys/epoll.h>

#include <map>
#include <sstream>

namespace holdfast::run {

namespace {

// Seconds; a little more than the program gives to itself.
constexpr double kLimit = 2.0;
constexpr std::size_t kMaxOutput = std::size_t{2} << 20U;
// Where the program finds the file for Python stacks.
constexpr int kStacks = 3;

// A line is an object about one process; a later one of the same process says more.
wire::Json read_lines(const std::string& text) {
  std::map<pid_t, wire::Json> latest;
  std::vector<pid_t> order;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    wire::Json object = wire::Json::parse(line, nullptr, false);
    if (!object.is_object()) continue;  // The last one, cut short.
    pid_t pid = object.value("pid", 0);
    if (latest.count(pid) == 0) order.push_back(pid);
    latest[pid] = std::move(object);
  }
  wire::Json processes = wire::Json::array();
  for (pid_t pid : order) processes.push_back(std::move(latest[pid]));
  return processes;
}

}  // namespace

void Postmortem::start(const Examiner& examiner, const std::vector<pid_t>& pids, int stacks, Then then) {
  then_ = std::move(then);
  Result<os::Fd> output = os::open_memfd("holdfast-postmortem", 0);
  if (examiner.argv.empty() || pids.empty() || !output) {
    timer_ = loop_.call_after({}, [this] { finish(); });
    return;
  }
  output_ = std::move(*output);
  std::vector<std::string> argv = examiner.argv;
  argv.insert(argv.end(), {"--stacks-fd", std::to_string(kStacks), "--asked", std::to_string(pids.front())});
  for (pid_t pid : pids) argv.push_back(std::to_string(pid));
  Result<pid_t> pid = os::spawn(argv, examiner.env, examiner.cwd, {{1, output_.get()}, {kStacks, stacks}});
  if (pid) {
    pid_ = *pid;
    if (Result<os::Fd> pidfd = os::open_pidfd(pid_)) pidfd_ = std::move(*pidfd);
  }
  if (!pidfd_.valid() || !loop_.watch(pidfd_.get(), EPOLLIN, [this](std::uint32_t) { finish(); })) pidfd_.reset();
  timer_ = loop_.call_after(pidfd_.valid() ? os::seconds(kLimit) : os::Duration{}, [this] { finish(); });
}

void Postmortem::cancel() {
  loop_.cancel(timer_);
  if (pidfd_.valid()) {
    loop_.unwatch(pidfd_.get());
    os::send_signal(pidfd_, SIGKILL);
    pidfd_.reset();
  }
  pid_ = 0;
  output_.reset();
  then_ = nullptr;
}

void Postmortem::finish() {
  wire::Json processes = output_.valid() ? read_lines(os::read_tail(output_.get(), kMaxOutput)) : wire::Json::array();
  Then then = std::move(then_);
  cancel();
  then(std::move(processes));
}

}  // namespace holdfast::run
