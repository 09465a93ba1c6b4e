#include "os/passing.h"

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <cstddef>
#include <cstring>

namespace holdfast::os {

namespace {

using Control = std::array<char, CMSG_SPACE(sizeof(int) * kMostPassed)>;

constexpr int kUnixBacklog = 128;

struct Address {
  sockaddr_un un{};
  socklen_t size = 0;
};

// unix(7): a name that begins with a zero byte is no path.
Address address_named(const std::string& name) {
  Address address;
  address.un.sun_family = AF_UNIX;
  std::size_t length = std::min(name.size(), sizeof address.un.sun_path - 1);
  std::memcpy(address.un.sun_path + 1, name.data(), length);
  address.size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + length);
  return address;
}

}  // namespace

ssize_t send_with_fds(int socket, const char* data, std::size_t size, const std::vector<Fd>& fds) {
  iovec part{const_cast<char*>(data), size};
  alignas(cmsghdr) Control control{};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  if (!fds.empty()) {
    message.msg_control = control.data();
    message.msg_controllen = CMSG_SPACE(sizeof(int) * fds.size());
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int) * fds.size());
    int* out = reinterpret_cast<int*>(CMSG_DATA(header));
    for (const Fd& fd : fds) *out++ = fd.get();
  }
  return ::sendmsg(socket, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
}

ssize_t receive_with_fds(int socket, char* data, std::size_t size, std::vector<Fd>& fds) {
  iovec part{data, size};
  alignas(cmsghdr) Control control{};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control.data();
  message.msg_controllen = control.size();
  ssize_t got = ::recvmsg(socket, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  if (got < 0) return got;
  for (cmsghdr* header = CMSG_FIRSTHDR(&message); header != nullptr; header = CMSG_NXTHDR(&message, header)) {
    if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
    std::size_t count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (std::size_t i = 0; i < count; ++i) {
      int fd = -1;
      std::memcpy(&fd, CMSG_DATA(header) + i * sizeof(int), sizeof fd);
      fds.emplace_back(fd);
    }
  }
  return got;
}

Result<Fd> listen_on_name(const std::string& name) {
  Fd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  Address address = address_named(name);
  if (!fd.valid() || ::bind(fd.get(), reinterpret_cast<sockaddr*>(&address.un), address.size) != 0 ||
      ::listen(fd.get(), kUnixBacklog) != 0) {
    return fail_errno(ErrorKind::GiveUpTest, "listen on a local socket");
  }
  return fd;
}

Result<Fd> dial_name(const std::string& name) {
  Fd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  Address address = address_named(name);
  if (!fd.valid() || ::connect(fd.get(), reinterpret_cast<sockaddr*>(&address.un), address.size) != 0) {
    return fail_errno(ErrorKind::StopRun, "connect to a local socket");
  }
  return fd;
}

bool is_ours(const Fd& socket) {
  ucred peer{};
  socklen_t size = sizeof peer;
  return ::getsockopt(socket.get(), SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 && peer.uid == ::getuid();
}

}  // namespace holdfast::os
