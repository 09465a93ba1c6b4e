// World: an MPI program that ranks have joined, one in each of some slots: for one test, or kept for several (a pool), whose ranks
// are then the workers of their slots.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "mpi/pmi_server.h"

namespace holdfast::run {

struct World {
  std::string name;        ///< By which its process manager knows it.
  std::string folder;      ///< In /dev/shm, for their shared memory: removed at its end. Empty where there can be none.
  std::vector<int> slots;  ///< By rank.
  std::vector<int> cpus;   ///< That nobody else has; empty where ranks are not pinned.
  std::unique_ptr<mpi::PmiServer> pmi;
  bool kept = false;       ///< Its ranks stay when a test has ended well.
  bool over = false;       ///< Nothing more runs in it.
  std::size_t left = 0;    ///< Ranks that are kept, and have not gone.
};

}  // namespace holdfast::run
