// Descriptors that travel over Unix sockets (SCM_RIGHTS, unix(7)), and sockets whose name no file has.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

#include "base/result.h"
#include "os/fd.h"

namespace holdfast::os {

/// Descriptors that one call passes at most.
inline constexpr std::size_t kMostPassed = 8;

/// Sends without blocking, and without SIGPIPE; the descriptors come with the first byte. As sendmsg(2) returns.
ssize_t send_with_fds(int socket, const char* data, std::size_t size, const std::vector<Fd>& fds);
/// Receives without blocking; descriptors that have come are appended to `fds`, closed on exec. As recvmsg(2) returns.
ssize_t receive_with_fds(int socket, char* data, std::size_t size, std::vector<Fd>& fds);

/// Listens under `name` in the abstract namespace: no file is left of it. Non-blocking. Whoever is in our network namespace
/// can connect, so the name has to be a secret, or peers have to be looked at (is_ours()).
Result<Fd> listen_on_name(const std::string& name);
/// Connects to it.
Result<Fd> dial_name(const std::string& name);
/// Whether the other end was connected by a process of our user.
bool is_ours(const Fd& socket);

}  // namespace holdfast::os
