// Portions: which tests go to which machine, where there are several. Pure. What is dealt together on one machine (a module's
// tests, a group) stays together here too; within a machine, its own scheduler decides.
//
// The widest go first, then the longest; a machine gets a part of what is left that shrinks with it (guided self-scheduling,
// Polychronopoulos and Kuck 1987), so that the machines end at about the same time and few words are needed.
#pragma once

#include <cstddef>
#include <deque>
#include <vector>

namespace holdfast::plan {

struct Portion {
  std::vector<std::size_t> tests;
  int ranks = 1;        ///< Slots that its widest test needs at a time.
  double expected = 0;  ///< Seconds.
};

class Portions {
 public:
  /// `one_machine`: the first that asks gets everything (an order over all tests was asked for).
  void reset(std::vector<Portion> portions, bool keep_order, bool one_machine);
  /// The next tests for a machine with so many slots, which has `has` tests that have not ended, out of `machines`. Empty if it
  /// has enough to do for now, or nothing is left for it.
  std::vector<std::size_t> take(int slots, std::size_t has, int machines);
  /// A machine was lost: its test is dealt again, by itself, before all others.
  void give_back(std::size_t test, int ranks);
  /// What no machine with at most so many slots can run.
  std::vector<std::size_t> take_wider_than(int slots);
  std::vector<std::size_t> take_all() { return take_wider_than(0); }
  [[nodiscard]] bool empty() const { return portions_.empty(); }

 private:
  std::deque<Portion> portions_;
  double expected_ = 0;    ///< Of all that is left.
  std::size_t tests_ = 0;  ///< All that is left.
  bool one_machine_ = false;
};

}  // namespace holdfast::plan
