// Four tests of GoogleTest: one is fine, one fails, one dies, one hangs.
#include <gtest/gtest.h>

#include <chrono>
#include <thread>
#include <vector>

namespace {

int top(const std::vector<int>* stack) { return stack->back(); }

}  // namespace

TEST(Stack, HasATop) {
  std::vector<int> stack{1, 2};
  EXPECT_EQ(top(&stack), 2);
}

TEST(Stack, Fails) {
  std::vector<int> stack{1, 2};
  EXPECT_EQ(top(&stack), 1) << "the last one is on top";
}

TEST(Stack, Dies) { EXPECT_EQ(top(nullptr), 0); }

TEST(Stack, Hangs) { std::this_thread::sleep_for(std::chrono::hours(1)); }
