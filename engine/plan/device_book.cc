#include "plan/device_book.h"

#include <algorithm>
#include <map>

namespace holdfast::plan {

namespace {

// Of a device that tests share, this part stays free: contexts and fragments that nobody has booked.
constexpr std::uint64_t kMarginPart = 20;

DeviceSet bit(std::size_t device) { return DeviceSet{1} << device; }

}  // namespace

/// Those that could ever be a part of its lease.
std::vector<std::size_t> DeviceBook::suiting(const DeviceDemand& demand, DeviceSet avoid) const {
  std::vector<std::size_t> found;
  for (std::size_t i = 0; i < devices_.size(); ++i) {
    const Device& entry = devices_[i];
    if (entry.usable && (demand.allowed & ~avoid & bit(i)) != 0 && demand.memory <= entry.total) found.push_back(i);
  }
  return found;
}

/// Now.
bool DeviceBook::has_room(std::size_t device, const DeviceDemand& demand) const {
  const State& state = states_[device];
  if (state.leases == 0) return true;  // All that it has; what others use of it is not ours to wait for.
  if (state.whole || demand.memory == 0) return false;
  const Device& entry = devices_[device];
  std::uint64_t limit = entry.total - entry.total / kMarginPart;
  return entry.foreign + state.booked + demand.memory <= limit;
}

/// By others, who may never leave.
bool DeviceBook::is_crowded(std::size_t device, const DeviceDemand& demand) const {
  const Device& entry = devices_[device];
  return demand.memory > entry.total - std::min(entry.total, entry.foreign);
}

bool DeviceBook::is_possible(const DeviceDemand& demand, DeviceSet avoid) const {
  return static_cast<int>(suiting(demand, avoid).size()) >= demand.count;
}

std::optional<Lease> DeviceBook::find(const DeviceDemand& demand, DeviceSet avoid, DeviceSet kept) const {
  std::vector<std::size_t> candidates = suiting(demand, is_possible(demand, avoid) ? avoid : 0);
  auto roomy = std::count_if(candidates.begin(), candidates.end(), [&](std::size_t i) { return !is_crowded(i, demand); });
  // Where others have so much of all of them, waiting would not help: then it must do with what there is.
  bool only_roomy = roomy >= demand.count;
  auto cannot = [&](std::size_t i) {
    return (kept & bit(i)) != 0 || (only_roomy && is_crowded(i, demand)) || !has_room(i, demand);
  };
  candidates.erase(std::remove_if(candidates.begin(), candidates.end(), cannot), candidates.end());
  if (static_cast<int>(candidates.size()) < demand.count) return std::nullopt;
  std::map<int, int> on_node;
  for (std::size_t i : candidates) ++on_node[devices_[i].node];
  // What is fullest and still has room comes first, so that large holes stay; for whole devices, what others use least. Several
  // stay on one node, if one has enough.
  std::sort(candidates.begin(), candidates.end(), [&](std::size_t a, std::size_t b) {
    bool whole_node_a = on_node[devices_[a].node] >= demand.count;
    bool whole_node_b = on_node[devices_[b].node] >= demand.count;
    if (demand.count > 1 && whole_node_a != whole_node_b) return whole_node_a;
    if (demand.count > 1 && devices_[a].node != devices_[b].node) return devices_[a].node < devices_[b].node;
    if (demand.memory == 0) {
      return devices_[a].foreign != devices_[b].foreign ? devices_[a].foreign < devices_[b].foreign : a < b;
    }
    auto left = [&](std::size_t i) {
      return devices_[i].total - std::min(devices_[i].total, devices_[i].foreign + states_[i].booked);
    };
    return left(a) != left(b) ? left(a) < left(b) : a < b;
  });
  Lease lease;
  lease.memory = demand.memory;
  for (int i = 0; i < demand.count; ++i) lease.devices.push_back(static_cast<int>(candidates[static_cast<std::size_t>(i)]));
  std::sort(lease.devices.begin(), lease.devices.end());
  return lease;
}

void DeviceBook::take(const Lease& lease) {
  for (int device : lease.devices) {
    State& state = states_[static_cast<std::size_t>(device)];
    ++state.leases;
    state.whole = state.whole || lease.memory == 0;
    state.booked += lease.memory;
  }
}

void DeviceBook::give_back(const Lease& lease) {
  for (int device : lease.devices) {
    State& state = states_[static_cast<std::size_t>(device)];
    --state.leases;
    if (lease.memory == 0) state.whole = false;
    state.booked -= lease.memory;
  }
}

DeviceSet DeviceBook::to_keep(const DeviceDemand& demand, DeviceSet avoid) const {
  std::vector<std::size_t> candidates = suiting(demand, is_possible(demand, avoid) ? avoid : 0);
  std::sort(candidates.begin(), candidates.end(), [&](std::size_t a, std::size_t b) {
    if (states_[a].whole != states_[b].whole) return !states_[a].whole;
    return states_[a].booked != states_[b].booked ? states_[a].booked < states_[b].booked : a < b;
  });
  DeviceSet kept = 0;
  for (std::size_t i = 0; i < candidates.size() && static_cast<int>(i) < demand.count; ++i) kept |= bit(candidates[i]);
  return kept;
}

}  // namespace holdfast::plan
