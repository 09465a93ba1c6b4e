#include "plan/cpu_book.h"

#include <algorithm>

namespace holdfast::plan {

void CpuBook::reset(const std::map<int, inventory::CpuPlace>& cpus) {
  core_of_.clear();
  cores_.clear();
  for (const auto& [cpu, place] : cpus) {
    core_of_[cpu] = place.core;
    Core& core = cores_[place.core];
    core.node = place.node;
    core.free.push_back(cpu);
    ++core.size;
  }
}

std::optional<std::vector<int>> CpuBook::take(int count) {
  Cores whole, all;
  for (auto& [first, core] : cores_) {
    all.push_back(&core);
    if (core.free.size() == core.size) whole.push_back(&core);
  }
  auto wanted = static_cast<std::size_t>(count);
  std::optional<std::vector<int>> taken = take_from(whole, wanted);
  return taken ? taken : take_from(all, wanted);
}

std::optional<std::vector<int>> CpuBook::take_from(const Cores& cores, std::size_t wanted) {
  struct Node {
    Cores cores;
    std::size_t room = 0;
  };
  std::map<int, Node> by_node;
  std::size_t room = 0;
  for (Core* core : cores) {
    Node& node = by_node[core->node];
    node.cores.push_back(core);
    node.room += core->free.size();
    room += core->free.size();
  }
  if (room < wanted) return std::nullopt;
  std::vector<const Node*> nodes;
  nodes.reserve(by_node.size());
  for (const auto& [number, node] : by_node) nodes.push_back(&node);
  // The node with the least room that has enough; where none has, as few nodes as possible.
  std::sort(nodes.begin(), nodes.end(), [&](const Node* a, const Node* b) {
    bool enough_a = a->room >= wanted;
    bool enough_b = b->room >= wanted;
    if (enough_a != enough_b) return enough_a;
    if (a->room == b->room) return a->cores.front()->node < b->cores.front()->node;
    return enough_a ? a->room < b->room : a->room > b->room;
  });
  std::vector<int> taken;
  for (const Node* node : nodes) {
    for (Core* core : node->cores) {
      auto here = static_cast<std::ptrdiff_t>(std::min(core->free.size(), wanted - taken.size()));
      taken.insert(taken.end(), core->free.begin(), core->free.begin() + here);
      core->free.erase(core->free.begin(), core->free.begin() + here);
    }
  }
  return taken;
}

void CpuBook::give_back(const std::vector<int>& cpus) {
  for (int cpu : cpus) {
    std::vector<int>& free = cores_.at(core_of_.at(cpu)).free;
    free.insert(std::lower_bound(free.begin(), free.end(), cpu), cpu);
  }
}

}  // namespace holdfast::plan
