// How well tests are packed on GPUs: a mix of 26 tests with 2 to 60 GiB each and 213 without a GPU, on two of 80 GiB, with a
// virtual clock. Beside it: a queue that gives one test at a time to a GPU.
//
//   simulate_gpus [slots]     8 if left out
//
// The lower bound is the largest of: the longest test; all seconds over the slots; GiB-seconds over what two devices have less
// the margin; and, since no two of the tests over 38 GiB fit on one device, their seconds over two.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <queue>
#include <tuple>
#include <vector>

#include "plan/scheduler.h"

using holdfast::plan::Device;
using holdfast::plan::DeviceDemand;
using holdfast::plan::Problem;
using holdfast::plan::Scheduler;

namespace {

constexpr std::uint64_t kGib = std::uint64_t{1} << 30U;
constexpr double kUsable = 76;  // GiB of a device that tests share.
constexpr int kSmall = 213;
constexpr double kSmallSeconds = 2;

struct Wish {
  std::uint64_t gib;
  double seconds;
};
// As suites of inference engines have them: few large models that take minutes, many small ones.
constexpr Wish kMix[] = {{60, 240}, {48, 210}, {40, 180}, {36, 160}, {34, 150}, {30, 140}, {28, 130}, {24, 120}, {24, 110},
                         {20, 100}, {20, 95},  {18, 90},  {16, 85},  {16, 80},  {12, 75},  {12, 70},  {10, 60},  {10, 55},
                         {8, 50},   {8, 45},   {6, 40},   {6, 35},   {4, 30},   {4, 30},   {2, 20},   {2, 20}};

double simulate(int slots, bool by_memory, bool history) {
  Problem problem;
  problem.slots = slots;
  problem.capacity.cores = slots;
  problem.devices.assign(2, Device{80 * kGib});
  std::vector<double> seconds;
  std::uint32_t chunk = 0;
  auto add = [&](std::uint64_t gib, double time) {
    problem.demands.push_back({});
    if (gib > 0) problem.demands.back().devices = DeviceDemand{1, by_memory ? gib * kGib : 0};
    problem.tasks.push_back({history ? time : -1, chunk++, static_cast<std::uint32_t>(problem.demands.size() - 1)});
    seconds.push_back(time);
  };
  // In a suite's order: small ones between the others.
  for (int i = 0; i < kSmall; ++i) {
    if (i % 8 == 0 && i / 8 < 26) add(kMix[(i / 8) * 7 % 26].gib, kMix[(i / 8) * 7 % 26].seconds);
    add(0, kSmallSeconds);
  }
  Scheduler scheduler;
  scheduler.reset(problem);
  using End = std::tuple<double, int, std::size_t>;
  std::priority_queue<End, std::vector<End>, std::greater<>> running;
  std::vector<bool> idle(static_cast<std::size_t>(slots), true);
  double now = 0;
  auto start = [&] {
    for (int slot = 0; slot < slots; ++slot) {
      if (!idle[static_cast<std::size_t>(slot)]) continue;
      auto task = scheduler.take(slot);
      if (!task) continue;
      running.emplace(now + seconds[*task], slot, *task);
      idle[static_cast<std::size_t>(slot)] = false;
    }
  };
  start();
  while (!running.empty()) {
    auto [end, slot, task] = running.top();
    running.pop();
    now = end;
    scheduler.finished(slot, task);
    scheduler.returned(task);
    idle[static_cast<std::size_t>(slot)] = true;
    start();
  }
  if (!scheduler.empty()) std::abort();
  return now;
}

double lower_bound(int slots) {
  double longest = 0;
  double all = kSmall * kSmallSeconds;
  double area = 0;
  double alone = 0;
  for (const Wish& wish : kMix) {
    longest = std::max(longest, wish.seconds);
    all += wish.seconds;
    area += static_cast<double>(wish.gib) * wish.seconds;
    if (static_cast<double>(wish.gib) > kUsable / 2) alone += wish.seconds;
  }
  return std::max({longest, all / slots, area / (2 * kUsable), alone / 2});
}

}  // namespace

int main(int argc, char** argv) {
  int slots = argc > 1 ? std::atoi(argv[1]) : 8;
  double bound = lower_bound(slots);
  double queue = simulate(slots, false, true);
  std::printf("lower bound %.0f s; with history %.3f of it, without %.3f; one test a GPU %.3f\n", bound,
              simulate(slots, true, true) / bound, simulate(slots, true, false) / bound, queue / bound);
}
