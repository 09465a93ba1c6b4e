// A clock that advances by hand, so that no test waits.
#pragma once

#include "os/loop.h"

namespace holdfast::os {

// The loop's own timer descriptor is not asked: due timers run after every batch of events.
struct FakeClock final : Clock {
  Time time = std::chrono::steady_clock::now();
  [[nodiscard]] Time now() const override { return time; }
  [[nodiscard]] double wall() const override { return 0; }
};

}  // namespace holdfast::os
