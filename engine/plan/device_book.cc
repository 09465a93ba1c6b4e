#include "plan/device_book.h"

#include <algorithm>
#include <bit>
#include <map>

namespace holdfast::plan {

namespace {

// Of a device that tests share, this part stays free: contexts and fragments that nobody has booked.
constexpr std::uint64_t kMarginPart = 20;

DeviceSet bit(std::size_t device) { return DeviceSet{1} << device; }

/// Those of the set that fulfil the condition.
template <typename Condition>
DeviceSet select(DeviceSet set, Condition condition) {
  DeviceSet found = 0;
  for (DeviceSet rest = set; rest != 0; rest &= rest - 1) {
    auto device = static_cast<std::size_t>(std::countr_zero(rest));
    if (condition(device)) found |= bit(device);
  }
  return found;
}

bool has(DeviceSet set, int count) { return count == 1 ? set != 0 : std::popcount(set) >= count; }

std::vector<std::size_t> numbers(DeviceSet set) {
  std::vector<std::size_t> found;
  for (DeviceSet rest = set; rest != 0; rest &= rest - 1) found.push_back(static_cast<std::size_t>(std::countr_zero(rest)));
  return found;
}

}  // namespace

/// Those that could ever be a part of its lease.
DeviceSet DeviceBook::suiting(const DeviceDemand& demand, DeviceSet avoid) const {
  DeviceSet found = 0;
  for (std::size_t i = 0; i < devices_.size(); ++i) {
    if (devices_[i].usable && demand.memory <= devices_[i].total) found |= bit(i);
  }
  return found & demand.allowed & ~avoid;
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
  return has(suiting(demand, avoid), demand.count);
}

// The planning of an order asks this a million times: nothing is allocated where the answer is no.
std::optional<Lease> DeviceBook::find(const DeviceDemand& demand, DeviceSet avoid, DeviceSet kept) const {
  DeviceSet suit = suiting(demand, is_possible(demand, avoid) ? avoid : 0);
  DeviceSet roomy = select(suit, [&](std::size_t i) { return !is_crowded(i, demand); });
  // Where others have so much of all of them, waiting would not help: then it must do with what there is.
  if (has(roomy, demand.count)) suit = roomy;
  suit = select(suit & ~kept, [&](std::size_t i) { return has_room(i, demand); });
  if (!has(suit, demand.count)) return std::nullopt;
  std::vector<std::size_t> candidates = numbers(suit);
  sort_for_lease(candidates, demand);
  Lease lease;
  lease.memory = demand.memory;
  for (int i = 0; i < demand.count; ++i) lease.devices.push_back(static_cast<int>(candidates[static_cast<std::size_t>(i)]));
  std::sort(lease.devices.begin(), lease.devices.end());
  return lease;
}

// What is fullest and still has room comes first, so that large holes stay; for whole devices, what others use least. Several
// stay on one node, if one has enough.
void DeviceBook::sort_for_lease(std::vector<std::size_t>& candidates, const DeviceDemand& demand) const {
  std::map<int, int> on_node;
  if (demand.count > 1) {
    for (std::size_t i : candidates) ++on_node[devices_[i].node];
  }
  auto left = [&](std::size_t i) {
    return devices_[i].total - std::min(devices_[i].total, devices_[i].foreign + states_[i].booked);
  };
  std::sort(candidates.begin(), candidates.end(), [&](std::size_t a, std::size_t b) {
    const Device& device_a = devices_[a];
    const Device& device_b = devices_[b];
    if (demand.count > 1 && device_a.node != device_b.node) {
      bool enough_a = on_node[device_a.node] >= demand.count;
      bool enough_b = on_node[device_b.node] >= demand.count;
      return enough_a != enough_b ? enough_a : device_a.node < device_b.node;
    }
    if (demand.memory == 0) return device_a.foreign != device_b.foreign ? device_a.foreign < device_b.foreign : a < b;
    return left(a) != left(b) ? left(a) < left(b) : a < b;
  });
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
  std::vector<std::size_t> candidates = numbers(suiting(demand, is_possible(demand, avoid) ? avoid : 0));
  std::sort(candidates.begin(), candidates.end(), [&](std::size_t a, std::size_t b) {
    if (states_[a].whole != states_[b].whole) return !states_[a].whole;
    return states_[a].booked != states_[b].booked ? states_[a].booked < states_[b].booked : a < b;
  });
  DeviceSet kept = 0;
  for (std::size_t i = 0; i < candidates.size() && static_cast<int>(i) < demand.count; ++i) kept |= bit(candidates[i]);
  return kept;
}

}  // namespace holdfast::plan
