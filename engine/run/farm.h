// Farm: the engines on other machines (nodes) that run this one's tests, and the job of a batch system that has started them.
// Each node is a whole engine, with slots, scopes, workers and gangs of its own; it collects the suite itself, is told which
// tests are its own, and sends their results (protocol/farm.md).
//
// It promises: each test that it was given is told once, by a node's result, by on_lost or by on_too_wide, or never, after
// stop(); however the job ends (cancelled, out of time, never started), and whatever becomes of the nodes, idle() comes true.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "os/fd.h"
#include "os/loop.h"
#include "plan/portions.h"
#include "wire/channel.h"
#include "wire/helper_process.h"
#include "wire/secure_link.h"

namespace holdfast::run {

struct FarmOptions {
  std::string listen;               ///< Where nodes dial: HOST, HOST:PORT.
  double wait = 0;                  ///< Seconds for which the job may wait for its start; 0 for ever.
  std::vector<std::string> helper;  ///< The program that talks to the batch system.
  wire::Json job;                   ///< For it: what to submit.
};

/// A node, as the host sees it.
struct FarmNode {
  int number = 0;
  std::string name;
  int slots = 0;
  int first_slot = 0;  ///< Its slot 0 in the numbers of the run.
};

struct FarmHost {
  /// What nodes are configured with (protocol/README.md, `configure`).
  std::function<wire::Json()> configuration;
  std::function<const std::vector<std::string>&()> ids;
  /// Slots that a test needs at a time.
  std::function<int(std::size_t test)> width;
  /// Seconds that it took in earlier runs; negative if nobody knows.
  std::function<double(std::size_t test)> usual;
  std::function<void(const FarmNode& node, const wire::Json& frame)> on_result;
  /// Anything else that a node says to its user.
  std::function<void(const FarmNode& node, const wire::Json& frame)> on_frame;
  /// Nobody will run these any more. `begun`: they may have been running.
  std::function<void(const std::vector<std::size_t>& tests, const std::string& why, bool begun)> on_lost;
  /// No node has so many slots.
  std::function<void(const std::vector<std::size_t>& tests, int widest)> on_too_wide;
  /// The batch system has not taken the job, so the run cannot be.
  std::function<void(const std::string& text)> on_refused;
  std::function<void(const std::string& text)> note;
  /// This process of ours is to be spared when the engine dies: it gives the job back.
  std::function<void(pid_t pid)> on_keeper;
  /// idle() may have come true.
  std::function<void()> on_change;
};

class Farm {
 public:
  Farm(os::Loop& loop, FarmOptions options, FarmHost host);
  ~Farm();
  Farm(const Farm&) = delete;
  Farm& operator=(const Farm&) = delete;

  /// Submits the job for these tests. Fails where it cannot listen.
  Status begin(plan::Portions portions);
  /// The user has looked at a failure, and the run goes on.
  void seen();
  /// Nothing is begun any more; running tests get the grace (seconds).
  void stop(double grace);
  /// Ends the sessions on the nodes, and the job; `then` is called when all that is over.
  void finish(int exit_status, std::function<void()> then);
  /// The same at once.
  void shut_down(std::function<void()> then);
  [[nodiscard]] bool idle() const;
  [[nodiscard]] bool owns(pid_t pid) const { return helper_.owns(pid); }

 private:
  struct Node : FarmNode {
    std::unique_ptr<wire::SecureLink> link;
    std::unique_ptr<wire::Channel> channel;  ///< Absent until it has proved that it knows the token.
    std::vector<std::string> found;          ///< Ids that it has collected.
    std::set<std::size_t> has;               ///< Tests without a result.
    bool greeted = false;
    bool collected = false;
    bool told = false;      ///< Of any tests, perhaps of none,
    bool told_all = false;  ///< and that no more will come.
    bool ended = false;     ///< All of those have ended.
    os::TimerId timer = 0;
  };

  void on_dialled();
  void on_open(int number, const std::string& problem);
  void on_node_frame(int number, const wire::Json& frame);
  void greet(Node& node, const wire::Json& frame);
  void on_collected(Node& node);
  void see_who_is_there();
  void deal(Node& node);
  void send_tests(Node& node, std::vector<std::size_t> tests);
  void tell_all();
  void refuse_wide();
  void lose(int number, const std::string& why);
  void on_helper_frame(const wire::Json& frame);
  void on_helper_end();
  void on_running();
  void nobody_left();
  void settle_rest(const std::string& why);
  void dial_is_over();
  void end_job();
  void drop_unused(const std::string& why);
  void check_finished();
  void close_all();
  [[nodiscard]] int live() const;

  os::Loop& loop_;
  FarmOptions options_;
  FarmHost host_;
  std::string token_;
  os::Fd listening_;
  wire::HelperProcess helper_;
  std::string job_;  ///< What users call it: `Slurm job 12`.
  bool submitted_ = false;
  bool gone_ = false;  ///< The job is over, or was never there.
  std::string end_;    ///< How it has ended, for people.
  int refused_ = 0;    ///< Strangers that did not know the token.
  bool over_ = false;  ///< No node will come any more.
  std::map<int, std::unique_ptr<Node>> nodes_;
  int last_node_ = 0;
  int next_slot_ = 0;
  int expected_ = 1;  ///< Nodes of the job, as far as any has told.
  plan::Portions portions_;
  std::map<std::size_t, int> losses_;  ///< By test: nodes that were lost while they had it.
  bool stopping_ = false;
  std::function<void()> then_;  ///< Of finish().
  os::TimerId wait_timer_ = 0, dial_timer_ = 0, reason_timer_ = 0, end_timer_ = 0;
};

}  // namespace holdfast::run
