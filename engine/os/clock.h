// Clock: one of the six seams. Everything that asks for the time asks here.
#pragma once

#include <chrono>

namespace holdfast::os {

using Time = std::chrono::steady_clock::time_point;
using Duration = std::chrono::steady_clock::duration;

/// Seconds, as users give them, to the loop's unit.
inline Duration seconds(double value) { return std::chrono::duration_cast<Duration>(std::chrono::duration<double>(value)); }
inline double to_seconds(Duration value) { return std::chrono::duration<double>(value).count(); }

class Clock {
 public:
  virtual ~Clock() = default;
  /// CLOCK_MONOTONIC: the clock of Python's time.monotonic(), so the slate's times compare to it.
  [[nodiscard]] virtual Time now() const = 0;
  /// Seconds since the epoch, for records only.
  [[nodiscard]] virtual double wall() const = 0;
};

class SystemClock final : public Clock {
 public:
  [[nodiscard]] Time now() const override { return std::chrono::steady_clock::now(); }
  [[nodiscard]] double wall() const override {
    return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
  }
};

}  // namespace holdfast::os
