// Gang: one test that runs as several ranks of an MPI program, each in a slot of its own.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "mpi/pmi_server.h"
#include "os/loop.h"
#include "run/slot.h"

namespace holdfast::run {

struct Gang {
  std::size_t test = 0;
  std::string name;        ///< By which its process manager knows it.
  std::string folder;      ///< In /dev/shm, for their shared memory: removed at their end. Empty where there can be none.
  std::vector<int> slots;  ///< By rank.
  std::vector<int> cpus;   ///< That nobody else has; empty where ranks are not pinned.
  Order order;             ///< Of rank 0.
  std::unique_ptr<mpi::PmiServer> pmi;
  bool started = false;
  std::size_t left = 0;                          ///< Ranks that have not ended,
  std::vector<std::optional<Attempt>> attempts;  ///< and how the others have.
  int first_failed = -1;                         ///< The rank that failed before all others; negative for none.
  std::map<int, int> aborted;                    ///< By rank that has called MPI_Abort: its code.
  bool abandoned = false;                        ///< A rank was stopped, or its slot lost: nobody's verdict.
  os::TimerId timer = 0;                         ///< Until the others are ended, once one has failed.

  [[nodiscard]] int rank_in(int slot) const;
  /// One attempt out of those of all ranks: that of the rank which explains the verdict, and `ranks` for each.
  Attempt merge();
};

}  // namespace holdfast::run
