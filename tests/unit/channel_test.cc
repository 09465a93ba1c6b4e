#include "wire/channel.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include "os/sys.h"

namespace holdfast::wire {
namespace {

struct ChannelTest : testing::Test {
  os::SystemClock clock;
  os::Loop loop = os::Loop::open(clock).value();
  std::pair<os::Fd, os::Fd> pair = os::open_channel_pair().value();
  int peer = pair.second.get();
  std::vector<Json> frames;
  std::vector<std::string> ends;
  std::unique_ptr<Channel> channel = std::make_unique<Channel>(loop, std::move(pair.first), 1000);

  void SetUp() override {
    auto on_end = [this](const std::string& problem) {
      ends.push_back(problem);
      loop.stop();
    };
    ASSERT_TRUE(channel->start([this](Json frame) { frames.push_back(std::move(frame)); }, on_end));
    loop.call_after(os::seconds(20), [] { FAIL() << "the loop did not end"; });
  }
  void say(const std::string& bytes) const { ASSERT_EQ(::write(peer, bytes.data(), bytes.size()), ssize_t(bytes.size())); }
  void hang_up() { pair.second.reset(); }
};

TEST_F(ChannelTest, DeliversFramesThenEndOfFile) {
  say(encode("{\"t\":\"a\"}") + encode("{\"t\":\"b\"}"));
  hang_up();
  ASSERT_TRUE(loop.run());
  ASSERT_EQ(frames.size(), 2U);
  EXPECT_EQ(frames[1]["t"], "b");
  EXPECT_EQ(ends, std::vector<std::string>{""});
}

TEST_F(ChannelTest, GarbageEndsItOnceWithAReason) {
  say(encode("{}") + encode("no json") + encode("{}"));
  ASSERT_TRUE(loop.run());
  EXPECT_EQ(frames.size(), 1U);
  EXPECT_EQ(ends, std::vector<std::string>{"a frame that is not a JSON object"});
  channel->drain();
  EXPECT_EQ(ends.size(), 1U);
}

TEST_F(ChannelTest, HalfAFrameIsSaid) {
  say(encode("{\"t\":\"a\"}").substr(0, 6));
  hang_up();
  ASSERT_TRUE(loop.run());
  EXPECT_EQ(ends, std::vector<std::string>{"half a frame"});
}

TEST_F(ChannelTest, OversizedFramesAreNotRead) {
  say("\xff\xff\xff\xff");
  ASSERT_TRUE(loop.run());
  ASSERT_EQ(ends.size(), 1U);
  EXPECT_NE(ends[0].find("4294967295 bytes announced, limit 1000"), std::string::npos);
}

TEST_F(ChannelTest, SendsDescriptorsAndBytesThatAreNotUtf8) {
  os::Fd file = os::open_memfd("test", 0).value();
  channel->send({{"t", "x"}, {"text", "\xff\xfe"}}, {file.get()});
  char data[200];
  char control[200];
  iovec part{data, sizeof data};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  ssize_t n = ::recvmsg(peer, &message, 0);
  ASSERT_GT(n, 4);
  cmsghdr* header = CMSG_FIRSTHDR(&message);
  ASSERT_NE(header, nullptr);
  EXPECT_EQ(header->cmsg_type, SCM_RIGHTS);
  ::close(*reinterpret_cast<int*>(CMSG_DATA(header)));
  EXPECT_TRUE(Json::accept(std::string(data + 4, std::size_t(n) - 4)));
}

TEST_F(ChannelTest, MayBeDestroyedByItsOwnFrame) {
  auto other = os::open_channel_pair().value();
  auto doomed = std::make_unique<Channel>(loop, std::move(other.first), 1000);
  int calls = 0;
  auto on_frame = [&](const Json&) {
    ++calls;
    doomed.reset();
    loop.stop();
  };
  ASSERT_TRUE(doomed->start(on_frame, [](const std::string&) { FAIL(); }));
  std::string two = encode("{}") + encode("{}");
  ASSERT_GT(::write(other.second.get(), two.data(), two.size()), 0);
  ASSERT_TRUE(loop.run());
  EXPECT_EQ(calls, 1);
}

TEST_F(ChannelTest, QueuesWhatTheSocketDoesNotTake) {
  std::string big(3 << 20, 'x');
  channel->send({{"big", big}});
  EXPECT_GT(channel->queued_bytes(), 0U);
  std::size_t got = 0;
  ASSERT_TRUE(loop.watch(peer, 1 /* EPOLLIN */, [&](std::uint32_t) {
    static char buffer[1 << 16];
    ssize_t n = ::read(peer, buffer, sizeof buffer);
    got += n > 0 ? std::size_t(n) : 0;
    if (got >= big.size() + 4 + 10) loop.stop();
  }));
  ASSERT_TRUE(loop.run());
  EXPECT_EQ(channel->queued_bytes(), 0U);
}

}  // namespace
}  // namespace holdfast::wire
