#include "os/tcp.h"

#include <gtest/gtest.h>
#include <sys/socket.h>

namespace holdfast::os {
namespace {

TEST(Tcp, DialsWhatListens) {
  Result<Fd> listening = listen_on("127.0.0.1");
  ASSERT_TRUE(listening) << listening.error().message();
  int port = port_of(*listening);
  ASSERT_GT(port, 0);
  Result<Fd> dialled = dial(fmt::format("127.0.0.1:{}", port), 5);
  ASSERT_TRUE(dialled) << dialled.error().message();
  Fd accepted(::accept(listening->get(), nullptr, nullptr));
  EXPECT_TRUE(accepted.valid());
}

TEST(Tcp, SaysWhatIsWrong) {
  Result<Fd> listening = listen_on("127.0.0.1");
  ASSERT_TRUE(listening);
  int port = port_of(*listening);
  EXPECT_NE(listen_on(fmt::format("127.0.0.1:{}", port)).error().message().find("Address already in use"), std::string::npos);
  listening->reset();
  EXPECT_NE(dial(fmt::format("127.0.0.1:{}", port), 0).error().message().find("Connection refused"), std::string::npos);
  EXPECT_NE(dial("127.0.0.1", 0).error().message().find("names no port"), std::string::npos);
  EXPECT_NE(listen_on("no host:1").error().message().find("find the address"), std::string::npos);
}

TEST(Tcp, TakesAddressesApart) {
  EXPECT_EQ(host_of("node.example:80"), "node.example");
  EXPECT_EQ(host_of("node.example"), "node.example");
  EXPECT_EQ(host_of("[::1]:80"), "::1");
  EXPECT_EQ(host_of("[::1]"), "::1");
  EXPECT_EQ(host_of("fe80::1"), "fe80::1");
}

}  // namespace
}  // namespace holdfast::os
