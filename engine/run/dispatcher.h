// Dispatcher: the only owner of the run's state. Joins the controller, the root zygote, the slots, the ledger and the log.
//
// It promises:
// - every collected test, and every module that died while it was imported, gets exactly one verdict, or the run says which
//   tests have none (it was stopped, or the ledger could not be written);
// - a verdict is in the ledger before the controller or the log hears of it;
// - when the controller goes away, everything that this run started is killed and the engine ends.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

#include "inventory/kernel_kills.h"
#include "inventory/memory.h"
#include "journal/history.h"
#include "journal/ledger.h"
#include "mpi/launchers.h"
#include "os/cgroup.h"
#include "os/loop.h"
#include "plan/cpu_book.h"
#include "plan/scheduler.h"
#include "report/event_log.h"
#include "run/attempts.h"
#include "run/broker.h"
#include "run/devices.h"
#include "run/farm.h"
#include "run/gang.h"
#include "run/limits.h"
#include "run/outbox.h"
#include "run/precedence.h"
#include "run/root.h"
#include "run/slot.h"
#include "run/tree.h"
#include "run/wishes.h"
#include "wire/channel.h"

namespace holdfast::run {

struct Options {
  int control_fd = -1;
  int zygote_fd = -1;
  int zygote_pid = 0;
  int slots = 1;
  /// Where it is an engine on another machine (a node of a job): the machine's name, and how many there are.
  std::string node;
  int nodes = 1;
};

/// What the user wants of GPUs (protocol/README.md, `configure`).
struct GpuOptions {
  int most = -1;                ///< Use so many; negative for all.
  int per_slot = 0;             ///< For tests that say nothing of GPUs.
  bool soft = false;            ///< Those run without where there is none.
  std::string no_gpu = "fail";  ///< What becomes of tests for which there is none: `fail`, `skip` or `wait`,
  double wait = 0;              ///< so many seconds.
};

class Dispatcher {
 public:
  Dispatcher(os::Loop& loop, const Options& options);
  ~Dispatcher();
  Dispatcher(const Dispatcher&) = delete;
  Dispatcher& operator=(const Dispatcher&) = delete;

  /// Wires everything to the loop.
  Status open();
  /// Reaps all children that have ended: ours, and the orphans that a dead zygote left to us.
  void reap_children();
  /// SIGTERM or SIGINT to the engine itself: as if the controller had gone away.
  void on_terminated() { abort_run(); }

 private:
  struct Test {
    double limit = 0;
    std::uint64_t memory = 0;  ///< Bytes that it declared.
    float usual = -1;          ///< Seconds that it took in earlier runs; negative if nobody knows.
    float slow = 0;            ///< Seconds: what takes longer is said to be slow; 0: as earlier runs say.
    int attempts = 0;
    int passes = 0;  ///< Where it runs again and again.
    bool settled = false;
    bool urgent = false;      ///< It waits for its second judgement.
    bool hides_gpus = false;  ///< It is to see none.
    int batch = -1;           ///< Those with the same number can share a process of their program; -1: it can with none.
    bool program = false;     ///< It is a program, which has a process to itself wherever it is started.
    bool own = false;         ///< Its mark insists on a process of its own.
    bool faulted = false;     ///< Faults are injected into it: its failure says nothing of devices.
    std::uint32_t needs = 0;  ///< Which resources: a number in needs_.
    int scope = Tree::kNone;  ///< The innermost one around it, of those that are set up for many tests.
    double setup = 0;         ///< Seconds for which scopes were set up when it was to begin.
    std::unique_ptr<Retries> retries;  ///< Its own, from its mark.
    std::vector<Earlier> earlier;
    int ranks = 0;        ///< Of MPI; 0 for a test that has none.
    bool pool = false;    ///< They may be those of an earlier test.
    std::string manager;  ///< `pmix` or `pmi`, who joins them; empty for the run's.
    std::string leaks;    ///< From its mark; empty for what holds for all.
  };

  /// What processes coordinate (iso_scheduling): a class, module or session.
  struct Node {
    std::vector<std::size_t> tests;  ///< Below it.
    std::set<std::size_t> released;  ///< Their processes have left it.
    bool open = false;               ///< It was set up, and not yet torn down.
    bool closing = false;            ///< By a process of its own.
  };
  /// A test's last attempt, before it is in the ledger.
  struct Verdict {
    std::size_t test = 0;
    journal::Record record;
    wire::Json notes = wire::Json::array();
    wire::Json reports = wire::Json::array();
    wire::Json detail = wire::Json::object();
    std::uint64_t memory = 0;   ///< Bytes that it used.
    std::uint64_t vram = 0;     ///< Bytes, of one GPU.
    double cpu = 0;             ///< Seconds.
    std::uint64_t written = 0;  ///< Bytes, to storage.
  };

