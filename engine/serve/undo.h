// Undoing one change. A step is a JSON object with a `do`; undoing it twice, or after what it was about has gone, is harmless.
//
//   {"do": "continue", "pid": 7, "start": 12.5, "boot": "..."}   SIGCONT, if that is still the same process
//   {"do": "heal", "page": "...", "fault": 3}                    heals a fault on a page (shim/fault)
//   {"do": "end", "pid": 7, "start": 12.5, "boot": "..."}        SIGKILL, likewise: a process that this service has started
//   {"do": "remove", "file": "/disk/.holdfast-fill-..."}         removes a file of such a name, and no other
//   {"do": "restore", "file": "/sys/fs/cgroup/...", "text": "8:0 0"}   writes what a limit for disks was before
//   {"do": "namespace", "name": "hf-..."}                        takes the name of a network namespace away
//   {"do": "cable", "name": "veth1", "index": 7}                 brings a container's cable up again, if it is still that one
//   {"do": "nothing", "why": "..."}                              it cannot be undone
#pragma once

#include <sys/types.h>

#include <nlohmann/json.hpp>
#include <string>

namespace holdfast::serve {

/// How the names of files begin that fill disks.
inline constexpr const char* kFillPrefix = ".holdfast-fill-";

/// A process as it is now, for a step: its number may be another one's later, or after the next start of the machine.
nlohmann::json identify(pid_t pid);
/// Whether the process of a step is there still.
bool is_same(const nlohmann::json& step);
/// What was done, in words. Never fails: what cannot be undone any more is said, too.
std::string undo(const nlohmann::json& step);

}  // namespace holdfast::serve
