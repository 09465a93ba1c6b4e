#include "serve/container.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cctype>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <thread>

#include "os/fd.h"

namespace holdfast::serve {

namespace {

constexpr pid_t kMachine = 1;  // Whose network has the other ends.

std::string read_all(const std::string& path) {
  std::ifstream file(path);
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

/// The last number of NSpid: that in the innermost namespace.
pid_t inner_number(const std::string& status) {
  std::size_t at = status.find("\nNSpid:");
  if (at == std::string::npos) return 0;
  std::istringstream line(status.substr(at + 7, status.find('\n', at + 1) - at - 7));
  pid_t number = 0, last = 0;
  while (line >> number) last = number;
  return last;
}

Result<ifreq> ask_device(const os::Fd& socket, const Cable& cable) {
  ifreq ask{};
  cable.name.copy(ask.ifr_name, IFNAMSIZ - 1);
  if (::if_nametoindex(cable.name.c_str()) != cable.index || ::ioctl(socket.get(), SIOCGIFFLAGS, &ask) != 0) {
    return fail(ErrorKind::GiveUpTest, fmt::format("find the device {}: it is gone", cable.name));
  }
  return ask;
}

/// IFLA_LINK of a device of this thread's network: the index of a veth's other end, which is in another one. rtnetlink(7).
Result<unsigned> other_end(const char* device) {
  struct {
    nlmsghdr header;
    ifinfomsg link;
  } ask{};
  ask.header.nlmsg_len = sizeof ask;
  ask.header.nlmsg_type = RTM_GETLINK;
  ask.header.nlmsg_flags = NLM_F_REQUEST;
  ask.link.ifi_index = static_cast<int>(::if_nametoindex(device));
  if (ask.link.ifi_index == 0) return fail(ErrorKind::UserMistake, fmt::format("container: it has no device {}", device));
  os::Fd socket(::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE));
  alignas(nlmsghdr) char answer[16384];
  if (::send(socket.get(), &ask, sizeof ask, 0) < 0) return fail_errno(ErrorKind::GiveUpTest, "ask for a device");
  ssize_t length = ::recv(socket.get(), answer, sizeof answer, 0);
  auto* message = reinterpret_cast<nlmsghdr*>(answer);
  if (length > 0 && NLMSG_OK(message, static_cast<std::size_t>(length)) && message->nlmsg_type == RTM_NEWLINK) {
    auto* part = IFLA_RTA(static_cast<ifinfomsg*>(NLMSG_DATA(message)));
    auto left = static_cast<unsigned>(IFLA_PAYLOAD(message));
    for (; RTA_OK(part, left); part = RTA_NEXT(part, left)) {
      if (part->rta_type != IFLA_LINK) continue;
      unsigned index = 0;
      std::memcpy(&index, RTA_DATA(part), sizeof index);
      return index;
    }
  }
  return fail(ErrorKind::UserMistake, fmt::format("container: its {} has no other end here (it is no veth)", device));
}

os::Fd any_socket() { return os::Fd(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0)); }

}  // namespace

std::string container_id(const std::string& text) {
  std::size_t scheme = text.find("://");
  std::string id = scheme == std::string::npos ? text : text.substr(scheme + 3);
  bool good = id.size() >= 12 && id.size() <= 64;
  for (char letter : id) good = good && std::isxdigit(static_cast<unsigned char>(letter)) != 0;
  return good ? id : "";
}

Result<pid_t> process_in_container(const std::string& id, pid_t inner) {
  bool seen = false;
  std::error_code problem;
  for (const auto& entry : std::filesystem::directory_iterator("/proc", problem)) {
    std::string name = entry.path().filename().string();
    if (name.find_first_not_of("0123456789") != std::string::npos) continue;
    if (read_all(entry.path().string() + "/cgroup").find(id) == std::string::npos) continue;
    seen = true;
    if (inner_number(read_all(entry.path().string() + "/status")) == inner) return static_cast<pid_t>(std::stol(name));
  }
  if (seen) return fail(ErrorKind::GiveUpTest, fmt::format("pid: there is no process {} in the container {}", inner, id));
  return fail(ErrorKind::GiveUpTest,
              fmt::format("container: no process of {} is on this machine, or it cannot be seen from here", id));
}

Status in_network_of(pid_t pid, const std::function<Status()>& what) {
  Status done;
  std::thread([&] {
    os::Fd network(::open(fmt::format("/proc/{}/ns/net", pid).c_str(), O_RDONLY | O_CLOEXEC));
    if (!network.valid() || ::setns(network.get(), CLONE_NEWNET) != 0) {
      done = fail_errno(ErrorKind::GiveUpTest, fmt::format("enter the network of process {}", pid));
    } else {
      done = what();
    }
  }).join();
  return done;
}

Result<Cable> cable_of(pid_t in_container) {
  Cable cable;
  HOLDFAST_TRY(in_network_of(in_container, [&]() -> Status {
    Result<unsigned> index = other_end("eth0");
    if (!index) return tl::unexpected(index.error());
    cable.index = *index;
    return {};
  }));
  HOLDFAST_TRY(in_network_of(kMachine, [&]() -> Status {
    char name[IF_NAMESIZE] = "";
    if (::if_indextoname(cable.index, name) == nullptr) {
      return fail(ErrorKind::UserMistake, "container: the other end of its eth0 is not in the network of process 1");
    }
    cable.name = name;
    return {};
  }));
  return cable;
}

Status set_cable(const Cable& cable, bool up) {
  return in_network_of(kMachine, [&]() -> Status {
    os::Fd socket = any_socket();
    Result<ifreq> ask = ask_device(socket, cable);
    if (!ask) return tl::unexpected(ask.error());
    auto flags = static_cast<unsigned>(ask->ifr_flags);
    ask->ifr_flags = static_cast<short>(up ? flags | IFF_UP : flags & ~static_cast<unsigned>(IFF_UP));
    if (::ioctl(socket.get(), SIOCSIFFLAGS, &*ask) != 0) return fail_errno(ErrorKind::UserMistake, "switch " + cable.name);
    return {};
  });
}

Result<bool> cable_is_up(const Cable& cable) {
  bool up = false;
  HOLDFAST_TRY(in_network_of(kMachine, [&]() -> Status {
    os::Fd socket = any_socket();
    Result<ifreq> ask = ask_device(socket, cable);
    if (!ask) return tl::unexpected(ask.error());
    up = (static_cast<unsigned>(ask->ifr_flags) & IFF_UP) != 0;
    return {};
  }));
  return up;
}

}  // namespace holdfast::serve
