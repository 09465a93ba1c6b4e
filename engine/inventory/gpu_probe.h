// GpuProbe: how the engine looks at GPUs. The seam between what decides (run/devices.h) and a process that talks to the
// drivers.
#pragma once

#include <sys/types.h>

#include <functional>
#include <string>
#include <vector>

#include "inventory/gpus.h"

namespace holdfast::inventory {

/// The most memory that a process was seen to hold of a device.
struct GpuPeak {
  std::string uuid;
  std::vector<int> pids;  ///< The process, its parent, and so on.
  std::uint64_t bytes = 0;
};

/// What was in use of a device at a time.
struct GpuSample {
  std::string uuid;
  double at = 0;  ///< Seconds of CLOCK_MONOTONIC.
  std::uint64_t used = 0;
};

struct GpuLook {
  bool answered = false;  ///< Otherwise nobody knows: the driver hangs, or the process that asks it died.
  std::vector<Gpu> gpus;
  std::vector<std::string> problems;
  std::vector<GpuSample> samples;
  std::vector<GpuPeak> peaks;  ///< Since the last look, while watching.
};

class GpuProbe {
 public:
  using OnLook = std::function<void(const GpuLook& look)>;
  using OnProbed = std::function<void(bool good, const std::string& text)>;
  virtual ~GpuProbe() = default;
  /// Calls back once, from the loop, within a bounded time.
  virtual void look(OnLook then) = 0;
  /// Whether a fresh process can use the device: a context, memory, a copy there and back. `text` says what failed.
  virtual void probe(const Gpu& gpu, OnProbed then) = 0;
  /// While it watches, memory is sampled, and what devices say of themselves is told to `on_event`.
  virtual void watch(bool on) = 0;
  /// Whether a process is one of its own.
  [[nodiscard]] virtual bool owns(pid_t pid) const = 0;
  std::function<void(const GpuEvent& event)> on_event;
};

}  // namespace holdfast::inventory
