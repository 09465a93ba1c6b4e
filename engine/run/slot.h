// Slot: the place where one test runs at a time. Owns its zygote, the test's process, and the next one, forked ahead of need.
//
// It promises:
// - a test that was begun ends in exactly one call of `on_finished`, or of `on_abandoned` after stop();
// - at a deadline: stacks, SIGINT and a grace, SIGTERM, SIGKILL of everything the test started; the slot never waits for more
//   than that, whatever the test does;
// - nothing that a test started is alive when on_finished is called, and each such process is named in the evidence;
// - a zygote that dies is replaced; a slot that cannot get one three times in a row calls `on_broken`.
// The states are in docs/design/slot.md.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "os/cgroup.h"
#include "os/loop.h"
#include "os/sys.h"
#include "run/files.h"
#include "run/judge.h"
#include "run/limits.h"
#include "wire/channel.h"

namespace holdfast::run {

/// An ended attempt, for the dispatcher to record and show.
struct Attempt {
  std::size_t test = 0;
  int slot = 0;
  double duration = 0;  ///< Seconds.
  Evidence evidence;
  wire::Json reports = wire::Json::array();
  wire::Json done = wire::Json::object();  ///< The process's last frame.
  std::string stacks;                      ///< Python stacks, written by faulthandler.
  std::string out;                         ///< What is left in the captured streams: output of the phase that did not end.
  std::string err;
  std::string stream;  ///< The end of what went uncaptured to the terminal.
};

struct SlotHost {
  /// Gets a zygote that will speak over the given socket; the slot hears of it by its hello.
  std::function<void(int slot, const os::Fd& socket)> start_zygote;
  /// The controller's words to zygotes (protocol/README.md, `configure.zygote`).
  std::function<wire::Json()> zygote_config;
  std::function<void(int slot)> on_idle;
  std::function<void(Attempt attempt)> on_finished;
  std::function<void(std::size_t test, int slot)> on_abandoned;
  std::function<void(int slot, const std::string& text)> on_output;
  std::function<void(int slot, const std::string& reason)> on_broken;
  /// Kills what was orphaned to the engine itself when the zygote of a slot died.
  std::function<void()> kill_strays;
};

class Slot {
 public:
  Slot(os::Loop& loop, int id, const Limits& limits, SlotHost host, os::Cgroup cgroup);
  ~Slot();
  Slot(const Slot&) = delete;
  Slot& operator=(const Slot&) = delete;

  /// Opens the files and asks for a zygote. Fails only for want of descriptors or memory.
  Status open();
  /// Runs a test; only when idle. `limit` is the test's own, 0 for none. `fork_next`: whether another will follow.
  void begin(std::size_t test, const std::string& id, double limit, bool fork_next);
  /// Ends the running test: SIGINT, `grace` seconds, then the tree is killed. No verdict.
  void stop(double grace);
  /// Kills everything at once and never restarts.
  void shut_down();
  [[nodiscard]] bool busy() const { return current_ != nullptr; }
  [[nodiscard]] bool idle() const { return zygote_pid_ > 0 && current_ == nullptr && !shut_; }
  [[nodiscard]] pid_t zygote_pid() const { return zygote_pid_; }
  [[nodiscard]] int id() const { return id_; }

 private:
  struct Process {
    pid_t pid = 0;
    os::Fd pidfd;
    std::unique_ptr<wire::Channel> channel;
  };
  enum class Ladder { None, Stacks, Interrupted, Terminated, Killed };

  void ask_for_zygote();
  void on_zygote_frame(const wire::Json& frame);
  void on_zygote_hello(pid_t pid);
  void on_zygote_gone();
  void drop_zygote();
  void fork_process();
  void on_forked(pid_t pid);
  void on_exited(pid_t pid, int status);
  void on_test_frame(wire::Json frame);
  void on_test_hung_up(const std::string& problem);
  void check_deadline();
  void expire(Phase phase, double limit);
  void poll_stacks(std::size_t last_size, os::Time give_up);
  void climb(Ladder step);
  void kill_tree();
  void look_for_survivors(os::Time give_up);
  void wait_for_kill(int tries);
  [[nodiscard]] std::vector<pid_t> survivors() const;
  void finish();
  void read_stream();
  void after(double delay_seconds, os::Loop::Callback callback);
  [[nodiscard]] Slate slate() const;
  [[nodiscard]] double monotonic() const { return os::to_seconds(loop_.clock().now().time_since_epoch()); }

  os::Loop& loop_;
  int id_;
  const Limits& limits_;
  SlotHost host_;
  os::Cgroup cgroup_;

  ProcessFiles files_;
  os::Fd stream_read_, stream_write_;

  std::unique_ptr<wire::Channel> zygote_;
  os::Fd zygote_pidfd_;
  pid_t zygote_pid_ = 0;
  int failed_starts_ = 0;
  bool shut_ = false;

  std::unique_ptr<Process> current_;
  std::unique_ptr<Process> next_;
  Attempt attempt_;
  double begun_ = 0;
  double hung_up_at_ = 0;
  double test_limit_ = 0;
  bool exited_ = false;
  bool stopping_ = false;
  Ladder ladder_ = Ladder::None;
  os::TimerId timer_ = 0;
};

}  // namespace holdfast::run
