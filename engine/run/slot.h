// Slot: the place where one test runs at a time. Owns its zygotes, the test's process, and the next one, forked ahead of need.
// A test runs in a process of its own, or in the slot's worker, a process that is kept from one test to the next. A scope is
// set up and torn down as a test is run: with deadlines, stacks, and a look at what is left.
//
// It promises:
// - a test that was begun ends in exactly one call of `on_finished`, or of `on_abandoned` after stop();
// - at a deadline: stacks, SIGINT and a grace, SIGTERM, SIGKILL of everything the test started; the slot never waits for more
//   than that, whatever the test does;
// - nothing that a test started is alive when on_finished is called, and each such process is named in the evidence;
// - a slot's own zygote that dies is replaced; a slot that cannot get one three times in a row calls `on_broken`;
// - the end of a scope's process that was not asked for is told by `on_scope_lost`, once.
// The states are in docs/design/slot.md.
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "os/cgroup.h"
#include "os/loop.h"
#include "os/memory_group.h"
#include "os/sys.h"
#include "run/files.h"
#include "run/judge.h"
#include "run/limits.h"
#include "run/postmortem.h"
#include "run/suspicion.h"
#include "run/usage.h"
#include "run/zygote.h"
#include "wire/channel.h"

namespace holdfast::run {

/// A test as the dispatcher hands it to a slot.
struct Order {
  std::size_t test = 0;
  std::string id;
  double limit = 0;               ///< The test's own, seconds; 0 for none.
  bool reuse = false;             ///< In the slot's worker.
  std::uint64_t memory = 0;       ///< Bytes that it declared; 0 for none. Only without `reuse`.
  int scope = Zygote::kSlotsOwn;  ///< Its process is forked from that of this scope, which the slot must have.
  bool look = true;               ///< For what it leaves.
  wire::Json resources;           ///< What it gets of those that it needs; null for none.
  wire::Json mpi;                 ///< Which rank of its test it is (protocol/README.md, `go`); null where the test has none.
  std::shared_ptr<os::Fd> pmi;    ///< The rank's end of its process manager's socket.
  wire::Json gpus;                ///< Its devices (protocol/README.md, `go`); null for those that everybody sees.
};

/// An ended attempt, for the dispatcher to record and show.
struct Attempt {
  std::size_t test = 0;
  int scope = Zygote::kSlotsOwn;  ///< It was to set this scope up, for the test,
  bool tearing_down = false;      ///< or has torn it down, after the test,
  std::string node;               ///< or, not a scope, this node, for processes that have died.
  int slot = 0;
  bool reused = false;              ///< It ran in a worker,
  std::vector<std::size_t> before;  ///< after these tests (only filled in where it did not go well).
  double duration = 0;              ///< Seconds.
  double own_seconds = -1;          ///< What it says of that itself, since others ran in its program as well.
  std::uint64_t memory = 0;         ///< Bytes that its process grew by at most; 0 for one that ran in a worker.
  std::uint64_t vram = 0;           ///< Bytes that it had at most of one GPU, as far as anybody saw.
  Suspicion suspicion;
  std::vector<std::string> lost;  ///< Resources that did not work any more at its end.
  Evidence evidence;
  wire::Json reports = wire::Json::array();
  wire::Json done = wire::Json::object();  ///< The process's last frame.
  std::string stacks;                      ///< Python stacks, written by faulthandler.
  std::string out;                         ///< What is left in the captured streams: output of the phase that did not end.
  std::string err;
  Findings findings;   ///< Of the tool that it ran under.
  std::string stream;  ///< The end of what went uncaptured to the terminal.
  Usage usage;
  pid_t pid = 0;
  wire::Json processes = wire::Json::array();  ///< What they were doing at the deadline.
  int rank = -1;                               ///< Of a gang: the rank that all this is of,
  wire::Json ranks = wire::Json::array();      ///< and what there is to say of each.
  bool spent = false;                          ///< Its MPI is of no use for another test.
};

/// How a worker ended when no test ran in it any more: at its exit, or by itself between two tests.
struct WorkerEnd {
  int slot = 0;
  bool discarded = false;  ///< By discard_worker(), or with its zygote: there is nothing to say of it.
  std::vector<std::size_t> ran;
  std::vector<double> began;  ///< When each of them did, seconds of CLOCK_MONOTONIC.
  Evidence evidence;
  std::string stacks, out, err;
};

struct SlotHost {
  /// Gets a zygote that will speak over the given socket; the slot hears of it by its hello.
  std::function<void(int slot, const os::Fd& socket)> start_zygote;
  /// The controller's words to zygotes (protocol/README.md, `configure.zygote`).
  std::function<wire::Json()> zygote_config;
  /// How to look at what hangs.
  std::function<const Examiner&()> examiner;
  /// A test that crashed or hangs (`what`) is kept, stopped, until go_on() (--hf-debug). Absent: none is.
  std::function<void(int slot, std::size_t test, pid_t pid, const std::string& what)> on_kept;
  /// One that was kept has ended, or is to end.
  std::function<void(int slot)> on_released;
  std::function<void(int slot)> on_idle;
  std::function<void(Attempt attempt)> on_finished;
  std::function<void(std::size_t test, int slot)> on_abandoned;
  /// Before the call of `on_finished` for that test: those that were to share its program are better run by themselves.
  std::function<void(std::size_t test)> on_apart;
  /// A scope has been set up, and this is what its process says of it (protocol/README.md, `ready`). With a `reason` it cannot
  /// be forked, and is the slot's worker now.
  std::function<void(int slot, int scope, const wire::Json& ready)> on_scope_ready;
  /// The process of a resource has answered check().
  std::function<void(int slot, const wire::Json& frame)> on_checked;
  /// The process of a scope has ended by itself; `owner`: the one that had set it up.
  std::function<void(int slot, int scope, bool owner)> on_scope_lost;
  /// The slot has a replica of that scope's process now, or could not get one.
  std::function<void(int slot, int scope, bool good)> on_replica;
  /// Whether a process is a zygote of any slot.
  std::function<bool(pid_t pid)> is_zygote;
  /// The worker is about to tear down after its test: which test comes next in it? To be answered by answer(), at once.
  std::function<void(int slot)> on_ask;
  /// The worker has gone on by itself with a test that answer() had named.
  std::function<void(std::size_t test, int slot)> on_went_on;
  std::function<void(WorkerEnd end)> on_worker_ended;
  /// What a test's process says of a node that it coordinates with others (protocol/README.md): `left`, to be answered by
  /// reply(), at once, `opened` or `closed`.
  std::function<void(int slot, std::size_t test, const std::string& kind, const std::string& node)> on_node;
  std::function<void(int slot, const std::string& text)> on_output;
  std::function<void(int slot, const std::string& reason)> on_broken;
  /// Kills what was orphaned to the engine itself when the zygote of a slot died.
  std::function<void()> kill_strays;
  /// The slot is there for one resource, whose process must have the time to tear down even if the engine dies.
  bool keeper = false;
};

class Slot {
 public:
  Slot(os::Loop& loop, int id, const Limits& limits, SlotHost host, os::Cgroup cgroup);
  ~Slot();
  Slot(const Slot&) = delete;
  Slot& operator=(const Slot&) = delete;

