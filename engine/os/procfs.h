// What /proc tells about processes: parents, children, states, command lines.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace holdfast::os {

/// Direct children of `pid`, zombies included. Reads /proc/PID/task/*/children, or every /proc/*/stat where the kernel lacks
/// it.
std::vector<pid_t> children_of(pid_t pid);
/// Children, grandchildren and so on, parents first.
std::vector<pid_t> descendants_of(pid_t pid);
/// 0 if there is no such process.
pid_t parent_of(pid_t pid);
/// The state letter of /proc/PID/stat ('R', 'S', 'T', 'Z', ...), or 0 if there is no such process.
char process_state(pid_t pid);
/// False for zombies and for processes that are gone.
bool is_running(pid_t pid);
/// When the process began, seconds of CLOCK_MONOTONIC, rounded down to /proc's clock ticks; 0 if there is no such process.
double start_time(pid_t pid);
/// The command line with blanks between the arguments, at most 300 bytes; the name in brackets for one without.
std::string command_line(pid_t pid);
struct ProcessUsage {
  double cpu = 0;              ///< Seconds of user and system time.
  std::uint64_t resident = 0;  ///< Bytes.
  int threads = 0;             ///< 0 if there is no such process.
};
ProcessUsage usage_of(pid_t pid);
/// Descriptors that the process has open; 0 where /proc does not tell.
int open_files(pid_t pid);

/// Kills everything below `root` but not `root` itself nor what `spare` names (and its descendants). Repeats until a pass
/// finds only zombies, at most 100 times (a fork bomb outruns it; that is what the cgroup is for). Returns how many were hit.
int kill_descendants(pid_t root, const std::function<bool(pid_t)>& spare);

}  // namespace holdfast::os