  void on_control_frame(const wire::Json& frame);
  void configure(const wire::Json& frame);
  void open_records(const wire::Json& frame);
  void relay(const wire::Json& frame);
  void on_collection_restarted();
  void on_ready(const wire::Json& frame);
  void run_tests();
  void replay();
  [[nodiscard]] std::size_t places_wanted() const;
  void start_slots(std::size_t places);
  void refuse_impossible();
  bool must_wait_for_memory();
  void tell_remaining();
  Slot* find(int slot);
  void give_work(int slot);
  void wake_idle();
  void free_successors(std::size_t test, bool good);
  void announce_quick_ones(int slot, std::vector<Order>& next);
  std::optional<Order> begin_attempt(std::size_t test, int slot);
  void tell_if_it_takes_long(std::size_t test, int slot);
  void on_ask(int slot);
  void on_worker_ended(const WorkerEnd& end);
  void on_abandoned(std::size_t test, int slot);
  void on_apart(std::size_t test);
  void drop_reserved(int slot);
  void on_broken(int slot, const std::string& reason);
  bool keep(const Status& status);
  void tell(const wire::Json& frame) { control_->send(frame); }
  void note(const std::string& text);
  void log_event(const char* kind, const nlohmann::ordered_json& fields);
  void fail_run(const std::string& kind, const std::string& text);
  SlotHost slot_host();
  RootHost root_host();

  // dispatcher_verdicts.cc
  void on_finished(Attempt attempt);
  void finish_attempt(Attempt attempt);
  void decide(Attempt attempt);
  void conclude(Verdict verdict);
  bool keep_for_another_round(Verdict& verdict);
  /// Whether tests are to run again and again (--hf-stress, --hf-repeat-until).
  [[nodiscard]] bool runs_again() const { return again_.times > 1 || again_.seconds > 0; }
  [[nodiscard]] bool may_run_again(const Test& test) const;
  void begin_round();
  void tell_of_first_notes(Verdict& verdict);
  [[nodiscard]] const std::string& policy_on_leaks(std::size_t test) const {
    return tests_[test].leaks.empty() ? sternness_.leaks : tests_[test].leaks;
  }
  [[nodiscard]] std::string reason_to_repeat(const Attempt& attempt, const std::string& verdict) const;
  void repeat(const Attempt& attempt, journal::Record record, wire::Json detail, const std::string& cause);
  void settle_fatal_modules();
  bool settle_without_run(journal::Record record, const std::string& id, wire::Json detail, bool begun = false);
  void settle_extra(const std::string& id, const Evidence& evidence, const std::string& phase, const std::string& stacks,
                    const std::string& out, const std::string& err, const wire::Json& reports = wire::Json::array(),
                    const wire::Json& processes = wire::Json::array());
  void settle(const journal::Record& record, const std::string& id, bool replayed, wire::Json reports, wire::Json detail);
  OutboxHost outbox_host();

  // dispatcher_end.cc
  [[nodiscard]] bool any_busy() const;
  [[nodiscard]] bool is_unfinished() const;
  void check_end();
  void stop(double grace);
  void abort_run();
  void finish(int exit_status);
  void remember();
  void end();
  void kill_strays();

  // dispatcher_scopes.cc
  void read_scopes(const wire::Json& frame);
  void stage(int slot, Order order);
  void set_up(Slot& slot, int scope, const Order& order);
  void resume_staged();
  bool tear_down_in(Slot& slot);
  void on_scope_ready(int slot, int scope, const wire::Json& ready);
  void to_worker(int slot, int scope, const std::string& fixture, const std::string& reason);
  void on_scope_lost(int slot, int scope, bool owner);
  void on_replica(int slot, int scope, bool good);
  void on_setup_failed(const Attempt& attempt, bool again);
  void on_torn_down(Attempt attempt);
  void settle_around(std::size_t test);
  bool hold(Verdict& verdict);
  void charge(const Attempt& attempt, const std::string& verdict, std::optional<Verdict>& held);
  void forget_staged(int slot);
  void put_staged_back();
  void conclude_held();
  void workers_gone(int slot);

  // dispatcher_nodes.cc
  void on_node(int slot, std::size_t test, const std::string& kind, const std::string& node);
  [[nodiscard]] bool is_used(const std::string& node) const;
  [[nodiscard]] bool any_node_open() const;
  [[nodiscard]] bool any_node_unused() const;
  bool close_node_in(Slot& slot);
  void on_node_closed(const Attempt& attempt);

