#include "os/memory_group.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <iostream>

namespace holdfast::os {
namespace {

constexpr std::size_t kMiB = std::size_t{1} << 20U;

// Waits for a byte, takes `bytes`, and ends.
pid_t start_eater(std::size_t bytes, int& go) {
  int ends[2];
  if (::pipe(ends) != 0) return -1;
  pid_t pid = ::fork();
  if (pid == 0) {
    char byte = 0;
    [[maybe_unused]] ssize_t n = ::read(ends[0], &byte, 1);
    auto* memory = static_cast<char*>(std::malloc(bytes));
    for (std::size_t i = 0; i < bytes; i += 4096) memory[i] = 1;
    ::_exit(memory[bytes / 2] == 3 ? 1 : 0);
  }
  ::close(ends[0]);
  go = ends[1];
  return pid;
}

TEST(MemoryGroup, TheKernelKillsInItAloneAndSaysSo) {
  MemoryGroup group = MemoryGroup::create("holdfast-test-" + std::to_string(::getpid()), 32 * kMiB);
  if (!group.usable()) {
    std::cerr << "SKIPPED: this machine lets us make no group with a memory limit; `oom` is not tested here\n";
    GTEST_SKIP();
  }
  for (bool too_much : {false, true}) {
    int go = -1;
    pid_t pid = start_eater(too_much ? 128 * kMiB : 4 * kMiB, go);
    ASSERT_GT(pid, 0);
    ASSERT_TRUE(group.add(pid));
    ASSERT_EQ(::write(go, "x", 1), 1);
    int status = 0;
    ASSERT_EQ(::waitpid(pid, &status, 0), pid);
    ::close(go);
    EXPECT_EQ(WIFSIGNALED(status), too_much);
    EXPECT_EQ(group.kills(), too_much ? 1 : 0);
  }
  EXPECT_GT(group.peak(), 30 * kMiB);
}

}  // namespace
}  // namespace holdfast::os
