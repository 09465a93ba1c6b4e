#include "wire/helper_process.h"

#include <poll.h>
#include <signal.h>

#include <utility>

namespace holdfast::wire {

namespace {

constexpr int kMostStarts = 3;
constexpr int kSocket = 3;  // Where it finds it.

}  // namespace

HelperProcess::~HelperProcess() {
  if (pidfd_.valid()) os::send_signal(pidfd_, SIGKILL);
}

bool HelperProcess::start(std::vector<std::string> arguments, Channel::OnFrame on_frame, Channel::OnEnd on_end) {
  arguments.insert(arguments.begin(), os::own_program());
  return start_program(std::move(arguments), std::move(on_frame), std::move(on_end));
}

bool HelperProcess::start_program(std::vector<std::string> argv, Channel::OnFrame on_frame, Channel::OnEnd on_end) {
  if (starts_++ >= kMostStarts) return false;
  Result<std::pair<os::Fd, os::Fd>> pair = os::open_channel_pair();
  if (!pair) return false;
  argv.insert(argv.end(), {"--fd", std::to_string(kSocket)});
  Result<pid_t> pid = os::spawn(argv, os::own_environment(), "/", {{2, 2}, {kSocket, pair->second.get()}});
  if (!pid) return false;
  pid_ = *pid;
  if (Result<os::Fd> pidfd = os::open_pidfd(pid_)) pidfd_ = std::move(*pidfd);
  channel_ = std::make_unique<Channel>(loop_, std::move(pair->first), kTrustedFrameLimit);
  if (channel_->start(std::move(on_frame), std::move(on_end))) return true;
  stop();
  return false;
}

std::shared_ptr<Channel> HelperProcess::stop() {
  if (pidfd_.valid()) os::send_signal(pidfd_, SIGKILL);
  pidfd_.reset();
  pid_ = 0;
  return std::move(channel_);
}

void HelperProcess::end() {
  if (!pidfd_.valid()) return;
  os::send_signal(pidfd_, SIGKILL);
  pollfd gone{pidfd_.get(), POLLIN, 0};
  ::poll(&gone, 1, 1000);
  stop();
}

}  // namespace holdfast::wire
