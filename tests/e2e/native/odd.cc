// GoogleTest in a program that does something else when it is asked for its tests.
#include <gtest/gtest.h>
#include <unistd.h>

#include <string>

TEST(Suite, Test) {}

int main(int argc, char** argv) {
  std::string does = std::getenv("DOES") == nullptr ? "" : std::getenv("DOES");
  if (does == "crash") {
    std::fprintf(stderr, "about to die\n");
    std::abort();
  }
  if (does == "sleep") {
    std::puts("asleep");
    std::fflush(stdout);
    ::sleep(600);
  }
  if (does == "shut") {
    ::close(1);
    ::close(2);
    ::sleep(600);
  }
  if (does == "flood") {
    std::string line(1 << 20, 'x');
    for (int i = 0; i < 100; ++i) std::fwrite(line.data(), 1, line.size(), stdout);
  }
  if (does == "ignore") argc = 1;  // It runs its tests.
  testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
