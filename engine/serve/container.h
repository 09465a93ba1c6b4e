// Containers of this machine, as the service sees them: by the id that their control groups are named by.
#pragma once

#include <sys/types.h>

#include <functional>
#include <string>

#include "base/result.h"

namespace holdfast::serve {

/// `containerd://ID`, as a pod's status has it, or the ID alone; empty where that is none (12 to 64 hexadecimal digits).
std::string container_id(const std::string& text);

/// The process that has the number `inner` in that container, as this service counts. Needs to see the machine's processes: no
/// PID namespace of its own. An error (GiveUpTest) says what is not there.
Result<pid_t> process_in_container(const std::string& id, pid_t inner);

/// Runs `what` in the network of a process, in a thread of its own: setns() of a network is a thread's.
Status in_network_of(pid_t pid, const std::function<Status()>& what);

/// The other end of a container's eth0, in the network of process 1, where the machine has its bridges.
struct Cable {
  unsigned index = 0;
  std::string name;
};
Result<Cable> cable_of(pid_t in_container);
/// Down: no packet comes through, and the container's end has no carrier. Its addresses and routes stay. The name is checked:
/// the number may be another device's by then.
Status set_cable(const Cable& cable, bool up);
Result<bool> cable_is_up(const Cable& cable);

}  // namespace holdfast::serve
