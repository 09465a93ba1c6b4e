// DeviceBook: which devices (GPUs) are leased to whom, and where the next test can go. Pure.
//
// It promises:
// - all devices of a lease are given out at once, or none;
// - the memory booked of a device is never more than it has, less a margin where tests share it;
// - a lease of a whole device has it alone;
// - a device that is out of use is never given out.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

namespace holdfast::plan {

/// Devices by their numbers, a bit each.
using DeviceSet = std::uint64_t;
inline constexpr std::size_t kMostDevices = 64;

/// What a test asks for.
struct DeviceDemand {
  int count = 0;
  std::uint64_t memory = 0;           ///< Bytes of each; 0 for whole devices.
  DeviceSet allowed = ~DeviceSet{0};  ///< By architecture and the like.
};

struct Device {
  std::uint64_t total = 0;    ///< Bytes.
  std::uint64_t foreign = 0;  ///< Used by what this run did not start.
  int node = -1;              ///< NUMA.
  bool usable = true;
};

struct Lease {
  std::vector<int> devices;  ///< In the order in which the test sees them.
  std::uint64_t memory = 0;  ///< As in the demand.
  bool shared = false;       ///< Another has been on one of its devices since it was given out.
};

class DeviceBook {
 public:
  void reset(std::vector<Device> devices) { devices_ = std::move(devices), states_.assign(devices_.size(), State{}); }
  [[nodiscard]] std::size_t size() const { return devices_.size(); }
  Device& change(int device) { return devices_[static_cast<std::size_t>(device)]; }
  /// Whether it could be met if nothing were leased.
  [[nodiscard]] bool is_possible(const DeviceDemand& demand, DeviceSet avoid = 0) const;
  /// The devices that it would get now. Those in `avoid` only where it could not be met without them at all; those in `kept`
  /// (for somebody else) never.
  [[nodiscard]] std::optional<Lease> find(const DeviceDemand& demand, DeviceSet avoid, DeviceSet kept) const;
  void take(const Lease& lease);
  void give_back(const Lease& lease);
  /// The devices that should be kept free for a demand which cannot be met now, so that it will be: those that the least is
  /// booked of.
  [[nodiscard]] DeviceSet to_keep(const DeviceDemand& demand, DeviceSet avoid) const;
  [[nodiscard]] int leases_of(int device) const { return states_[static_cast<std::size_t>(device)].leases; }

 private:
  struct State {
    int leases = 0;
    bool whole = false;  ///< Leased to one test alone.
    std::uint64_t booked = 0;
  };
  [[nodiscard]] DeviceSet suiting(const DeviceDemand& demand, DeviceSet avoid) const;
  [[nodiscard]] bool has_room(std::size_t device, const DeviceDemand& demand) const;
  [[nodiscard]] bool is_crowded(std::size_t device, const DeviceDemand& demand) const;
  void sort_for_lease(std::vector<std::size_t>& candidates, const DeviceDemand& demand) const;

  std::vector<Device> devices_;
  std::vector<State> states_;
};

}  // namespace holdfast::plan
