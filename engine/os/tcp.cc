#include "os/tcp.h"

#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

#include <memory>

#include "os/clock.h"

namespace holdfast::os {

namespace {

constexpr double kTryAgain = 0.2;  // Seconds.
constexpr int kTcpBacklog = 128;

struct Parts {
  std::string host;
  std::string port;
};

Parts parts_of(const std::string& address) {
  if (!address.empty() && address.front() == '[') {
    std::size_t end = address.find(']');
    if (end == std::string::npos) return {address, ""};
    std::string rest = address.substr(end + 1);
    return {address.substr(1, end - 1), rest.empty() ? "" : rest.substr(1)};
  }
  std::size_t colon = address.find(':');
  // More than one: an IPv6 address without a port.
  if (colon == std::string::npos || address.find(':', colon + 1) != std::string::npos) return {address, ""};
  return {address.substr(0, colon), address.substr(colon + 1)};
}

using Addresses = std::unique_ptr<addrinfo, void (*)(addrinfo*)>;

Result<Addresses> look_up(const Parts& parts, int flags) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = flags;
  addrinfo* found = nullptr;
  int problem = ::getaddrinfo(parts.host.c_str(), parts.port.empty() ? "0" : parts.port.c_str(), &hints, &found);
  if (problem != 0) {
    return fail(ErrorKind::UserMistake, fmt::format("find the address {}: {}", parts.host, ::gai_strerror(problem)));
  }
  return Addresses(found, ::freeaddrinfo);
}

Result<Fd> dial_once(const addrinfo& address) {
  Fd fd(::socket(address.ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!fd.valid() || ::connect(fd.get(), address.ai_addr, address.ai_addrlen) != 0) {
    return fail_errno(ErrorKind::StopRun, "connect");
  }
  return fd;
}

}  // namespace

std::string host_of(const std::string& address) { return parts_of(address).host; }

Result<Fd> listen_on(const std::string& address) {
  Result<Addresses> found = look_up(parts_of(address), AI_PASSIVE);
  if (!found) return tl::unexpected<Error>(found.error());
  const addrinfo& first = **found;
  Fd fd(::socket(first.ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  int on = 1;
  if (fd.valid()) ::setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (!fd.valid() || ::bind(fd.get(), first.ai_addr, first.ai_addrlen) != 0 || ::listen(fd.get(), kTcpBacklog) != 0) {
    return fail_errno(ErrorKind::UserMistake, fmt::format("listen on {}", address));
  }
  return fd;
}

int port_of(const Fd& listening) {
  sockaddr_storage bound{};
  socklen_t size = sizeof bound;
  if (::getsockname(listening.get(), reinterpret_cast<sockaddr*>(&bound), &size) != 0) return 0;
  if (bound.ss_family == AF_INET) return ntohs(reinterpret_cast<sockaddr_in*>(&bound)->sin_port);
  return ntohs(reinterpret_cast<sockaddr_in6*>(&bound)->sin6_port);
}

Result<Fd> dial(const std::string& address, double seconds) {
  Parts parts = parts_of(address);
  if (parts.port.empty()) return fail(ErrorKind::UserMistake, fmt::format("connect to {}: it names no port", address));
  SystemClock clock;
  Time deadline = clock.now() + os::seconds(seconds);
  for (;;) {
    Result<Addresses> found = look_up(parts, 0);
    Error problem = found ? Error{} : found.error();
    for (const addrinfo* each = found ? found->get() : nullptr; each != nullptr; each = each->ai_next) {
      Result<Fd> fd = dial_once(*each);
      if (fd) return fd;
      problem = Error{ErrorKind::StopRun, fmt::format("connect to {}", address), fd.error().sys_errno};
    }
    if (clock.now() + os::seconds(kTryAgain) > deadline) return tl::unexpected<Error>(std::move(problem));
    ::poll(nullptr, 0, static_cast<int>(kTryAgain * 1000));
  }
}

}  // namespace holdfast::os
