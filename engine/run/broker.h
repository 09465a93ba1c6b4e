// Broker: makes what tests share as a plain value (@holdfast.resource), each resource in a process of its own, in a slot of its
// own beside those of the tests. docs/resources.md.
//
// It promises:
// - a resource is made by one process at a time, and torn down once by that process, after all that was built upon it;
// - before a use, if the latest check is older than a second, and after a user has failed, the process is asked whether the
//   resource still works; one that does not, or whose process has ended, is made again, and so is what was built upon it;
// - one that cannot be made, that dies three times in a row before anybody has used it, or that three users in a row seem to
//   have broken, is not made again: its users are told why.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "os/loop.h"
#include "run/limits.h"
#include "run/slot.h"
#include "wire/channel.h"

namespace holdfast::run {

struct BrokerHost {
  /// What its slots have in common with those of the tests: their zygotes, and where output goes.
  std::function<SlotHost()> slot_host;
  std::function<os::Cgroup(const std::string& name)> group;
  std::function<std::string(std::size_t test)> id_of;
  /// A resource is ready, failed or over: who waits for one may look again.
  std::function<void()> on_change;
  /// What was built upon this resource is void, since it is made again.
  std::function<void(int resource)> on_replaced;
  /// Whether something that was built upon it has yet to be torn down.
  std::function<bool(int resource)> is_in_use;
  /// Its setup has ended its process, or its teardown went wrong.
  std::function<void(const std::string& id, const char* phase, const Attempt& attempt)> on_failed;
  std::function<void(const std::string& text)> note;
  std::function<void(const char* kind, const nlohmann::ordered_json& fields)> log;
  std::function<void(const wire::Json& frame)> tell;
};

class Broker {
 public:
  using Needs = std::vector<int>;  ///< Numbers of resources, those that others need first.

  Broker(os::Loop& loop, const Limits& limits, BrokerHost host);
  ~Broker();
  Broker(const Broker&) = delete;
  Broker& operator=(const Broker&) = delete;

  void clear() { entries_.clear(); }
  /// As the root zygote declares it (protocol/README.md, `resources`). False for one that needs what does not come before it.
  bool add(const wire::Json& resource);
  [[nodiscard]] std::size_t size() const { return entries_.size(); }

  /// A test that needs these waits for its verdict; has it.
  void expect(const Needs& needs);
  void settle(const Needs& needs);
  /// The slots of the tests have numbers below `first_slot`. Makes what is there for the whole run.
  void begin(int first_slot);

  /// Whether a test can begin that needs these. Otherwise sees to it; on_change follows.
  bool prepare(const Needs& needs);
  /// What the test's process is given. Only when prepare() says so.
  [[nodiscard]] wire::Json values(const Needs& needs) const;
  /// How often each has been made.
  [[nodiscard]] std::vector<int> generations(const Needs& needs) const;
  /// Counts a use. Returns generations().
  std::vector<int> use(const Needs& needs);
  /// A user has done well.
  void worked(const Needs& needs);
  /// A user has failed for good, and each time one of `lost` did not work any more.
  void blame(const Needs& needs, const std::vector<std::string>& lost);
  /// Those that no longer are what they were when generations() said this.
  [[nodiscard]] std::vector<std::string> lost_since(const Needs& needs, const std::vector<int>& generations) const;
  /// Asks all of them whether they work; `then` is called when all have answered, or are gone.
  void verify(const Needs& needs, std::function<void()> then);

  /// Tears down what nobody needs any more.
  void tidy();
  /// The run is over: tears everything down, each within `limit` seconds if that is not 0. on_change follows.
  void close(double limit);
  /// Nothing is left of any of them.
  [[nodiscard]] bool idle() const;
  /// After the last process of the run has ended: removes the control groups.
  void forget() { retired_.clear(); }
  /// Whether it is a zygote of a resource.
  [[nodiscard]] bool owns(pid_t pid) const;

 private:
  enum class State {
    Away,  ///< Not made, or to be made again.
    Making,
    Ready,
    Checking,
    TearingDown,
    Failed,  ///< For good.
  };
  struct Entry {
    std::string id;
    std::string name;  ///< Of its fixture.
    std::string scope;
    std::size_t test = 0;  ///< One that can see the fixture.
    Needs needs;
    State state = State::Away;
    int generation = 0;          ///< How often it has been made, or tried.
    std::vector<int> built_on;   ///< Generations of `needs` then.
    wire::Json given;            ///< What its users get.
    std::unique_ptr<Slot> slot;  ///< While it has a process.
    std::size_t left = 0;        ///< Tests without a verdict that need it.
    std::size_t uses = 0;
    bool used = false;         ///< Since the latest check,
    bool used_at_all = false;  ///< since it was made.
    int unused_deaths = 0;     ///< In a row.
    std::string end;           ///< How it ended the last time.
    int blamed = 0;            ///< Users that seem to have broken it, since one has done well.
    os::Time checked{};
    os::TimerId timer = 0;
    std::vector<std::function<void()>> waiting;  ///< For the answer to a check.
    double setup = 0;                            ///< Seconds, of the latest time.
  };

  Entry& at(int resource) { return entries_[static_cast<std::size_t>(resource)]; }
  [[nodiscard]] const Entry& at(int resource) const { return entries_[static_cast<std::size_t>(resource)]; }
  SlotHost host_of(int resource, int generation);
  void make(int resource);
  void on_idle(int resource);
  void on_made(int resource, const wire::Json& frame);
  void on_attempt_ended(int resource, const Attempt& attempt);
  void on_torn_down(int resource, const Attempt& attempt);
  void check(int resource);
  void on_checked(int resource, const wire::Json& frame);
  void answered(Entry& entry);
  void tear_down(int resource);
  void lose(int resource, const std::string& how, bool gracefully);
  [[nodiscard]] static bool is_hopeless(const Entry& entry);
  void give_up(Entry& entry);
  void fail(Entry& entry, const std::string& problem);
  void renew_users_of(int resource);
  [[nodiscard]] bool is_built_on(const Entry& entry, int resource) const;
  [[nodiscard]] bool any_user_live(int resource) const;
  void retire(Entry& entry);
  void changed();
  void log(const char* what, const Entry& entry, std::optional<double> seconds = {});

  os::Loop& loop_;
  const Limits& limits_;
  BrokerHost host_;
  std::vector<Entry> entries_;
  std::vector<std::unique_ptr<Slot>> retired_;  ///< To be destroyed when none of their own calls is under way.
  int first_slot_ = 0;
  bool closing_ = false;
  double limit_ = 0;  ///< Of a teardown while closing.
  bool told_change_ = false;
};

}  // namespace holdfast::run
