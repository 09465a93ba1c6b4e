#include "plan/portions.h"

#include <gtest/gtest.h>

namespace holdfast::plan {
namespace {

std::vector<Portion> single(std::size_t count, double expected = 1) {
  std::vector<Portion> portions;
  for (std::size_t i = 0; i < count; ++i) portions.push_back(Portion{{i}, 1, expected});
  return portions;
}

TEST(Portions, OneMachineGetsEverythingAtOnce) {
  Portions portions;
  portions.reset(single(100), false, false);
  EXPECT_EQ(portions.take(4, 0, 1).size(), 100U);
  EXPECT_TRUE(portions.empty());
}

TEST(Portions, OneOfSeveralGetsAPartAndNothingMoreWhileItIsBusy) {
  Portions portions;
  portions.reset(single(100), false, false);
  EXPECT_EQ(portions.take(2, 0, 2).size(), 25U);
  EXPECT_TRUE(portions.take(2, 4, 2).empty());
  EXPECT_EQ(portions.take(2, 3, 2).size(), 19U);  // Of 75, rounded up.
}

TEST(Portions, TheEndIsDealtInSmallParts) {
  Portions portions;
  portions.reset(single(6), false, false);
  EXPECT_EQ(portions.take(1, 0, 2).size(), 2U);
  EXPECT_EQ(portions.take(1, 1, 2).size(), 1U);
  EXPECT_EQ(portions.take(1, 0, 2).size(), 2U);
}

TEST(Portions, TheWidestGoFirstThenTheLongest) {
  Portions portions;
  portions.reset({{{0}, 1, 1}, {{1}, 1, 9}, {{2}, 4, 1}}, false, false);
  EXPECT_EQ(portions.take(4, 0, 1), (std::vector<std::size_t>{2, 1, 0}));
}

TEST(Portions, AnOrderThatCountsIsKept) {
  Portions portions;
  portions.reset({{{0}, 1, 1}, {{1}, 1, 9}}, true, false);
  EXPECT_EQ(portions.take(4, 0, 1), (std::vector<std::size_t>{0, 1}));
}

TEST(Portions, WhatIsTooWideForAMachineIsLeftForAnother) {
  Portions portions;
  portions.reset({{{0}, 4, 1}, {{1}, 1, 1}}, false, false);
  EXPECT_EQ(portions.take(2, 0, 1), (std::vector<std::size_t>{1}));
  EXPECT_EQ(portions.take_wider_than(2), (std::vector<std::size_t>{0}));
  EXPECT_TRUE(portions.empty());
}

TEST(Portions, WhatBelongsTogetherStaysTogether) {
  Portions portions;
  portions.reset({{{0, 1, 2, 3, 4, 5, 6, 7}, 1, 8}, {{8}, 1, 1}}, false, false);
  EXPECT_EQ(portions.take(1, 0, 2).size(), 8U);
}

TEST(Portions, WhatALostMachineHadComesFirst) {
  Portions portions;
  portions.reset(single(4), false, false);
  std::vector<std::size_t> lost = portions.take(1, 0, 2);
  for (auto test = lost.rbegin(); test != lost.rend(); ++test) portions.give_back(*test, 1);
  EXPECT_EQ(portions.take(1, 0, 2).front(), lost.front());
}

TEST(Portions, AnOrderOverAllTestsIsKeptByOneMachine) {
  Portions portions;
  portions.reset(single(50), false, true);
  EXPECT_EQ(portions.take(1, 0, 3).size(), 50U);
}

}  // namespace
}  // namespace holdfast::plan
