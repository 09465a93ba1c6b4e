#include "plan/cpu_book.h"

#include <algorithm>

namespace holdfast::plan {

void CpuBook::reset(const std::map<int, int>& cpus) {
  nodes_ = cpus;
  free_.clear();
  for (auto [cpu, node] : cpus) free_[node].push_back(cpu);
}

std::optional<std::vector<int>> CpuBook::take(int count) {
  auto wanted = static_cast<std::size_t>(count);
  std::vector<std::vector<int>*> nodes;
  std::size_t all = 0;
  for (auto& [node, cpus] : free_) {
    nodes.push_back(&cpus);
    all += cpus.size();
  }
  if (all < wanted) return std::nullopt;
  // The node with the least room that has enough; where none has, as few nodes as possible.
  std::sort(nodes.begin(), nodes.end(), [&](const auto* a, const auto* b) {
    bool enough_a = a->size() >= wanted;
    bool enough_b = b->size() >= wanted;
    if (enough_a != enough_b) return enough_a;
    return enough_a ? a->size() < b->size() : a->size() > b->size();
  });
  std::vector<int> taken;
  for (std::vector<int>* cpus : nodes) {
    std::size_t here = std::min(cpus->size(), wanted - taken.size());
    taken.insert(taken.end(), cpus->begin(), cpus->begin() + static_cast<std::ptrdiff_t>(here));
    cpus->erase(cpus->begin(), cpus->begin() + static_cast<std::ptrdiff_t>(here));
    if (taken.size() == wanted) break;
  }
  std::sort(taken.begin(), taken.end());
  return taken;
}

void CpuBook::give_back(const std::vector<int>& cpus) {
  for (int cpu : cpus) {
    std::vector<int>& place = free_[nodes_.at(cpu)];
    place.insert(std::lower_bound(place.begin(), place.end(), cpu), cpu);
  }
}

}  // namespace holdfast::plan
