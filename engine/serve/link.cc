#include "serve/link.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <net/route.h>
#include <poll.h>
#include <sched.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <queue>
#include <vector>

namespace holdfast::serve {

namespace {

constexpr const char* kFolder = "/run/netns";
constexpr std::size_t kPacket = 2048;    // The devices' packets have 1,500 bytes at most.
constexpr std::size_t kWaiting = 10000;  // Packets that are late at a time; more are lost.

using Clock = std::chrono::steady_clock;

struct Packet {
  Clock::time_point due;
  int to = -1;
  std::vector<char> bytes;
  bool operator>(const Packet& other) const { return due > other.due; }
};

Status set_address(int socket, const std::string& device, unsigned long request, const std::string& address) {
  ifreq ask{};
  device.copy(ask.ifr_name, IFNAMSIZ - 1);
  auto* to = reinterpret_cast<sockaddr_in*>(&ask.ifr_addr);
  to->sin_family = AF_INET;
  ::inet_pton(AF_INET, address.c_str(), &to->sin_addr);
  if (::ioctl(socket, request, &ask) != 0) return fail_errno(ErrorKind::UserMistake, "give an address to " + device);
  return {};
}

Status bring_up(int socket, const std::string& device) {
  ifreq ask{};
  device.copy(ask.ifr_name, IFNAMSIZ - 1);
  ask.ifr_flags = IFF_UP | IFF_RUNNING;
  if (::ioctl(socket, SIOCSIFFLAGS, &ask) != 0) return fail_errno(ErrorKind::UserMistake, "bring up " + device);
  return {};
}

/// In the network of the calling thread.
Result<os::Fd> make_device(const std::string& name, const std::string& address, const std::string& peer) {
  os::Fd tun(::open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK));
  if (!tun.valid()) return fail_errno(ErrorKind::UserMistake, "open /dev/net/tun");
  ifreq ask{};
  name.copy(ask.ifr_name, IFNAMSIZ - 1);
  ask.ifr_flags = IFF_TUN | IFF_NO_PI;
  if (::ioctl(tun.get(), TUNSETIFF, &ask) != 0) return fail_errno(ErrorKind::UserMistake, "make the device " + name);
  os::Fd socket(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (!socket.valid()) return fail_errno(ErrorKind::UserMistake, "open a socket");
  HOLDFAST_TRY(set_address(socket.get(), name, SIOCSIFADDR, address));
  HOLDFAST_TRY(set_address(socket.get(), name, SIOCSIFDSTADDR, peer));
  HOLDFAST_TRY(bring_up(socket.get(), name));
  return tun;
}

Status route_to(const std::string& gateway) {
  os::Fd socket(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  rtentry route{};
  auto* to = reinterpret_cast<sockaddr_in*>(&route.rt_gateway);
  to->sin_family = AF_INET;
  ::inet_pton(AF_INET, gateway.c_str(), &to->sin_addr);
  route.rt_dst.sa_family = AF_INET;
  route.rt_genmask.sa_family = AF_INET;
  route.rt_flags = RTF_UP | RTF_GATEWAY;
  if (::ioctl(socket.get(), SIOCADDRT, &route) != 0) return fail_errno(ErrorKind::UserMistake, "make a route");
  return {};
}

/// Makes the namespace, and its end of the link, in a thread of its own, which is then in there; gives it a name.
Result<os::Fd> make_far_end(const std::string& path, const std::string& address, const std::string& peer) {
  Result<os::Fd> made = fail(ErrorKind::StopRun, "start a thread");
  std::thread([&] {
    made = [&]() -> Result<os::Fd> {
      if (::unshare(CLONE_NEWNET) != 0) return fail_errno(ErrorKind::UserMistake, "make a network namespace");
      if (::mount("/proc/thread-self/ns/net", path.c_str(), "none", MS_BIND, nullptr) != 0) {
        return fail_errno(ErrorKind::UserMistake, "name the namespace " + path);
      }
      os::Fd socket(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
      HOLDFAST_TRY(bring_up(socket.get(), "lo"));
      Result<os::Fd> tun = make_device("eth0", address, peer);
      if (!tun) return tun;
      HOLDFAST_TRY(route_to(peer));
      return tun;
    }();
  }).join();
  return made;
}

/// The first pair that no device of this network has.
std::pair<std::string, std::string> free_addresses() {
  for (int number = 1; number < 255; ++number) {
    std::string here = fmt::format("10.213.{}.1", number);
    os::Fd socket(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    sockaddr_in address{};
    address.sin_family = AF_INET;
    ::inet_pton(AF_INET, here.c_str(), &address.sin_addr);
    // An address that cannot be bound is nobody's here.
    if (::bind(socket.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) {
      return {here, fmt::format("10.213.{}.2", number)};
    }
  }
  return {};
}

/// Vigna's splitmix64 (https://prng.di.unimi.it/splitmix64.c, public domain), as a share of 1.
double draw(std::uint64_t seed, std::uint64_t count) {
  std::uint64_t z = seed + 0x9e3779b97f4a7c15ULL * (count + 1);
  z = (z ^ (z >> 30U)) * 0xbf58476d1ce4e5b9ULL;
  z = (z ^ (z >> 27U)) * 0x94d049bb133111ebULL;
  return static_cast<double>((z ^ (z >> 31U)) >> 11U) * 0x1p-53;
}

}  // namespace

std::string namespace_path(const std::string& name) { return fmt::format("{}/{}", kFolder, name); }

std::string remove_namespace(const std::string& name) {
  if (name.rfind("hf-", 0) != 0 || name.find('/') != std::string::npos) return name + " is no namespace of ours";
  std::string path = namespace_path(name);
  bool mounted = ::umount2(path.c_str(), MNT_DETACH) == 0;
  bool there = ::unlink(path.c_str()) == 0;
  return fmt::format("the namespace {} {}", name, mounted || there ? "is removed" : "is not there");
}

Result<std::unique_ptr<Link>> Link::create(const std::string& name) {
  std::unique_ptr<Link> link(new Link);
  std::tie(link->here_, link->there_) = free_addresses();
  if (link->here_.empty()) return fail(ErrorKind::UserMistake, "find free addresses in 10.213.0.0/16");
  ::mkdir(kFolder, 0755);
  std::string path = namespace_path(name);
  os::Fd file(::open(path.c_str(), O_RDONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0444));
  if (!file.valid()) return fail_errno(ErrorKind::UserMistake, "make " + path);
  Result<os::Fd> far = make_far_end(path, link->there_, link->here_);
  Result<os::Fd> near = fail(ErrorKind::StopRun, "make the other end");
  if (far) near = make_device(name, link->here_, link->there_);
  if (!far || !near) {
    remove_namespace(name);
    return tl::unexpected(far ? near.error() : far.error());
  }
  link->far_ = std::move(*far);
  link->near_ = std::move(*near);
  link->stop_ = os::Fd(::eventfd(0, EFD_CLOEXEC));
  link->thread_ = std::thread([raw = link.get()] { raw->forward(); });
  return link;
}

Link::~Link() {
  if (!thread_.joinable()) return;
  std::uint64_t one = 1;
  (void)!::write(stop_.get(), &one, sizeof one);
  thread_.join();
}

void Link::set_weather(const Weather& weather) {
  std::lock_guard<std::mutex> guard(lock_);
  weather_ = weather;
}

Weather Link::weather() {
  std::lock_guard<std::mutex> guard(lock_);
  return weather_;
}

void Link::forward() {
  std::priority_queue<Packet, std::vector<Packet>, std::greater<>> waiting;
  std::uint64_t count = 0;
  char bytes[kPacket];
  while (true) {
    int timeout = -1;
    if (!waiting.empty()) {
      auto left = std::chrono::duration_cast<std::chrono::milliseconds>(waiting.top().due - Clock::now()).count();
      timeout = static_cast<int>(std::clamp<long>(left, 0, 1000));
    }
    pollfd ends[] = {{near_.get(), POLLIN, 0}, {far_.get(), POLLIN, 0}, {stop_.get(), POLLIN, 0}};
    ::poll(ends, 3, timeout);
    if (ends[2].revents != 0) return;
    Weather now = weather();
    for (int i = 0; i < 2; ++i) {
      ssize_t length = 0;
      while ((ends[i].revents & POLLIN) != 0 && (length = ::read(ends[i].fd, bytes, sizeof bytes)) > 0) {
        int to = ends[1 - i].fd;
        bool lost = now.loss > 0 && draw(now.seed, count++) < now.loss;
        if (!lost && now.delay > 0 && waiting.size() < kWaiting) {
          auto late = std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(now.delay));
          waiting.push({Clock::now() + late, to, std::vector<char>(bytes, bytes + length)});
          ++delayed_;
          continue;
        }
        bool sent = !lost && now.delay <= 0 && ::write(to, bytes, static_cast<std::size_t>(length)) == length;
        ++(sent ? passed_ : dropped_);
      }
    }
    for (; !waiting.empty() && waiting.top().due <= Clock::now(); waiting.pop()) {
      const Packet& packet = waiting.top();
      bool sent = ::write(packet.to, packet.bytes.data(), packet.bytes.size()) == static_cast<ssize_t>(packet.bytes.size());
      ++(sent ? passed_ : dropped_);
    }
  }
}

}  // namespace holdfast::serve
