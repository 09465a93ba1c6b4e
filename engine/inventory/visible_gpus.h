// Which of the machine's GPUs the user lets us see: CUDA_VISIBLE_DEVICES, ROCR_VISIBLE_DEVICES, HIP_VISIBLE_DEVICES. Pure.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "base/result.h"
#include "inventory/gpus.h"

namespace holdfast::inventory {

/// Value of an environment variable, or null.
using Environment = std::function<const char*(const char* name)>;

/// In the order in which they are listed; all, where there is no list. An entry is an index, the beginning of a UUID that only
/// one device has, or a MIG instance's UUID; `-1` ends the list, and an empty list hides all. A list that names a device twice,
/// or one that is not there, is the user's mistake.
Result<std::vector<Gpu>> visible_gpus(const std::vector<Gpu>& all, const Environment& environment);

/// What a process has to have in its environment to see exactly these.
std::vector<std::pair<std::string, std::string>> environment_for(const std::vector<Gpu>& gpus);

}  // namespace holdfast::inventory
