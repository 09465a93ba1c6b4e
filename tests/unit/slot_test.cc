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
  std::vector<std::string> scopes;  ///< What was told of them.
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
    host.is_zygote = [this](pid_t pid) { return slot->owns(pid); };
    host.on_scope_ready = [this](int, int scope, const wire::Json& ready) {
      scopes.push_back("ready " + std::to_string(scope) + ready.value("fixture", "") + ready.value("reason", ""));
    };
    host.on_scope_lost = [this](int, int scope, bool owner) {
      scopes.push_back((owner ? "lost " : "copy lost ") + std::to_string(scope));
    };
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
  os::Fd take_test_socket() const { return take_test_socket(zygote_socket); }
  static os::Fd take_test_socket(const os::Fd& zygote_socket) {
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
  void run_until(const std::function<bool()>& condition) {
    std::function<void()> look = [&] {
      if (condition()) {
        loop.stop();
      } else {
        loop.call_after(os::seconds(0.001), look);
      }
    };
    loop.call_after({}, look);
    ASSERT_TRUE(loop.run());
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

/// A zygote and the process of scope 4, both played by programs that only wait.
struct SlotWithScope : SlotTest {
  pid_t zygote = os::spawn({"/bin/sleep", "3600"}, {}, "/", {}).value();
  pid_t process = os::spawn({"/bin/sleep", "3600"}, {}, "/", {}).value();
  os::Fd socket;

  void SetUp() override {
    SlotTest::SetUp();
    say({{"t", "hello"}, {"pid", zygote}});
    ASSERT_TRUE(loop.run());
    slot->set_up(4, Zygote::kSlotsOwn, Order{7, "test_it", 0, false});
    socket = take_test_socket();
    ASSERT_TRUE(socket.valid());
    say({{"t", "forked"}, {"pid", process}});
  }
  void TearDown() override {
    slot->shut_down();
    for (pid_t pid : {zygote, process}) {
      ::kill(pid, SIGKILL);
      ::waitpid(pid, nullptr, 0);
    }
  }
  std::string received() const {
    char bytes[4096];
    ssize_t n = ::recv(socket.get(), bytes, sizeof bytes, MSG_DONTWAIT);
    return n > 0 ? std::string(bytes, static_cast<std::size_t>(n)) : "";
  }
};

TEST_F(SlotWithScope, IsAZygoteOnceItIsReady) {
  EXPECT_TRUE(slot->busy());
  run_until([&] { return received().find(R"("scope":4)") != std::string::npos; });
  say(socket, {{"t", "ready"}, {"duration", 0.5}, {"fixture", ""}, {"reason", ""}});
  run_until([&] { return !scopes.empty(); });
  EXPECT_EQ(scopes, (std::vector<std::string>{"ready 4"}));
  EXPECT_TRUE(slot->has(4));
  EXPECT_TRUE(slot->owns(process));
  EXPECT_TRUE(slot->idle());
  Order order{7, "test_it", 0, false};
  order.scope = 4;
  slot->begin(order, false);
  EXPECT_TRUE(take_test_socket(socket).valid()) << "the test's process is asked for there";
  EXPECT_FALSE(take_test_socket().valid());
}

// Two sockets: what the process says can be read before its zygote has told its number.
TEST_F(SlotTest, AScopeThatIsReadyBeforeItsNumberIsKnown) {
  pid_t zygote = os::spawn({"/bin/sleep", "3600"}, {}, "/", {}).value();
  pid_t process = os::spawn({"/bin/sleep", "3600"}, {}, "/", {}).value();
  say({{"t", "hello"}, {"pid", zygote}});
  ASSERT_TRUE(loop.run());
  slot->set_up(4, Zygote::kSlotsOwn, Order{7, "test_it", 0, false});
  os::Fd socket = take_test_socket();
  say(socket, {{"t", "ready"}, {"duration", 0.5}});
  run_for(0.05);
  EXPECT_TRUE(scopes.empty());
  say({{"t", "forked"}, {"pid", process}});
  run_until([&] { return !scopes.empty(); });
  EXPECT_TRUE(broken.empty());
  EXPECT_EQ(scopes, (std::vector<std::string>{"ready 4"}));
  EXPECT_TRUE(slot->owns(process));
  slot->shut_down();
  for (pid_t pid : {zygote, process}) {
    ::kill(pid, SIGKILL);
    ::waitpid(pid, nullptr, 0);
  }
}

TEST_F(SlotWithScope, IsTheWorkerIfItCannotBeForked) {
  say(socket, {{"t", "ready"}, {"duration", 0.5}, {"fixture", " held: "}, {"reason", "a thread"}});
  run_until([&] { return !scopes.empty(); });
  EXPECT_EQ(scopes, (std::vector<std::string>{"ready 4 held: a thread"}));
  EXPECT_FALSE(slot->has(4));
  EXPECT_TRUE(slot->has_worker());
}

TEST_F(SlotWithScope, SaysOnceThatItsProcessHasEnded) {
  say(socket, {{"t", "ready"}, {"duration", 0.5}});
  run_until([&] { return !scopes.empty(); });
  ::kill(process, SIGKILL);
  run_until([&] { return scopes.size() > 1; });
  EXPECT_EQ(scopes, (std::vector<std::string>{"ready 4", "lost 4"}));
  EXPECT_FALSE(slot->has(4));
  EXPECT_TRUE(slot->idle());
}

TEST_F(SlotWithScope, ATeardownEndsAsAnAttemptOfTheTestItIsToldWith) {
  say(socket, {{"t", "ready"}, {"duration", 0.5}});
  run_until([&] { return !scopes.empty(); });
  received();
  slot->tear_down(4, Order{9, "test_last", 0, false}, false);
  std::string orders;
  run_until([&] { return (orders += received()).find("last") != std::string::npos; });
  EXPECT_EQ(orders.find(R"({"t":"down"})"), 4U) << "the first frame, and with nothing else: shim/forkloop.c";
  EXPECT_NE(orders.find(R"("test":9)"), std::string::npos);
  say(socket, {{"t", "forked"}, {"pid", 1}});  // It was asked for before; not a word of a test.
  say(socket, {{"t", "done"}, {"verdict", "passed"}, {"duration", 0.1}});
  say({{"t", "exited"}, {"pid", process}, {"status", 0}});
  run_until([&] { return !finished.empty(); });
  ASSERT_EQ(finished.size(), 1U);
  EXPECT_EQ(finished[0].scope, 4);
  EXPECT_EQ(finished[0].test, 9U);
  EXPECT_TRUE(finished[0].tearing_down);
  EXPECT_EQ(judge(finished[0].evidence), "passed");
}

}  // namespace
}  // namespace holdfast::run
