// What speaks against the GPUs that a failed test had.
#pragma once

#include <string>
#include <vector>

#include "plan/device_book.h"

namespace holdfast::run {

/// What speaks for it that a device, and not the test, is to blame for a failure.
struct Suspicion {
  plan::DeviceSet devices = 0;        ///< The test's; empty if nothing speaks against them.
  std::vector<std::string> evidence;  ///< In words.
  bool proved = false;                ///< By the device itself, or by a probe; otherwise by the words of the failure alone.
  bool crowded = false;               ///< It ran out of memory on a device that it shared.
};

}  // namespace holdfast::run
