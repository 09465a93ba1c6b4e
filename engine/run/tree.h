// Tree: the scopes of a suite, what is set up where, and who may run what next. Pure bookkeeping; docs/design/fork-tree.md.
//
// It promises:
// - a scope is set up by one slot at a time, and torn down by the slot that has set it up, once, after all its tests have a
//   verdict and everything below it is torn down;
// - a scope that was lost (its process died) can be set up again; one that has failed for good never is.
#pragma once

#include <algorithm>
#include <cstddef>
#include <optional>
#include <string>
#include <vector>

namespace holdfast::run {

class Tree {
 public:
  static constexpr int kNone = -1;
  enum class State {
    Away,       ///< Not set up.
    SettingUp,  ///< By a slot, for its test.
    Ready,      ///< Tests can be forked from its process.
    TearingDown,
    Over,    ///< Torn down.
    Worker,  ///< It cannot be forked: its tests run in a worker, or set it up themselves.
    Dead,    ///< Its setup ended a process, and no retry is left.
  };
  struct Scope {
    std::string id;
    std::string level;
    int parent = kNone;
    State state = State::Away;
    int slot = kNone;       ///< That sets it up, or has its process.
    std::size_t left = 0;   ///< Tests without a verdict,
    std::size_t tests = 0;  ///< of all.
    double setup = 0;       ///< Seconds; of the latest time.
    double teardown = 0;
  };
  /// What a slot that is to run a test does next.
  struct Step {
    enum class Kind { Run, SetUp, Replicate, Wait } kind = Kind::Run;
    int scope = kNone;  ///< To be set up, copied or waited for; with Run: that of the process to fork from.
  };

  void clear() { scopes_.clear(); }
  /// A scope's parent comes before it. False for one that does not: then nothing is added.
  bool add(std::string id, std::string level, int parent);
  [[nodiscard]] bool has(int scope) const { return scope >= 0 && static_cast<std::size_t>(scope) < scopes_.size(); }
  [[nodiscard]] const Scope& at(int scope) const { return scopes_[static_cast<std::size_t>(scope)]; }
  [[nodiscard]] std::size_t size() const { return scopes_.size(); }
  /// From the top to `scope`, without what has become a worker's or is dead, and all below that.
  [[nodiscard]] std::vector<int> path(int scope) const;
  [[nodiscard]] bool is_within(int scope, int above) const;
  /// The outermost scope on the way to `scope` that is not the session's; kNone if there is none.
  [[nodiscard]] int outermost(int scope) const;

  /// A test below `scope` waits for its verdict; has it.
  void expect(int scope);
  void settle(int scope);
  /// An outermost scope stays set up although no test below it waits, since more may come: until settle().
  void hold(int scope) { ++edit(scope).left; }

  /// `mine(scope)`: whether the slot has a process of that scope.
  template <typename Mine>
  [[nodiscard]] Step next(int scope, const Mine& mine) const {
    Step step;
    for (int here : path(scope)) {
      if (mine(here)) {
        step.scope = here;
        continue;
      }
      State state = at(here).state;
      Step::Kind kind = state == State::Ready                          ? Step::Kind::Replicate
                        : state == State::Away || state == State::Over ? Step::Kind::SetUp
                                                                       : Step::Kind::Wait;
      return Step{kind, here};
    }
    return step;
  }
  void begin_setup(int scope, int slot);
  void ready(int scope, double seconds);
  void begin_teardown(int scope) { edit(scope).state = State::TearingDown; }
  void over(int scope, double seconds);
  /// Its process, or the attempt to get one, has ended.
  void lost(int scope);
  void dead(int scope) { edit(scope).state = State::Dead; }
  void to_worker(int scope) { edit(scope).state = State::Worker; }
  void worker_gone(int scope) { set_live(scope, false); }
  /// All that this slot had set up: it has been given up.
  void lost_in(int slot);

  /// The deepest scope on the way to `scope` that is ready and no longer needed.
  [[nodiscard]] std::optional<int> due_above(int scope) const;
  /// One that this slot has to tear down now: nobody needs it, or `all`.
  [[nodiscard]] std::optional<int> due_in(int slot, bool all) const;
  /// The one that this slot is setting up.
  [[nodiscard]] std::optional<int> set_up_by(int slot) const;
  /// One whose tests ran in this slot's worker, and that nobody needs any more.
  [[nodiscard]] std::optional<int> worker_in(int slot) const;
  [[nodiscard]] bool is_live(int scope) const { return std::find(live_.begin(), live_.end(), scope) != live_.end(); }
  [[nodiscard]] bool any_live() const { return !live_.empty(); }
  /// Whether one is there that nobody needs any more.
  [[nodiscard]] bool any_leaving() const;

 private:
  Scope& edit(int scope) { return scopes_[static_cast<std::size_t>(scope)]; }
  [[nodiscard]] bool has_live_below(int scope) const;
  void set_live(int scope, bool live);

  std::vector<Scope> scopes_;
  std::vector<int> live_;  ///< Set up, being set up or torn down: a few of perhaps thousands.
};

}  // namespace holdfast::run
