#include "run/precedence.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace holdfast::run {
namespace {

using Tests = std::vector<std::size_t>;

TEST(Precedence, ATestWaitsForAllThatItIsAfter) {
  Precedence order;
  order.add(2, {0}, {1});
  EXPECT_TRUE(order.waits(2));
  EXPECT_FALSE(order.waits(0));
  EXPECT_EQ(order.over(0, false).ready, Tests{});
  EXPECT_EQ(order.over(1, true).ready, Tests{2});
  EXPECT_FALSE(order.waits(2));
}

TEST(Precedence, WithoutWhatItNeedsItIsHopelessOnce) {
  Precedence order;
  order.add(2, {}, {0, 1});
  order.add(3, {0}, {});
  Precedence::Freed freed = order.over(0, false);
  EXPECT_EQ(freed.hopeless, Tests{2});
  EXPECT_EQ(freed.ready, Tests{3});
  freed = order.over(1, false);
  EXPECT_EQ(freed.hopeless, Tests{});
  EXPECT_EQ(freed.ready, Tests{});
}

TEST(Precedence, PairsAreAllThatWasSaid) {
  Precedence order;
  order.add(2, {0}, {1});
  order.add(1, {}, {0});
  auto pairs = order.pairs();
  std::sort(pairs.begin(), pairs.end());
  EXPECT_EQ(pairs, (std::vector<std::pair<std::size_t, std::size_t>>{{0, 1}, {0, 2}, {1, 2}}));
}

TEST(Precedence, WhoIsPartedWaitsForTheOthersOnly) {
  Precedence order;
  order.add(2, {0}, {0, 1});
  order.add(3, {0}, {});
  order.part(0, 2);
  order.part(0, 2);
  order.part(7, 2);
  EXPECT_TRUE(order.waits(2));
  EXPECT_EQ(order.over(1, true).ready, Tests{2});
  order.part(0, 3);
  EXPECT_FALSE(order.waits(3));
  EXPECT_EQ(order.over(0, true).ready, Tests{});
}

TEST(Precedence, WhatNobodyWaitsForFreesNobody) {
  Precedence order;
  order.add(1, {0}, {});
  EXPECT_EQ(order.over(5, true).ready, Tests{});
  EXPECT_EQ(order.over(0, true).ready, Tests{1});
  EXPECT_EQ(order.over(0, true).ready, Tests{});
}

}  // namespace
}  // namespace holdfast::run
