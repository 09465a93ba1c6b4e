// Wishes: what the collected tests ask for (protocol/README.md, `items`) and what the history knows of them, as a problem for
// the scheduler. Pure.
#pragma once

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "inventory/gpus.h"
#include "journal/history.h"
#include "plan/scheduler.h"

namespace holdfast::run {

struct Dealing {
  std::string dist = "dynamic";  ///< --hf-dist: dynamic, scope, isoscope, file, group, sequential,
                                 ///< one (a test at a time) or static (steps).
  bool keep_order = false;       ///< A plugin or an option has made the order, and it counts.
  int slots = 1;
  plan::Capacity capacity;
  std::vector<plan::Device> devices;
};

class Wishes {
 public:
  void clear();
  /// `outermost`: the scope that it is dealt with, if it has one.
  void add(const std::string& id, const nlohmann::json& item, int outermost = -1);
  /// What earlier runs know of a test. One that declared its memory keeps to that. `memory_limit`: bytes that there are.
  void know(std::size_t test, const journal::Known& known, std::uint64_t memory_limit);
  /// Whether any test has named GPUs.
  [[nodiscard]] bool any_gpus() const {
    return std::any_of(gpus_.begin(), gpus_.end(), [](const GpuWish& g) { return g.named; });
  }
  /// What there is. Tests that say nothing of GPUs get `per_slot` of them. Where there is none at all, those that ask for them
  /// by another runner's names (and, with `soft`, those that say nothing) go without. Before know().
  void set_gpus(const std::vector<inventory::Gpu>& gpus, int per_slot, bool soft);
  [[nodiscard]] plan::Problem problem(const Dealing& dealing) const;
  [[nodiscard]] const plan::Demand& demand_of(std::size_t test) const { return demands_[wishes_[test].demand]; }

 private:
  /// Small: there may be 100,000. Texts are numbers of names_.
  struct Wish {
    double expected = -1;      ///< Seconds; negative where nothing is known.
    std::uint32_t demand = 0;  ///< In demands_.
    std::uint32_t file = 0;
    std::uint32_t group = 0;  ///< 0 for none.
    std::uint32_t scope = 0;  ///< Of those that share its process; 0 for the slot's worker.
    std::uint32_t block = 0;  ///< Of its class, or of the functions of its module.
    int outermost = -1;       ///< Of the scopes that are set up for it.
    bool reuse = false;
  };
  struct GpuWish {
    bool named = false;  ///< It says how many.
    bool soft = false;
    bool measured = true;  ///< What was measured may be booked, where it does not say how much memory.
    std::vector<std::string> arch;
  };
  void vary(Wish& wish, const std::string& key, plan::Demand demand);
  void book_vram(Wish& wish, std::uint64_t bytes);
  std::uint32_t number_of(const nlohmann::json& demand);
  std::uint32_t number_of_name(const std::string& text);
  void book_measured(Wish& wish, std::uint64_t bytes, std::uint64_t limit);

  std::vector<Wish> wishes_;
  std::vector<plan::Demand> demands_{plan::Demand{}};
  std::vector<GpuWish> gpus_{GpuWish{}};  ///< By demand.
  std::map<std::string, std::uint32_t> demand_numbers_;
  std::map<std::string, std::uint32_t> tokens_;
  std::map<std::string, std::uint32_t> names_{{"", 0}};  ///< Files, groups and scopes.
};

}  // namespace holdfast::run
