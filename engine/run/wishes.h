// Wishes: what the collected tests ask for (protocol/README.md, `items`) and what the history knows of them, as a problem for
// the scheduler. Pure.
#pragma once

#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "journal/history.h"
#include "plan/scheduler.h"

namespace holdfast::run {

struct Dealing {
  std::string dist = "dynamic";  ///< --hf-dist: dynamic, file, group or sequential.
  bool keep_order = false;       ///< A plugin or an option has made the order, and it counts.
  int slots = 1;
  plan::Capacity capacity;
};

class Wishes {
 public:
  void clear();
  /// `known`: its duration and measured memory from earlier runs, or null. A test that declared its memory keeps to that.
  void add(const std::string& id, const nlohmann::json& item, const journal::Known* known = nullptr,
           std::uint64_t memory_limit = 0);
  [[nodiscard]] plan::Problem problem(const Dealing& dealing) const;
  [[nodiscard]] const plan::Demand& demand_of(std::size_t test) const { return demands_[wishes_[test].demand]; }

 private:
  struct Wish {
    std::string id;
    std::string group;
    std::string scope;         ///< Of those that share its process; empty for the slot's worker.
    double expected = -1;      ///< Seconds; negative where nothing is known.
    std::uint32_t demand = 0;  ///< In demands_.
    bool reuse = false;
  };
  std::uint32_t number_of(const nlohmann::json& demand);
  void book_measured(Wish& wish, std::uint64_t bytes, std::uint64_t limit);

  std::vector<Wish> wishes_;
  std::vector<plan::Demand> demands_{plan::Demand{}};
  std::map<std::string, std::uint32_t> demand_numbers_;
  std::map<std::string, std::uint32_t> tokens_;
};

}  // namespace holdfast::run