  // dispatcher_resources.cc
  BrokerHost broker_host();
  SlotHost resource_slot_host();
  void read_resources(const wire::Json& frame);
  std::uint32_t number_of_needs(const Broker::Needs& needs);
  [[nodiscard]] const Broker::Needs& needs_of(std::size_t test) const { return needs_[tests_[test].needs]; }
  void discard_built_on(int resource);
  bool await_check(Attempt& attempt);
  bool all_closed();
  /// With -x: a failure may be about to end the run, so nothing begins.
  [[nodiscard]] bool holds_back() const { return !stopping_ && (unseen_ > 0 || (pause_on_failure_ && parked_ > 0)); }

  // dispatcher_gpus.cc
  DevicesHost devices_host();
  bool await_gpus();
  void resolve_gpus();
  [[nodiscard]] std::string why_no_gpus(const plan::DeviceDemand& demand, bool ever) const;
  void settle_hopeless();
  [[nodiscard]] bool is_hopeless(std::size_t test);
  void wait_for_gpus();
  void lend(Order& order, int slot);
  static std::string worker_name(int slot);
  void keep_lease(std::size_t test, int slot);
  void drop_lease(std::size_t test);
  void kept_process_gone(int slot);
  bool await_devices(Attempt& attempt);
  [[nodiscard]] bool may_blame_devices(const Attempt& attempt) const;
  std::string blame_devices(Test& test, const std::string& id, bool good);

  // dispatcher_gangs.cc
  [[nodiscard]] std::vector<int> idle_slots(int slot) const;
  void form_gang(std::size_t test, int slot);
  Gang* gang_in(int slot);
  void begin_gang(Order order);
  void go_on_with(std::size_t test);
  [[nodiscard]] const World* world_in(int slot) const;
  void open_world(Gang& gang);
  void keep_world(const std::shared_ptr<World>& world, bool good);
  void close_world(const std::shared_ptr<World>& world);
  void discard(World& world);
  void retire_in(int slot);
  void rank_gone(int slot, bool by_itself);
  void forget_worlds();
  mpi::Manager* manager_for(const World& world);
  [[nodiscard]] mpi::Manager* manager_of(const World& world) const;
  std::unique_ptr<mpi::Manager> new_manager(const std::string& kind);
  void start_ranks(Gang& gang, mpi::Manager::Begun begun);
  void pin(Gang& gang);
  void share_devices(Order& order, const Gang& gang, std::size_t rank);
  void fail_gang(Gang& gang, const std::string& problem);
  void on_rank_ended(Gang& gang, Attempt attempt);
  Gang* gang_of_world(const std::string& world);
  void on_abort(const std::string& world, int rank, int code);
  void on_launcher_lost(const std::string& world);
  void end_others_after(Gang& gang, double grace);
  bool rank_abandoned(std::size_t test, int slot);
  void end_gang(Gang& gang);
  void dissolve(std::size_t test);
  void drop_unstarted_gangs();
  void refuse_wide_gangs();

  // dispatcher_farm.cc
  void configure_farm(const wire::Json& configuration);
  FarmHost farm_host();
  void begin_farm();
  void on_farm_result(const FarmNode& node, const wire::Json& frame);
  void settle_extra_of_node(const FarmNode& node, const std::string& name, Verdict verdict);
  void on_farm_over();
  void on_farm_frame(const FarmNode& node, const wire::Json& frame);
  void settle_unrun(std::size_t test, const std::string& verdict, wire::Json detail);
  void end_when_over();
  void take_tests(const wire::Json& frame);
  [[nodiscard]] bool is_node() const { return !options_.node.empty(); }

  void log_scope(const char* what, int scope, int slot, std::optional<double> seconds = {});

