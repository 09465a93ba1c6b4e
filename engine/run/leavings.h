// What a process that could not tell any more has left: files and shared memory that the trail behind its slate names
// (shim/trail.c), and System V segments, of which the kernel knows the maker. What has a name that nobody can know by heart is
// removed; where somebody has chosen it, it stays, and is only told. python/holdfast/leaks.py does the same for the living.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

#include "run/judge.h"

namespace holdfast::run {

/// A process that is still there, as it is before it is killed.
Survivor describe_survivor(pid_t pid);

/// `trail`: a copy of what stands behind the slate, written by a test and so believed only where the file system agrees:
/// `began` (seconds since 1970) is when the test did, and what is older is not its own. Removes at most 1,000 files.
std::vector<Leak> clear_leavings(const std::string& trail, pid_t pid, double began);

}  // namespace holdfast::run
