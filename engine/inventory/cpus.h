// How many CPUs this process may really use.
#pragma once

#include <map>
#include <string>
#include <vector>

namespace holdfast::inventory {

/// CPUs by the affinity mask, lowered by the CPU quota of our cgroup (v2 cpu.max, v1 cpu.cfs_quota_us), rounded up; at least 1.
int usable_cpus();
/// All that a NUMA node has; none where that is not known.
std::vector<int> cpus_of_node(int node);
struct CpuPlace {
  int node = 0;  ///< NUMA; 0 where that is not known.
  int core = 0;  ///< The lowest CPU that is a hardware thread of the same core; the CPU itself where that is not known.
};
/// Those of the affinity mask.
std::map<int, CpuPlace> places_of_cpus();
/// Numbers as /sys writes them: "0-3,8".
std::vector<int> cpu_list(const std::string& text);
/// The part of usable_cpus() that reads the quota: `text` as in v2's cpu.max ("max 100000" or "150000 100000").
/// Returns 0 where there is no limit.
int cpus_of_quota(const std::string& text);

}  // namespace holdfast::inventory
