#include <gtest/gtest.h>

#include "ran.h"

TEST(Suite, Passes) { ran("Suite.Passes"); }
TEST(Suite, PassesToo) { ran("Suite.PassesToo"); }
TEST(Suite, DISABLED_Off) { ran("Suite.DISABLED_Off"); }
TEST(DISABLED_Whole, Off) { ran("DISABLED_Whole.Off"); }
TEST(Suite, Skips) {
  ran("Suite.Skips");
  GTEST_SKIP() << "why not";
}
TEST(ADeathTest, Dies) {
  ran("ADeathTest.Dies");
  EXPECT_DEATH(std::abort(), "");
}

class Values : public testing::TestWithParam<int> {};
TEST_P(Values, Value) {
  char name[32];
  std::snprintf(name, sizeof name, "In/Values.Value/%d", GetParam());
  ran(name);
}
INSTANTIATE_TEST_SUITE_P(In, Values, testing::Range(0, 12));

template <typename T>
class Typed : public testing::Test {};
using Types = testing::Types<int, char>;
TYPED_TEST_SUITE(Typed, Types);
TYPED_TEST(Typed, Works) { ran(sizeof(TypeParam) == 1 ? "Typed/1.Works" : "Typed/0.Works"); }
