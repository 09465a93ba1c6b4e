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
/// Those of the affinity mask, each with its NUMA node (0 where that is not known).
std::map<int, int> cpus_by_node();
/// The part of usable_cpus() that reads the quota: `text` as in v2's cpu.max ("max 100000" or "150000 100000").
/// Returns 0 where there is no limit.
int cpus_of_quota(const std::string& text);

}  // namespace holdfast::inventory
