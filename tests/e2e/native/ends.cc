// Ways in which a test of GoogleTest ends.
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <string>

#include "ran.h"

TEST(Ends, Well) {}
TEST(Ends, Skipped) { GTEST_SKIP() << "has no time"; }
TEST(Ends, Failed) {
  int x = 2;
  EXPECT_EQ(x, 1) << "for a reason";
}
TEST(Ends, Thrown) { throw std::string("words"); }
TEST(Ends, Segv) {
  std::printf("before it died\n");
  std::fflush(stdout);
  ::raise(SIGSEGV);
}
TEST(Ends, Aborted) { std::abort(); }
TEST(Ends, ExitZero) { std::exit(0); }
TEST(Ends, Exit132) { std::exit(132); }
TEST(Ends, Hangs) {
  std::printf("hangs now\n");
  std::fflush(stdout);
  for (;;) ::pause();
}
TEST(Ends, Leaves) {
  if (::fork() != 0) return;
  ::setsid();
  for (;;) ::pause();
}
TEST(Ends, Floods) {
  std::string line(1 << 20, 'x');
  for (int i = 0; i < 100; ++i) std::fwrite(line.data(), 1, line.size(), stdout);
  FAIL() << "after a flood";
}
TEST(Ends, Flaky) {
  ran("Ends.Flaky");
  std::FILE* file = std::fopen(std::getenv("RAN"), "r");
  char line[32];
  int times = 0;
  while (std::fgets(line, sizeof line, file) != nullptr) ++times;
  std::fclose(file);
  EXPECT_EQ(times, 2);
}
