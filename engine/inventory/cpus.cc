#include "inventory/cpus.h"

#include <sched.h>

#include <algorithm>
#include <fstream>
#include <sstream>
#include <vector>

namespace holdfast::inventory {

namespace {

std::string read_line(const std::string& path) {
  std::ifstream in(path);
  std::string line;
  std::getline(in, line);
  return line;
}

int cpus_of_affinity() {
  cpu_set_t set;
  CPU_ZERO(&set);
  // A machine with more CPUs than the static set holds answers EINVAL; then the quota or 1024 decides.
  return ::sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1024;
}

// The group's directory and all its parents up to the mount, since a limit anywhere above applies.
int smallest_quota(const std::string& mount, const std::string& group, bool v2) {
  int smallest = 0;
  std::string path = group;
  for (int depth = 0; depth < 64; ++depth) {
    std::string dir = mount + path;
    std::string text =
        v2 ? read_line(dir + "/cpu.max") : read_line(dir + "/cpu.cfs_quota_us") + " " + read_line(dir + "/cpu.cfs_period_us");
    int cpus = cpus_of_quota(text);
    if (cpus > 0) smallest = smallest == 0 ? cpus : std::min(smallest, cpus);
    if (path.empty() || path == "/") break;
    path.erase(path.rfind('/'));
  }
  return smallest;
}

}  // namespace

int cpus_of_quota(const std::string& text) {
  std::istringstream in(text);
  double quota = 0;
  double period = 0;
  if (!(in >> quota >> period) || quota <= 0 || period <= 0) return 0;
  return std::max(1, static_cast<int>((quota + period - 1) / period));
}

int usable_cpus() {
  int cpus = std::max(1, cpus_of_affinity());
  std::ifstream in("/proc/self/cgroup");
  for (std::string line; std::getline(in, line);) {
    std::size_t second = line.find(':', line.find(':') + 1);
    if (second == std::string::npos) continue;
    std::string controllers = line.substr(line.find(':') + 1, second - line.find(':') - 1);
    std::string group = line.substr(second + 1);
    int quota = 0;
    if (controllers.empty()) quota = smallest_quota("/sys/fs/cgroup", group, true);
    if (("," + controllers + ",").find(",cpu,") != std::string::npos) {
      quota = smallest_quota("/sys/fs/cgroup/" + controllers, group, false);
    }
    if (quota > 0) cpus = std::min(cpus, quota);
  }
  return cpus;
}

}  // namespace holdfast::inventory