  /// Opens the files and asks for a zygote. Fails only for want of descriptors or memory.
  Status open();
  /// Runs a test; only when idle. `fork_next`: whether another will follow in a process of its own.
  void begin(const Order& order, bool fork_next);
  /// Sets up a scope for the test of `first`, in a fork of the process of the scope above it (kSlotsOwn for none). Only when
  /// idle and without a worker. Ends in on_scope_ready, or as the test's own attempt.
  void set_up(int scope, int above, const Order& first);
  /// The same for a resource, which takes the place of a scope.
  void make(int resource, const std::string& id, const std::string& name, const Order& first);
  /// Asks the process of a resource whether it still works. Ends in on_checked.
  void check(int resource) { scopes_.at(resource)->channel->send({{"t", "check"}}); }
  /// Kills the process in which a scope was set up, or a copy of it. Ends in on_scope_lost.
  void discard(int scope);
  /// Gets a copy of the process in which `owner` has set up a scope. Only when idle. Ends in on_replica.
  void replicate(int scope, Slot& owner);
  /// Tears down a scope that this slot has set up. `last`: the test that it is told with; `fork_next`: whether another scope or
  /// test will follow beside it. Only when idle. Ends in on_finished.
  void tear_down(int scope, const Order& last, bool fork_next);
  /// Tears down what processes that have died have set up for a node (iso_scheduling). Only when idle. Ends in on_finished.
  void close(const std::string& node, const Order& order);
  void reply(const wire::Json& frame) {
    if (current_ != nullptr) current_->channel->send(frame);
  }
  /// Lets a replica go, which ends by itself. Only when nothing runs in a fork of it.
  void drop(int scope);
  [[nodiscard]] bool is_copying() const { return coming_ != nullptr; }
  [[nodiscard]] bool has(int scope) const { return scopes_.count(scope) != 0; }
  /// Replicas that the slot has.
  [[nodiscard]] std::vector<int> replicas() const;
  /// Whether it is one of this slot's zygotes.
  [[nodiscard]] bool owns(pid_t pid) const;
  /// Whether it is the program that looks at what hangs here.
  [[nodiscard]] bool looks_with(pid_t pid) const { return postmortem_.owns(pid); }
  /// The answer to on_ask: the tests that the worker runs next, so that it keeps the fixtures which they share. `go`: it begins
  /// with each as soon as the one before has ended; otherwise with the first, and only, by begin(). None: the worker tears down
  /// everything.
  void answer(const std::vector<Order>& next, bool go);
  /// Ends the worker; when it has gone the slot is idle again, and on_idle is called. Only when idle and has_worker().
  void retire_worker();
  /// Kills the worker, without a word about it. Any time; on_worker_ended tells when it has gone.
  void discard_worker();
  /// Ends the running test: SIGINT, `grace` seconds, then the tree is killed. No verdict.
  void stop(double grace);
  /// Kills everything at once and never restarts.
  void shut_down();
  /// Ends the running rank since another one has failed: stacks first, then as at a deadline, but soon.
  void end_with_gang();
  /// Lets a test go on that was kept: it dies, or is interrupted.
  void go_on();
  [[nodiscard]] bool busy() const { return current_ != nullptr; }
  [[nodiscard]] bool idle() const { return zygote_pid() > 0 && current_ == nullptr && !retiring_ && !discarding_ && !shut_; }
  [[nodiscard]] bool shut() const { return shut_; }
  [[nodiscard]] bool has_worker() const { return worker_ != nullptr; }
  /// Busy, or waiting for its worker, or for what a test of it has left, to end.
  [[nodiscard]] bool unfinished() const { return busy() || retiring_ || discarding_ || !held_.empty(); }
  [[nodiscard]] pid_t zygote_pid() const { return own_ != nullptr ? own_->pid : 0; }
  [[nodiscard]] int id() const { return id_; }

