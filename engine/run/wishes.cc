#include "run/wishes.h"

#include <fmt/format.h>

#include <algorithm>

namespace holdfast::run {

namespace {

// Bytes in which measured memory is booked; less than half of it is not worth a booking.
constexpr std::uint64_t kMemoryStep = std::uint64_t{64} << 20U;

// What pytest-xdist's loadscope calls a scope: the test's id without its name and parameters.
std::string block_of(const std::string& id) { return id.substr(0, id.rfind("::", id.find('['))); }

}  // namespace

void Wishes::clear() { *this = Wishes(); }

void Wishes::add(const std::string& id, const nlohmann::json& item, int outermost) {
  Wish wish;
  wish.file = number_of_name(id.substr(0, id.find("::")));
  wish.group = number_of_name(item.value("group", ""));
  wish.scope = number_of_name(item.value("scope", ""));
  wish.block = number_of_name(block_of(id));
  wish.outermost = outermost;
  wish.reuse = item.value("reuse", false);
  if (auto demand = item.find("demand"); demand != item.end()) wish.demand = number_of(*demand);
  wishes_.push_back(wish);
}

void Wishes::know(std::size_t test, const journal::Known& known, std::uint64_t memory_limit) {
  Wish& wish = wishes_[test];
  wish.expected = known.duration;
  // What took its worker along last time gets a process of its own, whose word counts at once: one death instead of two, and
  // the worker keeps its fixtures. (In a scope's process it has to be.)
  if (known.died && wish.scope == 0) wish.reuse = false;
  book_measured(wish, known.memory, memory_limit);
  book_vram(wish, known.vram);
}

namespace {

// Whether a device is of one of these: "9.0" or "sm_90" is that one, ">=8.0" it or a later one.
bool has_arch(const inventory::Gpu& gpu, const std::vector<std::string>& wanted) {
  auto number = [](std::string text) {
    if (text.rfind("sm_", 0) == 0 && text.size() > 4)
      text = text.substr(3, text.size() - 4) + "." + text.substr(text.size() - 1);
    int major = 0;
    int minor = 0;
    return std::sscanf(text.c_str(), "%d.%d", &major, &minor) >= 1 ? 100 * major + minor : -1;
  };
  return std::any_of(wanted.begin(), wanted.end(), [&](const std::string& arch) {
    if (arch == gpu.vendor || arch == gpu.arch) return true;
    bool at_least = arch.rfind(">=", 0) == 0;
    int asked = number(at_least ? arch.substr(2) : arch);
    int has = number(gpu.arch);
    return asked >= 0 && has >= 0 && (at_least ? has >= asked : has == asked);
  });
}

}  // namespace

void Wishes::set_gpus(const std::vector<inventory::Gpu>& gpus, int per_slot, bool soft) {
  for (std::size_t i = 0; i < demands_.size(); ++i) {
    GpuWish& wish = gpus_[i];
    plan::DeviceDemand& demand = demands_[i].devices;
    if (!wish.named) {
      int most = soft ? std::min(per_slot, static_cast<int>(gpus.size())) : per_slot;
      demand.count = most * demands_[i].ranks;
      wish.measured = false;  // So many for each slot: nobody shares.
      continue;
    }
    if (wish.soft && gpus.empty()) demand.count = 0;
    if (wish.arch.empty()) continue;
    demand.allowed = 0;
    for (std::size_t device = 0; device < gpus.size() && device < plan::kMostDevices; ++device) {
      if (has_arch(gpus[device], wish.arch)) demand.allowed |= plan::DeviceSet{1} << device;
    }
  }
}

/// Its demand becomes this one, which is a variant of what it had; `key` tells the variants from each other.
void Wishes::vary(Wish& wish, const std::string& key, plan::Demand demand) {
  auto [entry, is_new] =
      demand_numbers_.emplace(fmt::format("{}{}", wish.demand, key), static_cast<std::uint32_t>(demands_.size()));
  if (is_new) {
    gpus_.push_back(GpuWish(gpus_[wish.demand]));
    demands_.push_back(std::move(demand));
  }
  wish.demand = entry->second;
}

// One that has said how much it needs keeps to that. In steps, so that there are few different demands.
void Wishes::book_vram(Wish& wish, std::uint64_t bytes) {
  constexpr std::uint64_t kStep = std::uint64_t{256} << 20U;
  plan::Demand demand = demands_[wish.demand];
  if (bytes == 0 || demand.devices.count == 0 || demand.devices.memory > 0 || !gpus_[wish.demand].measured) return;
  demand.devices.memory = (bytes + bytes / 10 + kStep) / kStep * kStep;
  const std::string key = fmt::format("v{}", demand.devices.memory);
  vary(wish, key, std::move(demand));
}

std::uint32_t Wishes::number_of_name(const std::string& text) {
  return names_.emplace(text, static_cast<std::uint32_t>(names_.size())).first->second;
}

std::uint32_t Wishes::number_of(const nlohmann::json& wish) {
  auto [entry, is_new] = demand_numbers_.emplace(wish.dump(), static_cast<std::uint32_t>(demands_.size()));
  if (!is_new) return entry->second;
  plan::Demand demand;
  demand.ranks = std::max(1, wish.value("ranks", 1));
  demand.cores = wish.value("cores", 1);
  demand.memory = wish.value("memory", std::uint64_t{0});
  demand.alone = wish.value("alone", false);
  const nlohmann::json tokens = wish.value("tokens", nlohmann::json::object());
  for (const auto& [name, exclusive] : tokens.items()) {
    auto token = tokens_.emplace(name, static_cast<std::uint32_t>(tokens_.size())).first->second;
    demand.tokens.push_back({token, exclusive.get<bool>()});
  }
  const nlohmann::json leases = wish.value("leases", nlohmann::json::object());
  for (const auto& [name, most] : leases.items()) {
    auto token = tokens_.emplace("lease " + name, static_cast<std::uint32_t>(tokens_.size())).first->second;
    demand.tokens.push_back({token, false, most.get<std::uint32_t>()});
  }
  GpuWish gpus;
  gpus.named = wish.contains("gpus");
  demand.devices.count = wish.value("gpus", 0) * demand.ranks;
  demand.devices.memory = wish.value("vram", std::uint64_t{0});
  gpus.soft = wish.value("soft", false);
  gpus.arch = wish.value("arch", std::vector<std::string>{});
  gpus_.push_back(std::move(gpus));
  demands_.push_back(std::move(demand));
  return entry->second;
}

// In steps, so that there are few different demands.
void Wishes::book_measured(Wish& wish, std::uint64_t bytes, std::uint64_t limit) {
  std::uint64_t booked = (bytes + kMemoryStep / 2) / kMemoryStep * kMemoryStep;
  plan::Demand demand = demands_[wish.demand];
  if (booked == 0 || demand.memory > 0) return;
  // Perhaps it was measured on a larger machine: it is never refused for that, only booked with all that there is.
  demand.memory = limit > 0 ? std::min(booked, limit) : booked;
  vary(wish, fmt::format("+{}", booked), std::move(demand));
}

plan::Problem Wishes::problem(const Dealing& dealing) const {
  plan::Problem problem;
  problem.slots = dealing.slots;
  problem.capacity = dealing.capacity;
  problem.demands = demands_;
  problem.devices = dealing.devices;
  problem.one_chunk = dealing.dist == "isoscope" || dealing.dist == "static" || dealing.dist == "one";
  problem.keep_order = dealing.keep_order || dealing.dist == "sequential" || problem.one_chunk;
  std::vector<int> steps;   // Of `static`: slots that are left in each,
  std::ptrdiff_t full = 0;  // none in so many of the first.
  problem.tasks.reserve(wishes_.size());
  // What shares a chunk: a kind of thing, and its number. Kind 0 is for tests that have one of their own.
  enum Kind : std::uint32_t { kOwn, kAll, kGroup, kFile, kScope, kSharedFile, kBlock, kTree, kStep };
  std::map<std::pair<Kind, std::uint32_t>, std::uint32_t> chunks;
  for (const Wish& wish : wishes_) {
    auto chunk = static_cast<std::uint32_t>(problem.splittable.size());
    std::pair<Kind, std::uint32_t> key{kOwn, 0};
    if (dealing.dist == "sequential") {
      key = {kAll, 0};
    } else if (dealing.dist == "one") {
      // A chunk each, and one chunk at a time.
    } else if (dealing.dist == "static") {
      // The first step with room for it, as pytest_parallel's static scheduler has it.
      int ranks = std::min(demands_[wish.demand].ranks, dealing.slots);
      while (full < std::ssize(steps) && steps[static_cast<std::size_t>(full)] == 0) ++full;
      auto step = std::find_if(steps.begin() + full, steps.end(), [ranks](int room) { return room >= ranks; });
      if (step == steps.end()) step = steps.insert(steps.end(), dealing.slots);
      *step -= ranks;
      key = {kStep, static_cast<std::uint32_t>(step - steps.begin())};
    } else if (dealing.dist == "group" && wish.group != 0) {
      key = {kGroup, wish.group};
    } else if (dealing.dist == "file") {
      key = {kFile, wish.file};
    } else if (problem.one_chunk || (dealing.dist == "scope" && wish.reuse)) {
      key = {kBlock, wish.block};
    } else if (wish.outermost >= 0) {
      // Set up once, and shared when slots are idle.
      key = {kTree, static_cast<std::uint32_t>(wish.outermost)};
    } else if (wish.scope != 0) {
      key = {kScope, wish.scope};
    } else if (wish.reuse) {
      // A worker sets up each scope once, but a large file is shared when slots are idle.
      key = {kSharedFile, wish.file};
    }
    std::uint32_t mine = key.first == kOwn ? chunk : chunks.emplace(key, chunk).first->second;
    if (mine == chunk)
      problem.splittable.push_back(key.first == kSharedFile || key.first == kBlock || key.first == kTree || key.first == kStep);
    problem.tasks.push_back({wish.expected, mine, wish.demand, wish.reuse, wish.scope});
  }
  return problem;
}

}  // namespace holdfast::run
