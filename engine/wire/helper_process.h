// HelperProcess: a process of our own that does what may hang, crash or start threads, with a channel to it: this program again
// (`holdfast gpu-helper`, `holdfast pmix-helper`) or another.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "os/loop.h"
#include "os/sys.h"
#include "wire/channel.h"

namespace holdfast::wire {

class HelperProcess {
 public:
  explicit HelperProcess(os::Loop& loop) : loop_(loop) {}
  ~HelperProcess();
  HelperProcess(const HelperProcess&) = delete;
  HelperProcess& operator=(const HelperProcess&) = delete;

  [[nodiscard]] bool runs() const { return channel_ != nullptr; }
  [[nodiscard]] bool owns(pid_t pid) const { return pid > 0 && pid == pid_; }
  /// Starts it with this subcommand and options, and `--fd`. `on_end`: it has gone, or said what nobody understands; then
  /// stop() is to be called. False if it cannot be started, or has been three times.
  bool start(std::vector<std::string> arguments, Channel::OnFrame on_frame, Channel::OnEnd on_end);
  /// The same with another program.
  bool start_program(std::vector<std::string> argv, Channel::OnFrame on_frame, Channel::OnEnd on_end);
  void send(const Json& frame) {
    if (channel_ != nullptr) channel_->send(frame);
  }
  [[nodiscard]] pid_t pid() const { return pid_; }
  /// What was sent is written, within `timeout_ms`.
  void flush(int timeout_ms) {
    if (channel_ != nullptr) channel_->flush(timeout_ms);
  }
  /// Kills it. Its channel may be what has called: the caller keeps it until that call has returned.
  std::shared_ptr<Channel> stop();
  /// Kills it, and waits until it is gone (a second at most): what it writes can be removed then. Not from its channel's calls.
  void end();

 private:
  os::Loop& loop_;
  std::unique_ptr<Channel> channel_;
  pid_t pid_ = 0;
  os::Fd pidfd_;
  int starts_ = 0;
};

}  // namespace holdfast::wire
