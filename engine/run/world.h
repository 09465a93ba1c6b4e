// World: an MPI program that ranks have joined, one in each of some slots: for one test, or kept for several (a pool), whose
// ranks are then the workers of their slots.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "os/fd.h"

namespace holdfast::run {

struct World {
  std::string name;        ///< By which its process manager knows it.
  std::string manager;     ///< Which kind that is (protocol/README.md, `ready`).
  std::string folder;      ///< In /dev/shm, for their shared memory: removed at its end. Empty where there can be none.
  os::Fd lock;             ///< On that folder: an engine that dies lets go of it, and the next one removes the folder.
  std::vector<int> slots;  ///< By rank.
  std::vector<int> cpus;   ///< That nobody else has; empty where ranks are not pinned.
  bool kept = false;       ///< Its ranks stay when a test has ended well.
  bool over = false;       ///< Nothing more runs in it.
  std::size_t left = 0;    ///< Ranks that are kept, and have not gone.
};

/// Makes and locks the world's folder, if there can be one.
void make_folder(World& world);
/// Removes it.
void remove_folder(World& world);
/// Removes the folders of engines that have died.
void sweep_folders();

}  // namespace holdfast::run
