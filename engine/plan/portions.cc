#include "plan/portions.h"

#include <algorithm>
#include <iterator>

namespace holdfast::plan {

namespace {

// A machine always has so many tests for each slot, so that none waits while it asks.
constexpr std::size_t kAhead = 2;

}  // namespace

void Portions::reset(std::vector<Portion> portions, bool keep_order, bool one_machine) {
  one_machine_ = one_machine;
  if (!keep_order && !one_machine) {
    std::sort(portions.begin(), portions.end(), [](const Portion& a, const Portion& b) {
      if (a.ranks != b.ranks) return a.ranks > b.ranks;
      return a.expected != b.expected ? a.expected > b.expected : a.tests < b.tests;
    });
  }
  expected_ = 0;
  tests_ = 0;
  for (const Portion& portion : portions) {
    expected_ += portion.expected;
    tests_ += portion.tests.size();
  }
  portions_.assign(std::make_move_iterator(portions.begin()), std::make_move_iterator(portions.end()));
}

std::vector<std::size_t> Portions::take(int slots, std::size_t has, int machines) {
  std::vector<std::size_t> taken;
  bool all = one_machine_ || machines <= 1;
  std::size_t low = kAhead * static_cast<std::size_t>(std::max(1, slots));
  if (!all && has >= low) return taken;
  double parts = 2.0 * std::max(1, machines);
  double share = expected_ / parts;
  double share_of_tests = static_cast<double>(tests_) / parts;
  double expected = 0;
  for (auto next = portions_.begin(); next != portions_.end();) {
    bool enough = has + taken.size() >= low && (expected >= share || static_cast<double>(taken.size()) >= share_of_tests);
    if (!all && enough) break;
    if (next->ranks > slots) {
      ++next;
      continue;
    }
    taken.insert(taken.end(), next->tests.begin(), next->tests.end());
    expected += next->expected;
    expected_ -= next->expected;
    tests_ -= next->tests.size();
    next = portions_.erase(next);
  }
  return taken;
}

void Portions::give_back(std::size_t test, int ranks) {
  portions_.push_front(Portion{{test}, ranks, 0});
  ++tests_;
}

std::vector<std::size_t> Portions::take_wider_than(int slots) {
  std::vector<std::size_t> taken;
  for (auto next = portions_.begin(); next != portions_.end();) {
    if (next->ranks <= slots) {
      ++next;
      continue;
    }
    taken.insert(taken.end(), next->tests.begin(), next->tests.end());
    expected_ -= next->expected;
    tests_ -= next->tests.size();
    next = portions_.erase(next);
  }
  return taken;
}

}  // namespace holdfast::plan
