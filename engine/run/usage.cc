#include "run/usage.h"

#include <algorithm>
#include <cmath>

#include "os/procfs.h"

namespace holdfast::run {

namespace {

constexpr std::size_t kMaxSamples = 60;

double rounded(double seconds) { return std::round(seconds * 1e4) / 1e4; }

}  // namespace

Sample look(pid_t pid) {
  Sample sample;
  std::vector<pid_t> pids = os::descendants_of(pid);
  pids.push_back(pid);
  for (pid_t each : pids) {
    os::ProcessUsage usage = os::usage_of(each);
    if (usage.threads == 0) continue;  // It has ended meanwhile.
    ++sample.processes;
    sample.cpu += usage.cpu;
    sample.memory += usage.resident;
    sample.threads += usage.threads;
    sample.files += os::open_files(each);
  }
  return sample;
}

void Usage::add(const Sample& sample) {
  samples_.push_back(sample);
  if (samples_.size() <= kMaxSamples) return;
  interval_ *= 2;
  for (std::size_t i = 0; 2 * i < samples_.size(); ++i) samples_[i] = samples_[2 * i];
  samples_.resize((samples_.size() + 1) / 2);
}

nlohmann::json Usage::describe() const {
  nlohmann::json result = {
      {"user", rounded(user)}, {"system", rounded(system)}, {"peak", peak}, {"read", read}, {"written", written}};
  if (samples_.empty()) return result;
  Sample most;
  nlohmann::json series = nlohmann::json::array();
  for (const Sample& sample : samples_) {
    most.processes = std::max(most.processes, sample.processes);
    most.threads = std::max(most.threads, sample.threads);
    most.files = std::max(most.files, sample.files);
    most.memory = std::max(most.memory, sample.memory);
    series.push_back({rounded(sample.at), rounded(sample.cpu), sample.memory, sample.processes, sample.threads, sample.files});
  }
  result.update({{"processes", most.processes},
                 {"threads", most.threads},
                 {"files", most.files},
                 {"memory", most.memory},
                 {"samples", std::move(series)}});
  return result;
}

}  // namespace holdfast::run
