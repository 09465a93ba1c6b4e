#include "plan/pack.h"

#include <algorithm>
#include <functional>
#include <limits>
#include <numeric>
#include <optional>
#include <random>
#include <tuple>
#include <utility>

namespace holdfast::plan {

namespace {

constexpr int kSearches = 4;

// Runs orders of the same tests, many times: what a run needs is kept for the next.
class Rehearsal {
 public:
  Rehearsal(const std::vector<Packed>& tests, const std::vector<Device>& devices, int slots)
      : tests_(tests), slots_(slots), leases_(tests.size()) {
    book_.reset(devices);
  }

  /// Seconds until the last has ended, or infinity as soon as it is clear that they are more than `limit`.
  double run(const std::vector<std::uint32_t>& order, double limit) {
    waiting_ = order;
    double now = 0;
    bool too_long = false;
    while (!waiting_.empty() || !running_.empty()) {
      too_long = !start(now, limit) || too_long;
      if (too_long) waiting_.clear();  // What runs still gives its devices back.
      if (running_.empty()) break;     // What is left is never possible.
      std::pop_heap(running_.begin(), running_.end(), std::greater<>());
      auto [end, test] = running_.back();
      running_.pop_back();
      now = end;
      book_.give_back(leases_[test]);
    }
    return too_long ? std::numeric_limits<double>::infinity() : now;
  }

 private:
  using End = std::tuple<double, std::uint32_t>;

  bool start(double now, double limit) {
    std::uint64_t least_refused = ~std::uint64_t{0};  // Who asks for as much of one device needs not ask.
    std::size_t kept = 0;
    for (std::size_t i = 0; i < waiting_.size(); ++i) {
      std::uint32_t test = waiting_[i];
      const DeviceDemand& demand = tests_[test].demand;
      bool plain = demand.count == 1 && demand.memory > 0 && demand.allowed == ~DeviceSet{0};
      std::optional<Lease> lease;
      bool may_ask = static_cast<int>(running_.size()) < slots_ && !(plain && demand.memory >= least_refused);
      if (may_ask) lease = book_.find(demand, 0, 0);
      if (!lease) {
        if (may_ask && plain) least_refused = std::min(least_refused, demand.memory);
        waiting_[kept++] = test;
        continue;
      }
      book_.take(*lease);
      leases_[test] = std::move(*lease);
      running_.emplace_back(now + tests_[test].seconds, test);
      std::push_heap(running_.begin(), running_.end(), std::greater<>());
      if (now + tests_[test].seconds > limit) return false;
    }
    waiting_.resize(kept);
    return true;
  }

  const std::vector<Packed>& tests_;
  int slots_;
  DeviceBook book_;
  std::vector<Lease> leases_;
  std::vector<std::uint32_t> waiting_;
  std::vector<End> running_;  // A heap, earliest first.
};

// Two change places, or one moves and those between make way: with both kinds fewer orders are dead ends.
void change_one(std::vector<std::uint32_t>& order, std::minstd_rand& random) {
  auto from = static_cast<std::ptrdiff_t>(random() % order.size());
  auto to = static_cast<std::ptrdiff_t>(random() % order.size());
  if (random() % 2 == 0) {
    std::swap(order[static_cast<std::size_t>(from)], order[static_cast<std::size_t>(to)]);
  } else if (from < to) {
    std::rotate(order.begin() + from, order.begin() + from + 1, order.begin() + to + 1);
  } else if (to < from) {
    std::rotate(order.begin() + to, order.begin() + from, order.begin() + from + 1);
  }
}

}  // namespace

double makespan(const std::vector<Packed>& tests, const std::vector<std::uint32_t>& order, const std::vector<Device>& devices,
                int slots) {
  return Rehearsal(tests, devices, slots).run(order, std::numeric_limits<double>::infinity());
}

std::vector<std::uint32_t> pack(const std::vector<Packed>& tests, const std::vector<Device>& devices, int slots, int moves) {
  std::vector<std::uint32_t> longest_first(tests.size());
  std::iota(longest_first.begin(), longest_first.end(), 0U);
  std::sort(longest_first.begin(), longest_first.end(), [&](std::uint32_t a, std::uint32_t b) {
    if (tests[a].demand.count != tests[b].demand.count) return tests[a].demand.count > tests[b].demand.count;
    return tests[a].seconds != tests[b].seconds ? tests[a].seconds > tests[b].seconds : a < b;
  });
  if (tests.size() < 3) return longest_first;
  Rehearsal rehearsal(tests, devices, slots);
  std::minstd_rand random(1);  // The same order every time.
  std::vector<std::uint32_t> best = longest_first;
  double shortest = rehearsal.run(best, std::numeric_limits<double>::infinity());
  // A search ends in an order that no move makes better, and not always in a good one: so there are several.
  for (int search = 0; search < kSearches; ++search) {
    std::vector<std::uint32_t> order = longest_first;
    std::vector<std::uint32_t> other;
    double time = rehearsal.run(order, std::numeric_limits<double>::infinity());
    for (int i = 0; i < moves / kSearches; ++i) {
      other = order;
      change_one(other, random);
      double other_time = rehearsal.run(other, time);
      if (other_time > time) continue;
      time = other_time;
      order.swap(other);
    }
    if (time >= shortest) continue;
    shortest = time;
    best = std::move(order);
  }
  return best;
}

}  // namespace holdfast::plan
