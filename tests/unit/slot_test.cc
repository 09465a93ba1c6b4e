// The slot with a zygote that this test plays itself, over a real socket and with real child processes.
#include "run/slot.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "os/procfs.h"

namespace holdfast::run {
namespace {

/// Answers the slot as a zygote would.
struct SlotTest : testing::Test {
  os::SystemClock clock;
  os::Loop loop = os::Loop::open(clock).value();
  Limits limits;
  os::Fd zygote_socket;
  std::vector<Attempt> finished;
  std::vector<std::size_t> abandoned;
  std::vector<std::string> broken;
  int zygotes_asked = 0;
  int idle = 0;
  std::unique_ptr<Slot> slot;

  void SetUp() override {
    SlotHost host;
    host.start_zygote = [this](int, const os::Fd& socket) {
      ++zygotes_asked;
      zygote_socket = os::duplicate(socket);
    };
    host.zygote_config = [] { return wire::Json(); };
    host.on_idle = [this](int) {
      ++idle;
      loop.stop();
    };
    host.on_finished = [this](Attempt attempt) { finished.push_back(std::move(attempt)); };
    host.on_abandoned = [this](std::size_t test, int) { abandoned.push_back(test); };
    host.on_ask = [this](int) { slot->answer({}, false); };
    host.on_worker_ended = [](const WorkerEnd&) {};
    host.on_output = [](int, const std::string&) {};
    host.on_broken = [this](int, const std::string& reason) {
      broken.push_back(reason);
      loop.stop();
    };
    host.kill_strays = [] {};
    slot = std::make_unique<Slot>(loop, 0, limits, std::move(host), os::Cgroup());
    ASSERT_TRUE(slot->open());
    loop.call_after(os::seconds(20), [] { FAIL() << "the loop did not end"; });
  }
  void say(const wire::Json& frame) const { say(zygote_socket, frame); }
  static void say(const os::Fd& socket, const wire::Json& frame) {
    std::string bytes = wire::encode(frame.dump());
    ASSERT_EQ(::write(socket.get(), bytes.data(), bytes.size()), ssize_t(bytes.size()));
  }
  /// Reads what the slot has sent to its zygote, and takes the last descriptor of it: the socket of a test's process.
  os::Fd take_test_socket() const {
    os::Fd last;
    char bytes[65536];
    alignas(cmsghdr) char control[CMSG_SPACE(16 * sizeof(int))];
    for (;;) {
      iovec data{bytes, sizeof bytes};
      msghdr message{};
      message.msg_iov = &data;
      message.msg_iovlen = 1;
      message.msg_control = control;
      message.msg_controllen = sizeof control;
      if (::recvmsg(zygote_socket.get(), &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC) <= 0) return last;
      for (cmsghdr* head = CMSG_FIRSTHDR(&message); head != nullptr; head = CMSG_NXTHDR(&message, head)) {
        std::size_t count = (head->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (std::size_t i = 0; i < count; ++i) {
          int fd = -1;
          std::memcpy(&fd, CMSG_DATA(head) + i * sizeof fd, sizeof fd);
          last = os::Fd(fd);
        }
      }
    }
  }
  void run_for(double seconds) {
    loop.call_after(os::seconds(seconds), [this] { loop.stop(); });
    ASSERT_TRUE(loop.run());
  }
};

TEST_F(SlotTest, AZygoteThatNeverComesUpIsAskedForThreeTimes) {
  // Each time hang up without a hello, as a zygote that dies at once. on_broken ends the loop.
  std::function<void()> hang_up = [&] {
    zygote_socket.reset();
    loop.call_after(os::seconds(0.001), hang_up);
  };
  hang_up();
  ASSERT_TRUE(loop.run());
  EXPECT_EQ(zygotes_asked, 3);
  ASSERT_EQ(broken.size(), 1U);
  EXPECT_NE(broken[0].find("three times"), std::string::npos);
}

TEST_F(SlotTest, IsIdleAfterTheHelloAndNotBefore) {
  EXPECT_FALSE(slot->idle());
  pid_t pretend = os::spawn({"/bin/sleep", "3600"}, {}, "/", {}).value();
  say({{"t", "hello"}, {"pid", pretend}});
  ASSERT_TRUE(loop.run());
  EXPECT_EQ(idle, 1);
  EXPECT_TRUE(slot->idle());
  EXPECT_EQ(slot->zygote_pid(), pretend);
  slot->shut_down();
  EXPECT_FALSE(slot->idle());
  int status = 0;
  ASSERT_EQ(::waitpid(pretend, &status, 0), pretend);
  EXPECT_EQ(WTERMSIG(status), SIGKILL);
}

// The engine kills everything when the controller goes away: a test that had reported its end, and was about to exit, has not
// crashed.
TEST_F(SlotTest, ATestThatIsKilledByTheRunsEndHasNoVerdict) {
  pid_t zygote = os::spawn({"/bin/sleep", "3600"}, {}, "/", {}).value();
  pid_t process = os::spawn({"/bin/sleep", "3600"}, {}, "/", {}).value();
  say({{"t", "hello"}, {"pid", zygote}});
  ASSERT_TRUE(loop.run());
  slot->begin(Order{7, "test_it", 0, false}, false);
  os::Fd socket = take_test_socket();
  ASSERT_TRUE(socket.valid());
  say({{"t", "forked"}, {"pid", process}});
  say(socket, {{"t", "done"}, {"verdict", "passed"}});
  run_for(0.05);
  slot->shut_down();
  EXPECT_TRUE(finished.empty());
  EXPECT_EQ(abandoned, (std::vector<std::size_t>{7}));
  for (pid_t pid : {zygote, process}) {
    ::kill(pid, SIGKILL);
    ::waitpid(pid, nullptr, 0);
  }
}

}  // namespace
}  // namespace holdfast::run
