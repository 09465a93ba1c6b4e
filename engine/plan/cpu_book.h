// CpuBook: which CPUs of this machine belong to which gang (--scheduler=shell). Pure.
//
// It promises that no CPU is given out twice, that no two gangs share a core (whose CPUs are its hardware threads) as long as
// whole cores are enough, and that a gang has its CPUs on one NUMA node where there is one with enough.
#pragma once

#include <map>
#include <optional>
#include <vector>

#include "inventory/cpus.h"

namespace holdfast::plan {

class CpuBook {
 public:
  void reset(const std::map<int, inventory::CpuPlace>& cpus);
  /// `count` CPUs, those of one core after each other; nothing if there are not so many free.
  std::optional<std::vector<int>> take(int count);
  void give_back(const std::vector<int>& cpus);

 private:
  struct Core {
    int node = 0;
    std::size_t size = 0;
    std::vector<int> free;  ///< Ascending.
  };
  using Cores = std::vector<Core*>;
  std::optional<std::vector<int>> take_from(const Cores& cores, std::size_t wanted);

  std::map<int, int> core_of_;  ///< By CPU.
  std::map<int, Core> cores_;   ///< By its lowest CPU.
};

}  // namespace holdfast::plan
