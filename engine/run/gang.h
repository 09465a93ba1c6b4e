// Gang: one test that runs as several ranks of an MPI program, each in a slot of its own.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "os/loop.h"
#include "run/slot.h"
#include "run/world.h"

namespace holdfast::run {

struct Gang {
  std::size_t test = 0;
  std::string name;              ///< Nobody else's: its ranks' directory is named after it.
  std::vector<int> slots;        ///< By rank.
  Order order;                   ///< Of rank 0.
  std::shared_ptr<World> world;  ///< That its ranks join, or have joined; absent before it begins.
  bool waiting = false;          ///< For other workers of its slots to end.
  bool started = false;
  std::size_t left = 0;                          ///< Ranks that have not ended,
  std::vector<std::optional<Attempt>> attempts;  ///< and how the others have.
  int first_failed = -1;                         ///< The rank that failed before all others; negative for none.
  std::map<int, int> aborted;                    ///< By rank that has called MPI_Abort: its code.
  int absent = -1;                               ///< A rank that has not joined the others; negative for none.
  bool ended_well = false;                       ///< lives_on(), of its end.
  bool launcher_lost = false;                    ///< What had launched its ranks has given them up.
  bool asked = false;                            ///< The manager, for what it has to say of the end.
  std::string words;                             ///< What it has said.
  bool abandoned = false;                        ///< A rank was stopped, or its slot lost: nobody's verdict.
  os::TimerId timer = 0;                         ///< Until the others are ended, once one has failed.

  [[nodiscard]] int rank_in(int slot) const;
  /// A rank has ended without having said so, or all have been ended for the launcher's sake: its words may tell why.
  [[nodiscard]] bool wants_words() const;
  /// The manager's, of how the ranks have ended.
  void hear(const std::string& said);
  /// One attempt out of those of all ranks: that of the rank which explains the verdict, and `ranks` for each.
  Attempt merge();
  /// All ranks have ended well, and are there for another test.
  [[nodiscard]] bool lives_on() const;
};

}  // namespace holdfast::run
