#include "inventory/kernel_kills.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include "os/sockets.h"

namespace holdfast {
namespace {

TEST(KernelKills, ReadsTheVictimFromTheLog) {
  using inventory::victim_of;
  EXPECT_EQ(victim_of("Memory cgroup out of memory: Killed process 4395 (unit_tests) total-vm:21475093088kB"), 4395);
  EXPECT_EQ(victim_of("Out of memory: Killed process 12 (python) total-vm:1kB, anon-rss:1kB"), 12);
  EXPECT_EQ(victim_of("Out of memory (oom_kill_allocating_task): Killed process 13 (a b) total-vm:1kB"), 13);
  EXPECT_EQ(victim_of("somebody says: Killed process 12"), 0);
  EXPECT_EQ(victim_of("oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),pid=4395"), 0);
  EXPECT_EQ(victim_of(""), 0);
}

TEST(KernelKills, HasNoWordsOnAProcessThatNobodyHasKilled) {
  inventory::KernelKills kills;
  EXPECT_EQ(kills.words_on(::getpid()), "");
}

TEST(Sockets, AddressesOnWhichAProcessListens) {
  int before = static_cast<int>(os::listening_on(::getpid()).size());
  int fd = ::socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = ::htonl(INADDR_LOOPBACK);
  ASSERT_EQ(::bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  EXPECT_EQ(static_cast<int>(os::listening_on(::getpid()).size()), before) << "bound is not listening";
  ASSERT_EQ(::listen(fd, 1), 0);
  socklen_t size = sizeof address;
  ::getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size);
  auto found = os::listening_on(::getpid());
  EXPECT_NE(std::find(found.begin(), found.end(), "127.0.0.1:" + std::to_string(::ntohs(address.sin_port))), found.end());
  ::close(fd);
  EXPECT_TRUE(os::listening_on(0x7ffffff0).empty());
}

}  // namespace
}  // namespace holdfast
