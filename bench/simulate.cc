// Drives the scheduler with a virtual clock: how good its order is, and how many decisions it makes in a second.
//
//   simulate TESTS SLOTS [noise]     noise: the history is off by a factor of up to exp(+-noise) (0.2)
//
// Durations are heavy-tailed (Pareto, alpha 1.5, cut at 10,000 times the least): most tests take milliseconds, a few take
// minutes. The lower bound of the makespan is the larger of the longest test and the sum over the slots.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <queue>
#include <random>

#include "plan/scheduler.h"

using holdfast::plan::Problem;
using holdfast::plan::Scheduler;
using holdfast::plan::Task;

namespace {

struct Outcome {
  double makespan = 0;
  double seconds = 0;  // Of this program's own time.
  std::size_t decisions = 0;
};

Outcome simulate(const std::vector<double>& durations, Problem problem) {
  auto begun = std::chrono::steady_clock::now();
  Scheduler scheduler;
  int slots = problem.slots;
  scheduler.reset(std::move(problem));
  using End = std::tuple<double, int, std::size_t>;
  std::priority_queue<End, std::vector<End>, std::greater<>> running;
  Outcome outcome;
  auto start = [&](int slot, double now) {
    ++outcome.decisions;
    if (auto task = scheduler.take(slot)) running.emplace(now + durations[*task], slot, *task);
  };
  for (int slot = 0; slot < slots; ++slot) start(slot, 0);
  while (!running.empty()) {
    auto [now, slot, task] = running.top();
    running.pop();
    outcome.makespan = now;
    scheduler.finished(slot, task);
    start(slot, now);
  }
  if (!scheduler.empty()) std::abort();
  outcome.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begun).count();
  return outcome;
}

}  // namespace

int main(int argc, char** argv) {
  std::size_t tests = argc > 1 ? std::strtoull(argv[1], nullptr, 10) : 100'000;
  int slots = argc > 2 ? std::atoi(argv[2]) : 64;
  double noise = argc > 3 ? std::atof(argv[3]) : 0.2;
  std::mt19937_64 random(7);
  std::uniform_real_distribution<double> uniform(0, 1);
  std::vector<double> durations(tests);
  for (double& seconds : durations) seconds = std::min(0.001 * std::pow(1 - uniform(random), -1 / 1.5), 10.0);
  double sum = 0;
  for (double seconds : durations) sum += seconds;
  double bound = std::max(sum / slots, *std::max_element(durations.begin(), durations.end()));

  Problem problem;
  problem.slots = slots;
  problem.capacity.cores = slots;
  for (std::size_t i = 0; i < tests; ++i) {
    double guess = durations[i] * std::exp(noise * (2 * uniform(random) - 1));
    problem.tasks.push_back(Task{guess, static_cast<std::uint32_t>(i), 0, false});
  }
  Problem unknown = problem;
  for (Task& task : unknown.tasks) task.expected = -1;
  Outcome with = simulate(durations, problem);
  Outcome without = simulate(durations, unknown);
  std::printf(
      "%zu tests, %d slots: makespan %.4f of the lower bound with history, %.4f without; %.2f million decisions a second\n",
      tests, slots, with.makespan / bound, without.makespan / bound, static_cast<double>(with.decisions) / with.seconds / 1e6);
  return 0;
}
