#include "inventory/cpus.h"

#include <fmt/format.h>
#include <sched.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <sstream>

#include "os/group_dirs.h"

namespace holdfast::inventory {

namespace {

int cpus_of_affinity() {
  cpu_set_t set;
  CPU_ZERO(&set);
  // A machine with more CPUs than the static set holds answers EINVAL; then the quota or 1024 decides.
  return ::sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1024;
}

}  // namespace

std::vector<int> cpus_of_node(int node) {
  return cpu_list(os::read_line(fmt::format("/sys/devices/system/node/node{}/cpulist", node)));
}

std::vector<int> cpu_list(const std::string& text) {
  std::vector<int> cpus;
  std::istringstream in(text);
  for (std::string part; std::getline(in, part, ',');) {
    int first = 0;
    int last = 0;
    int count = std::sscanf(part.c_str(), "%d-%d", &first, &last);
    for (int cpu = first; count > 0 && cpu <= (count == 2 ? last : first); ++cpu) cpus.push_back(cpu);
  }
  return cpus;
}

std::map<int, CpuPlace> places_of_cpus() {
  std::map<int, CpuPlace> found;
  cpu_set_t set;
  CPU_ZERO(&set);
  if (::sched_getaffinity(0, sizeof set, &set) != 0) return found;
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (!CPU_ISSET(cpu, &set)) continue;
    std::vector<int> threads =
        cpu_list(os::read_line(fmt::format("/sys/devices/system/cpu/cpu{}/topology/thread_siblings_list", cpu)));
    found[cpu] = CpuPlace{0, threads.empty() ? cpu : threads.front()};
  }
  std::error_code problem;
  for (const auto& entry : std::filesystem::directory_iterator("/sys/devices/system/node", problem)) {
    int node = 0;
    if (std::sscanf(entry.path().filename().c_str(), "node%d", &node) != 1) continue;
    for (int cpu : cpus_of_node(node)) {
      if (auto usable = found.find(cpu); usable != found.end()) usable->second.node = node;
    }
  }
  return found;
}

int cpus_of_quota(const std::string& text) {
  std::istringstream in(text);
  double quota = 0;
  double period = 0;
  if (!(in >> quota >> period) || quota <= 0 || period <= 0) return 0;
  return std::max(1, static_cast<int>((quota + period - 1) / period));
}

int usable_cpus() {
  int cpus = std::max(1, cpus_of_affinity());
  for (const os::GroupDir& dir : os::group_dirs("cpu")) {
    int quota = cpus_of_quota(dir.v2 ? os::read_line(dir.path + "/cpu.max")
                                     : os::read_line(dir.path + "/cpu.cfs_quota_us") + " " +
                                           os::read_line(dir.path + "/cpu.cfs_period_us"));
    if (quota > 0) cpus = std::min(cpus, quota);
  }
  return cpus;
}

}  // namespace holdfast::inventory
