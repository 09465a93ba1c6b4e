#include "inventory/cpus.h"

#include <fmt/format.h>
#include <sched.h>

#include <algorithm>
#include <cstdlib>
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

std::map<int, int> cpus_by_node() {
  std::map<int, int> found;
  cpu_set_t set;
  CPU_ZERO(&set);
  if (::sched_getaffinity(0, sizeof set, &set) != 0) return found;
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (!CPU_ISSET(cpu, &set)) continue;
    found[cpu] = 0;
    // /sys/devices/system/cpu/cpu3/node1 is a link to the node.
    std::error_code problem;
    for (const auto& entry : std::filesystem::directory_iterator(fmt::format("/sys/devices/system/cpu/cpu{}", cpu), problem)) {
      const std::string name = entry.path().filename().string();
      if (name.rfind("node", 0) == 0) found[cpu] = std::atoi(name.c_str() + 4);
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
