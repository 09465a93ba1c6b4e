// Postmortem: what the processes of a hanging test are doing, before anything is killed. Runs python/holdfast/diagnose.py, a
// program outside of the test, and takes what it has said when its time is over: a look at a process must not hang the engine.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "os/loop.h"
#include "os/sys.h"
#include "wire/channel.h"

namespace holdfast::run {

/// How that program is started; nothing is looked at without `argv`.
struct Examiner {
  std::vector<std::string> argv;
  std::vector<std::string> env;
  std::string cwd = "/";
};

class Postmortem {
 public:
  /// A list of objects, one a process (protocol/result.md, `processes`).
  using Then = std::function<void(wire::Json processes)>;

  explicit Postmortem(os::Loop& loop) : loop_(loop) {}
  ~Postmortem() { cancel(); }
  Postmortem(const Postmortem&) = delete;
  Postmortem& operator=(const Postmortem&) = delete;

  /// Looks at `pids`, the first of which has written its Python stacks to the file `stacks` already. Calls `then` once, after
  /// two seconds at most; at once, from the loop, where nothing can be started. Not while it looks.
  void start(const Examiner& examiner, const std::vector<pid_t>& pids, int stacks, Then then);
  /// Ends the program; `then` is not called.
  void cancel();
  [[nodiscard]] bool looks() const { return then_ != nullptr; }
  /// Whether a process is that program.
  [[nodiscard]] bool owns(pid_t pid) const { return pid > 0 && pid == pid_; }

 private:
  void finish();

  os::Loop& loop_;
  os::Fd output_;
  os::Fd pidfd_;
  pid_t pid_ = 0;
  os::TimerId timer_ = 0;
  Then then_;
};

}  // namespace holdfast::run
