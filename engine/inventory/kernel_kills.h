// Kernel kills: whether the kernel has killed a process for want of memory, and what it says of that. Two witnesses: its log,
// where we may read it, which names the process; and the counter of the control group that this run is in.
#pragma once

#include <sys/types.h>

#include <map>
#include <string>

#include "os/fd.h"

namespace holdfast::inventory {

/// The process that a record of the kernel's log says was killed for want of memory; 0 if it says nothing of the kind.
pid_t victim_of(const std::string& text);

class KernelKills {
 public:
  /// From now on.
  KernelKills();
  /// Of a process that has died from SIGKILL: the kernel's own words, or that its control group has counted a kill which no
  /// earlier call was told of. Empty where nothing proves it.
  std::string words_on(pid_t pid);

 private:
  void read_log();
  [[nodiscard]] std::uint64_t counted() const;

  os::Fd log_;
  std::map<pid_t, std::string> words_;
  std::string counter_;  ///< The file with `oom_kill`.
  std::uint64_t known_ = 0;
};

}  // namespace holdfast::inventory
