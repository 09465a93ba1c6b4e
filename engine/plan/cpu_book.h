// CpuBook: which CPUs of this machine belong to which gang (--scheduler=shell). Pure.
//
// It promises that no CPU is given out twice, and that a gang has its CPUs on one NUMA node where there is one with enough.
#pragma once

#include <map>
#include <optional>
#include <vector>

namespace holdfast::plan {

class CpuBook {
 public:
  /// CPU -> its node.
  void reset(const std::map<int, int>& cpus);
  /// `count` CPUs, in ascending order; nothing if there are not so many free.
  std::optional<std::vector<int>> take(int count);
  void give_back(const std::vector<int>& cpus);

 private:
  std::map<int, int> nodes_;              ///< By CPU.
  std::map<int, std::vector<int>> free_;  ///< By node, ascending.
};

}  // namespace holdfast::plan
