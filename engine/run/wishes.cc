#include "run/wishes.h"

#include <fmt/format.h>

#include <algorithm>
#include <unordered_map>

namespace holdfast::run {

namespace {

// Bytes in which measured memory is booked; less than half of it is not worth a booking.
constexpr std::uint64_t kMemoryStep = std::uint64_t{64} << 20U;

}  // namespace

void Wishes::clear() { *this = Wishes(); }

void Wishes::add(const std::string& id, const nlohmann::json& item, const journal::Known* known, std::uint64_t memory_limit) {
  Wish wish;
  wish.id = id;
  wish.group = item.value("group", "");
  wish.scope = item.value("scope", "");
  wish.reuse = item.value("reuse", false);
  if (auto demand = item.find("demand"); demand != item.end()) wish.demand = number_of(*demand);
  if (known != nullptr) {
    wish.expected = known->duration;
    book_measured(wish, known->memory, memory_limit);
  }
  wishes_.push_back(std::move(wish));
}

std::uint32_t Wishes::number_of(const nlohmann::json& wish) {
  auto [entry, is_new] = demand_numbers_.emplace(wish.dump(), static_cast<std::uint32_t>(demands_.size()));
  if (!is_new) return entry->second;
  plan::Demand demand;
  demand.cores = wish.value("cores", 1);
  demand.memory = wish.value("memory", std::uint64_t{0});
  demand.alone = wish.value("alone", false);
  const nlohmann::json tokens = wish.value("tokens", nlohmann::json::object());
  for (const auto& [name, exclusive] : tokens.items()) {
    auto token = tokens_.emplace(name, static_cast<std::uint32_t>(tokens_.size())).first->second;
    demand.tokens.push_back({token, exclusive.get<bool>()});
  }
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
  auto [entry, is_new] =
      demand_numbers_.emplace(fmt::format("{}+{}", wish.demand, booked), static_cast<std::uint32_t>(demands_.size()));
  if (is_new) demands_.push_back(std::move(demand));
  wish.demand = entry->second;
}

plan::Problem Wishes::problem(const Dealing& dealing) const {
  plan::Problem problem;
  problem.slots = dealing.slots;
  problem.capacity = dealing.capacity;
  problem.demands = demands_;
  problem.keep_order = dealing.keep_order || dealing.dist == "sequential";
  problem.tasks.reserve(wishes_.size());
  std::unordered_map<std::string, std::uint32_t> chunks;
  std::unordered_map<std::string, std::uint32_t> processes;
  for (const Wish& wish : wishes_) {
    auto chunk = static_cast<std::uint32_t>(problem.splittable.size());
    bool splittable = false;
    std::string key;  // Of the chunk that it is dealt in; empty for one of its own.
    auto file = [&wish] { return wish.id.substr(0, wish.id.find("::")); };
    if (dealing.dist == "sequential") {
      key = "all";
    } else if (dealing.dist == "group" && !wish.group.empty()) {
      key = "group " + wish.group;
    } else if (dealing.dist == "file") {
      key = "file " + file();
    } else if (!wish.scope.empty()) {
      key = "scope " + wish.scope;
    } else if (wish.reuse) {
      // A worker sets up each scope once, but a large file is shared when slots are idle.
      key = "shared file " + file();
      splittable = true;
    }
    std::uint32_t mine = key.empty() ? chunk : chunks.emplace(std::move(key), chunk).first->second;
    if (mine == chunk) problem.splittable.push_back(splittable);
    auto number = static_cast<std::uint32_t>(processes.size() + 1);
    std::uint32_t process = wish.scope.empty() ? 0 : processes.emplace(wish.scope, number).first->second;
    problem.tasks.push_back({wish.expected, mine, wish.demand, wish.reuse, process});
  }
  return problem;
}

}  // namespace holdfast::run
