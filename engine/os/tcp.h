// TCP sockets by address: one that listens, one that dials.
#pragma once

#include <string>

#include "base/result.h"
#include "os/fd.h"

namespace holdfast::os {

/// Listens on `address`: HOST, HOST:PORT or [IPv6]:PORT; without a port on one that is free. Non-blocking, closed on exec.
Result<Fd> listen_on(const std::string& address);
/// The port on which that socket listens; 0 if it cannot be told.
int port_of(const Fd& listening);
/// The host of such an address, without brackets.
std::string host_of(const std::string& address);
/// Connects to HOST:PORT, tried again until `seconds` are over. Blocks.
Result<Fd> dial(const std::string& address, double seconds);

}  // namespace holdfast::os