 private:
  /// Bytes that are kept of a file of stacks, and of output.
  static constexpr std::size_t kStacksTail = std::size_t{256} << 10U;
  static constexpr std::size_t kOutputTail = std::size_t{64} << 10U;
  /// Seconds that processes which are just about to end (helpers that see their pipe close) get before they count as left
  /// behind.
  static constexpr double kSurvivorGrace = 0.1;
  static constexpr double kTrackerGrace = 2.0;

  struct Process {
    int number = 0;          ///< Names it in callbacks that may come after its end.
    Zygote* from = nullptr;  ///< Its parent.
    pid_t pid = 0;
    os::Fd pidfd;
    std::unique_ptr<wire::Channel> channel;
    os::Fd inner;                  ///< The test itself, where a tool is its parent.
    pid_t inner_pid = 0;           ///< 0 where there is none.
    pid_t claimed_pid = 0;         ///< What it says that this is.
    std::vector<std::size_t> ran;  ///< The tests that have run in it,
    std::vector<double> began;     ///< and when they began.
  };
  enum class Ladder { None, Stacks, Examined, Kept, Interrupted, Terminated, Killed };

  void ask_for_zygote();
  Status listen(wire::Channel& channel, int number);
  void on_frame(int number, wire::Json frame);
  void on_end(int number, const std::string& problem);
  Zygote* numbered(int number);
  Zygote& zygote_of(int scope) { return scope == Zygote::kSlotsOwn ? *own_ : *scopes_.at(scope); }
  void send_files(Zygote& zygote);
  void on_zygote_frame(Zygote& zygote, const wire::Json& frame);
  void on_hello(Zygote& zygote, const wire::Json& frame);
  void on_own_gone();
  void on_scope_gone(int number);
  void on_gone(const Zygote& zygote);
  void forget(Zygote& zygote);
  void drop_everything();
  void forget_worker();
  void tell_discarded();
  void fork_from(Zygote& zygote, const os::Fd& socket, std::function<void(pid_t)> then);
  void fork_process(Zygote& from);
  void discard_next();
  bool take_process(Zygote& from, const Order& order);
  void begin_setup(Zygote& from, int scope, const Order& first, wire::Json order);
  void on_forked(int number, pid_t pid);
  void on_exited(const wire::Json& frame);
  void sample_later();
  void on_copied(bool good);
  void on_set_up(const wire::Json& frame);
  void start_attempt(const Order& order);
  void send_go();
  void on_test_frame(wire::Json frame);
  void on_test_hung_up(const std::string& problem);
  void on_done_in_worker();
  void go_on_in_worker(std::optional<Attempt> ended);
  std::vector<pid_t> new_orphans();
  void release();
  void release_all();
  void on_worker_gone(int status);
  void settle_worker(os::Time give_up);
  void check_deadline();
  void expire(Phase phase, double limit);
  void examine();
  void keep(const std::string& what);
  void stop_tree(int signal);
  void look_for_crash();
  [[nodiscard]] std::vector<pid_t> processes() const;
  void poll_stacks(std::size_t last_size, os::Time give_up);
  void climb(Ladder step);
  void kill_tree();
  void note_inner(pid_t pid);
  void signal_test(int signal);
  /// The test's own process, which a tool may have started as its child; 0 until it is known.
  [[nodiscard]] pid_t test_pid() const { return current_->inner_pid != 0 ? current_->inner_pid : current_->pid; }
  [[nodiscard]] Findings findings_of(const wire::Json& done) const;
  void look_for_survivors(os::Time give_up);
  void wait_for_kill(int tries);
  [[nodiscard]] bool is_ours(pid_t pid) const;
  void kill_below();
  [[nodiscard]] bool began_with_test(pid_t pid) const;
  [[nodiscard]] std::vector<pid_t> survivors() const;
  void finish();
  Attempt take_attempt();
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

