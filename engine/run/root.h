// Root: the root zygote's supervisor. Watches the one collection, and starts the zygote again without the module that killed
// it.
//
// It promises: collection ends, in at most (1 + number of fatal modules) zygotes; each fatal module is named once, with how it
// died; a zygote that dies without naming a module it was importing is tried again at most kMaxBlindRestarts times.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "os/loop.h"
#include "os/sys.h"
#include "run/files.h"
#include "run/judge.h"
#include "run/limits.h"
#include "run/postmortem.h"
#include "wire/channel.h"

namespace holdfast::run {

/// A module (or directory) whose import ended the zygote.
struct FatalModule {
  std::string id;
  Evidence evidence;
  std::string stacks;
  std::string out;
  std::string err;
  wire::Json processes = wire::Json::array();  ///< What hung, by postmortem.h.
};

struct RootHost {
  /// A frame for the controller, passed on as it came.
  std::function<void(const wire::Json& frame)> relay;
  /// All relayed frames of the collection so far are void: it begins again.
  std::function<void()> on_restart;
  std::function<void(const wire::Json& ready)> on_ready;
  std::function<void(FatalModule module)> on_fatal;
  /// It cannot be collected at all (kind: "usage", "internal" or "died").
  std::function<void(const std::string& kind, const std::string& text)> on_failed;
  std::function<void()> on_finished;
  /// How to look at what hangs.
  std::function<const Examiner&()> examiner;
};

class Root {
 public:
  Root(os::Loop& loop, const Limits& limits, RootHost host);
  ~Root();
  Root(const Root&) = delete;
  Root& operator=(const Root&) = delete;

  Status open();
  /// Takes over a zygote that already runs (forked by the controller) and speaks over `socket`.
  Status adopt(pid_t pid, os::Fd socket, const wire::Json& environment);
  /// How to start another: command line, environment and the content of its start frame.
  void configure(std::vector<std::string> argv, std::vector<std::string> env, std::string cwd, wire::Json start);
  [[nodiscard]] const wire::Json& start_config() const { return start_; }
  [[nodiscard]] bool ready() const { return ready_; }
  [[nodiscard]] pid_t pid() const { return pid_; }
  /// Starts a zygote again that died after the collection. Only needed when a slot's zygote has to be replaced.
  void revive();
  /// Forks a slot's zygote, or, where forking is not safe, starts a bare one that runs a cold process a test. `keeper`: for a
  /// resource.
  void start_slot_zygote(int slot, const os::Fd& socket, bool forkable, bool keeper);
  /// True for a process that the engine itself started (and that is not an orphan of a test).
  [[nodiscard]] bool owns(pid_t pid) const { return pid == pid_ || spawners_.count(pid) != 0; }
  /// Ends the session in the zygote (its pytest_sessionfinish) and the zygote, within `limit` seconds.
  void finish(int exit_status, double limit);
  void kill();
  /// Tells of a reaped child of the engine; true if it was the root zygote.
  bool on_child_exit(pid_t pid, int status);

 private:
  void start_cold();
  void on_frame(const wire::Json& frame);
  void on_hung_up();
  void arm_collect_deadline();
  void on_collect_deadline();
  void restart_or_fail();

  os::Loop& loop_;
  const Limits& limits_;
  RootHost host_;
  ProcessFiles files_;
  std::unique_ptr<wire::Channel> channel_;
  os::Fd pidfd_;
  pid_t pid_ = 0;
  bool configured_ = false;
  bool dead_before_configured_ = false;
  bool ready_ = false;
  bool finishing_ = false;
  bool failed_ = false;
  int blind_restarts_ = 0;
  std::vector<std::string> argv_, env_;
  std::string cwd_;
  wire::Json start_;
  std::vector<std::string> collecting_;  ///< What is being imported: a module, inside its directories.
  std::vector<std::string> skipped_;     ///< Fatal modules, not to be imported again.
  std::optional<Phase> timed_out_;
  std::string problem_;
  std::set<pid_t> spawners_;  ///< Bare zygotes that the engine started itself.
  os::TimerId deadline_ = 0;
  Postmortem postmortem_;
  std::size_t own_stacks_ = 0;  ///< Bytes that the zygote itself had written when it was looked at.
  wire::Json processes_ = wire::Json::array();
};

}  // namespace holdfast::run