  os::Loop& loop_;
  Options options_;
  Limits limits_;
  std::unique_ptr<wire::Channel> control_;
  std::unique_ptr<Root> root_;
  std::vector<std::unique_ptr<Slot>> slots_;
  std::unique_ptr<journal::Ledger> ledger_;
  std::optional<report::EventLog> log_;
  os::Cgroup cgroup_;
  Outbox outbox_;
  plan::Scheduler queue_;
  Precedence precedence_;                   ///< Tests that wait for others are not in the queue.
  std::map<int, Order> reserved_;           ///< By slot: what its worker has been told to keep its fixtures for.
  std::map<int, os::TimerId> tell_timers_;  ///< By slot.
  Tree tree_;
  std::map<int, Order> staged_;         ///< By slot: what waits there for its scopes.
  std::map<int, Verdict> held_;         ///< By scope: of the test that ended last, until the scope is torn down.
  std::map<int, std::size_t> last_in_;  ///< By scope: that test, or the latest one.
  std::map<std::string, Node> nodes_;   ///< By id.
  GpuOptions gpu_options_;
  std::unique_ptr<Devices> devices_;  ///< Absent where no test wants any.
  bool gpus_asked_ = false, gpus_known_ = false;
  enum class Wait : std::uint8_t { NotYet, Waiting, GaveUp };
  Wait gpu_wait_ = Wait::NotYet;  ///< For GPUs that are out of use.
  std::set<int> kept_begun_;      ///< Slots whose kept process has devices that were begun.
  Broker broker_;
  std::vector<Broker::Needs> needs_{{}};                           ///< Different ones that tests have,
  std::map<Broker::Needs, std::uint32_t> needs_numbers_{{{}, 0}};  ///< and where each of them is.
  std::vector<Broker::Needs> scope_needs_;                         ///< By scope.
  std::map<int, std::vector<int>> built_on_;        ///< By scope: how often they had been made when it was set up.
  std::map<std::size_t, std::vector<int>> in_use_;  ///< By running test: how often its resources had been made.
  int parked_ = 0;                                  ///< Tests whose resources are being looked at before they get a verdict.
  std::function<void()> after_close_;               ///< What waits for the end of all resources.
  double stop_grace_ = 0;                           ///< Seconds.
  std::vector<std::string> ids_;
  std::vector<std::string> found_again_;
  std::vector<Test> tests_;
  std::vector<FatalModule> fatal_;
  std::vector<std::pair<int, os::Fd>> waiting_for_root_;
  std::string cold_reason_;
  bool forkable_ = true;
  bool collected_ = false;
  bool running_ = false;
  bool stopping_ = false;
  bool told_end_ = false;
  bool resume_ = false;
  bool tell_starts_ = false;
  bool pause_on_failure_ = false;  ///< -x and its like: after a failure nothing begins until the controller has seen it.
  int unseen_ = 0;                 ///< Failures that it has not seen yet.
  Sternness sternness_;
  struct Again {
    int times = 0;       ///< Runs of a test at most; 0: no limit, where there is one in
    double seconds = 0;  ///< which no new run begins afterwards; 0: none.
    os::Time end{};      ///< When that is.
  };
  Again again_;
  std::vector<Verdict> waits_for_round_;
  std::map<std::size_t, Verdict> first_notes_;  ///< Of tests that run again: the first run that had something to tell.
  Examiner examiner_;
  bool debug_ = false;  ///< What crashes or hangs is kept for the user.
  std::string wrap_;    ///< The tool that tests run under.
  inventory::KernelKills kernel_kills_;
  Retries retries_;
  Wishes wishes_;
  Dealing dealing_;
  std::optional<journal::History> history_;
  std::unordered_map<std::string, journal::Known> known_;  ///< From the history, until the tests are collected.
  std::vector<journal::PastResult> results_;
  double began_ = 0;  ///< Seconds since 1970.
  inventory::Memory memory_;
  os::Time memory_read_{};
  int judged_again_ = 0;  ///< Tests that wait for a pristine process.
  /// How ranks of this run's MPI find each other.
  struct Mpi {
    std::string manager;  ///< `pmix`, `pmi`, `launcher`, or empty where it cannot be started here:
    std::string problem;  ///< why.
    mpi::LaunchCommand launch;
  };
  Mpi mpi_;
  std::map<std::size_t, std::unique_ptr<Gang>> gangs_;             ///< By test.
  std::map<int, std::size_t> gang_of_;                             ///< By slot.
  std::map<int, std::shared_ptr<World>> worlds_;                   ///< By slot whose worker is a rank: what it has joined.
  std::map<std::string, std::unique_ptr<mpi::Manager>> managers_;  ///< By kind; absent until a gang needs it.
  int last_gang_ = 0;
  bool swept_ = false;  ///< What engines that have died have left of worlds is removed.
  bool pins_ = false;   ///< Each rank to CPUs of its own.
  plan::CpuBook cpus_;
  bool told_of_cpus_ = false;
  bool ending_ = false;
  bool began_any_ = false;
  std::unique_ptr<Farm> farm_;  ///< Absent where tests run on this machine.
  wire::Json farm_configuration_;
  wire::Json farm_gpus_ = wire::Json::array();  ///< What nodes have said of theirs.
  bool root_over_ = false, farm_over_ = false;
  std::vector<bool> chosen_;  ///< As a node: the tests that are ours.
  bool more_ = false;         ///< And more may come.
};

}  // namespace holdfast::run
