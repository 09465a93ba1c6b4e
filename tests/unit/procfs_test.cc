// With real processes: what /proc says is the point.
#include "os/procfs.h"

#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <functional>

#include "os/sys.h"

namespace holdfast::os {
namespace {

bool eventually(const std::function<bool()>& condition) {
  for (int i = 0; i < 2000; ++i) {
    if (condition()) return true;
    ::poll(nullptr, 0, 5);
  }
  return false;
}

pid_t start_sleep() { return spawn({"/bin/sleep", "3600"}, {}, "/", {}).value(); }

TEST(Procfs, SeesAChildItsStateAndCommand) {
  pid_t child = start_sleep();
  EXPECT_TRUE(eventually([&] { return command_line(child) == "/bin/sleep 3600"; }));
  auto children = children_of(::getpid());
  EXPECT_NE(std::find(children.begin(), children.end(), child), children.end());
  ::kill(child, SIGSTOP);
  EXPECT_TRUE(eventually([&] { return process_state(child) == 'T'; }));
  ::kill(child, SIGKILL);
  EXPECT_TRUE(eventually([&] { return process_state(child) == 'Z'; }));
  ::waitpid(child, nullptr, 0);
  EXPECT_EQ(process_state(child), '\0');
}

TEST(Procfs, KillsADaemonThatForkedTwiceAndSparesTheSpared) {
  ::prctl(PR_SET_CHILD_SUBREAPER, 1);
  pid_t spared = start_sleep();
  pid_t child = ::fork();
  if (child == 0) {
    ::setsid();
    if (::fork() == 0) {
      ::setsid();
      ::execl("/bin/sleep", "sleep", "3601", nullptr);
    }
    ::_exit(0);
  }
  ::waitpid(child, nullptr, 0);
  auto find_daemon = [] {
    for (pid_t pid : children_of(::getpid())) {
      if (command_line(pid) == "sleep 3601") return pid;
    }
    return pid_t{0};
  };
  ASSERT_TRUE(eventually([&] { return find_daemon() != 0; }));
  pid_t daemon = find_daemon();
  EXPECT_GE(kill_descendants(::getpid(), [spared](pid_t pid) { return pid == spared; }), 1);
  EXPECT_TRUE(eventually([&] { return process_state(daemon) == 'Z'; }));
  // It may be on its way into its sleep still.
  EXPECT_TRUE(eventually([&] { return process_state(spared) == 'S'; }));
  ::kill(spared, SIGKILL);
  ::waitpid(spared, nullptr, 0);
  ::waitpid(daemon, nullptr, 0);
}

TEST(Procfs, SparesAGrandchildAndWhatIsBelowIt) {
  auto pipe = open_pipe().value();
  pid_t child = ::fork();
  if (child == 0) {
    pid_t grandchild = ::fork();
    if (grandchild == 0) {
      pid_t below = start_sleep();
      pid_t pids[] = {::getpid(), below};
      [[maybe_unused]] ssize_t written = ::write(pipe.second.get(), pids, sizeof pids);
    }
    ::pause();
    ::_exit(0);
  }
  pid_t pids[2] = {};
  ASSERT_TRUE(eventually([&] { return ::read(pipe.first.get(), pids, sizeof pids) == sizeof pids; }));
  EXPECT_GE(kill_descendants(::getpid(), [&](pid_t pid) { return pid == pids[0]; }), 1);
  EXPECT_TRUE(eventually([&] { return process_state(child) == 'Z'; }));
  EXPECT_NE(process_state(pids[0]), 'Z');
  EXPECT_NE(process_state(pids[1]), 'Z');
  EXPECT_GT(process_state(pids[1]), '\0');
  for (pid_t pid : pids) ::kill(pid, SIGKILL);
  ::waitpid(child, nullptr, 0);
}

TEST(Procfs, PidfdSignalsTheProcess) {
  pid_t child = start_sleep();
  Fd pidfd = open_pidfd(child).value();
  EXPECT_TRUE(send_signal(pidfd, SIGKILL));
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(WTERMSIG(status), SIGKILL);
  EXPECT_FALSE(send_signal(pidfd, SIGKILL));
}

TEST(Spawn, PutsDescriptorsWhereTheyAreWanted) {
  auto pipe = open_pipe().value();
  pid_t child = spawn({"/bin/sh", "-c", "echo to stdout; echo to seven >&7"}, {}, "/tmp",
                      {{1, pipe.second.get()}, {7, pipe.second.get()}})
                    .value();
  ::waitpid(child, nullptr, 0);
  char buffer[100];
  ssize_t n = ::read(pipe.first.get(), buffer, sizeof buffer);
  ASSERT_GT(n, 0);
  EXPECT_EQ(std::string(buffer, std::size_t(n)), "to stdout\nto seven\n");
}

TEST(Files, TailAndRewind) {
  Fd file = open_memfd("test", 0).value();
  ASSERT_EQ(::write(file.get(), "0123456789", 10), 10);
  EXPECT_EQ(read_tail(file.get(), 4), "6789");
  EXPECT_EQ(read_tail(file.get(), 100), "0123456789");
  rewind_and_empty(file.get());
  EXPECT_EQ(file_size(file.get()), 0U);
  ASSERT_EQ(::write(file.get(), "ab", 2), 2);
  EXPECT_EQ(read_tail(file.get(), 100), "ab");
}

}  // namespace
}  // namespace holdfast::os
