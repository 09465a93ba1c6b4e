#include "plan/pack.h"

#include <algorithm>
#include <numeric>
#include <queue>
#include <random>
#include <tuple>

namespace holdfast::plan {

double makespan(const std::vector<Packed>& tests, const std::vector<std::uint32_t>& order, const std::vector<Device>& devices,
                int slots) {
  DeviceBook book;
  book.reset(devices);
  using End = std::tuple<double, std::uint32_t>;
  std::priority_queue<End, std::vector<End>, std::greater<>> running;
  std::vector<Lease> leases(tests.size());
  std::vector<std::uint32_t> waiting(order);
  double now = 0;
  while (!waiting.empty() || !running.empty()) {
    for (auto it = waiting.begin(); it != waiting.end() && slots > 0;) {
      auto lease = book.find(tests[*it].demand, 0, 0);
      if (!lease) {
        ++it;
        continue;
      }
      book.take(*lease);
      leases[*it] = std::move(*lease);
      running.emplace(now + tests[*it].seconds, *it);
      --slots;
      it = waiting.erase(it);
    }
    if (running.empty()) break;  // What is left is never possible.
    auto [end, test] = running.top();
    running.pop();
    now = end;
    book.give_back(leases[test]);
    ++slots;
  }
  return now;
}

std::vector<std::uint32_t> pack(const std::vector<Packed>& tests, const std::vector<Device>& devices, int slots, int moves) {
  std::vector<std::uint32_t> best(tests.size());
  std::iota(best.begin(), best.end(), 0U);
  std::sort(best.begin(), best.end(), [&](std::uint32_t a, std::uint32_t b) {
    if (tests[a].demand.count != tests[b].demand.count) return tests[a].demand.count > tests[b].demand.count;
    return tests[a].seconds != tests[b].seconds ? tests[a].seconds > tests[b].seconds : a < b;
  });
  if (tests.size() < 3) return best;
  double shortest = makespan(tests, best, devices, slots);
  std::minstd_rand random(1);  // The same order every time.
  for (int i = 0; i < moves; ++i) {
    std::vector<std::uint32_t> other(best);
    auto from = static_cast<std::ptrdiff_t>(random() % other.size());
    auto to = static_cast<std::ptrdiff_t>(random() % other.size());
    if (from < to) std::rotate(other.begin() + from, other.begin() + from + 1, other.begin() + to + 1);
    if (to < from) std::rotate(other.begin() + to, other.begin() + from, other.begin() + from + 1);
    double time = makespan(tests, other, devices, slots);
    if (time > shortest) continue;
    shortest = time;
    best = std::move(other);
  }
  return best;
}

}  // namespace holdfast::plan