  std::unique_ptr<Zygote> own_;
  std::map<int, std::unique_ptr<Zygote>> scopes_;
  std::unique_ptr<Zygote> coming_;      ///< A replica that has not said hello yet.
  Zygote* from_ = nullptr;              ///< Parent of the process that runs, or has just ended.
  mutable std::vector<pid_t> leaving_;  ///< Forks that nobody needs any more, and that are about to end.
  int last_number_ = 0;
  int failed_starts_ = 0;
  bool shut_ = false;

  std::unique_ptr<Process> current_;
  std::unique_ptr<Process> next_;
  std::unique_ptr<Process> worker_;  ///< Kept, and not running a test now.
  /// Tests of the worker that have ended, with processes that they have started, until it is known whether those end too.
  std::deque<std::pair<Attempt, std::vector<pid_t>>> held_;
  std::deque<os::TimerId> held_timers_;
  bool poisoned_ = false;        ///< The worker's GPU context is: it runs nothing more.
  std::vector<pid_t> orphans_;   ///< At the end of the worker's last test.
  std::deque<Order> announced_;  ///< What the worker was told to go on with.
  bool retiring_ = false;
  bool discarding_ = false;
  double worker_expired_ = 0;  ///< The limit that it overstepped at its exit, seconds; 0 if it did not.
  std::optional<WorkerEnd> ended_worker_;
  Attempt attempt_;
  double begun_ = 0;
  double begun_wall_ = 0;  ///< Seconds since 1970.
  double hung_up_at_ = 0;
  double test_limit_ = 0;
  bool exited_ = false;
  os::MemoryGroup memory_group_;           ///< Of the running test, if it has declared its memory.
  std::optional<wire::Json> go_;           ///< Its order, held back until its process is in that group,
  std::shared_ptr<os::Fd> pmi_;            ///< and a descriptor that goes with it.
  std::optional<wire::Json> early_ready_;  ///< What a scope's process has said before its number was known.
  bool group_killed_ = false;              ///< By kill_tree(), with all zygotes of the slot.
  bool asked_ = false;                     ///< on_ask has been called for this attempt.
  bool stopping_ = false;
  Ladder ladder_ = Ladder::None;
  Postmortem postmortem_;
  std::size_t own_stacks_ = 0;  ///< Bytes that the test itself had written at the deadline.
  os::TimerId timer_ = 0;
  os::TimerId sample_timer_ = 0;
  os::TimerId crash_timer_ = 0;
  os::TimerId forget_timer_ = 0;
  bool kept_ = false;
};

}  // namespace holdfast::run
