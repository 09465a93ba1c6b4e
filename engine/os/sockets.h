// Sockets of other processes, as /proc tells them.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

namespace holdfast::os {

/// Addresses (`127.0.0.1:8080`, `[::1]:8080`, a path) on which the process listens. Empty where /proc does not tell.
std::vector<std::string> listening_on(pid_t pid);

}  // namespace holdfast::os
