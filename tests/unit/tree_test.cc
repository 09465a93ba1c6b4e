#include "run/tree.h"

#include <gtest/gtest.h>

namespace holdfast::run {
namespace {

using Kind = Tree::Step::Kind;

/// session - module - class, and a second module.
struct TreeTest : testing::Test {
  Tree tree;
  void SetUp() override {
    ASSERT_TRUE(tree.add("whole", "session", Tree::kNone));
    ASSERT_TRUE(tree.add("one", "module", 0));
    ASSERT_TRUE(tree.add("class", "class", 1));
    ASSERT_TRUE(tree.add("two", "module", 0));
  }
  void make_ready(int scope, int slot) {
    tree.begin_setup(scope, slot);
    tree.ready(scope, 1);
  }
  Tree::Step next(int scope, std::vector<int> mine) {
    return tree.next(scope, [&](int other) { return std::find(mine.begin(), mine.end(), other) != mine.end(); });
  }
};

TEST_F(TreeTest, RefusesAScopeThatComesBeforeItsParent) {
  EXPECT_FALSE(tree.add("stray", "class", 9));
  EXPECT_EQ(tree.size(), 4U);
}

TEST_F(TreeTest, SetsUpFromTheTop) {
  EXPECT_EQ(next(2, {}).scope, 0);
  EXPECT_EQ(next(2, {}).kind, Kind::SetUp);
  make_ready(0, 0);
  EXPECT_EQ(next(2, {0}).scope, 1);
  make_ready(1, 0);
  make_ready(2, 0);
  EXPECT_EQ(next(2, {0, 1, 2}).kind, Kind::Run);
  EXPECT_EQ(next(2, {0, 1, 2}).scope, 2);
  EXPECT_EQ(next(Tree::kNone, {}).kind, Kind::Run);
  EXPECT_EQ(next(Tree::kNone, {}).scope, Tree::kNone);
}

TEST_F(TreeTest, AnotherSlotWaitsAndThenGetsACopy) {
  tree.begin_setup(0, 0);
  EXPECT_EQ(next(1, {}).kind, Kind::Wait);
  tree.ready(0, 1);
  EXPECT_EQ(next(1, {}).kind, Kind::Replicate);
  EXPECT_EQ(next(1, {0}).kind, Kind::SetUp);
}

TEST_F(TreeTest, IsTornDownFromBelowBySlotThatSetItUpWhenItsTestsAreSettled) {
  for (int scope : {2, 2, 3}) tree.expect(scope);
  make_ready(0, 0);
  make_ready(1, 0);
  make_ready(2, 1);
  tree.settle(2);
  EXPECT_FALSE(tree.due_in(1, false));
  tree.settle(2);
  EXPECT_EQ(tree.due_in(1, false), 2);
  EXPECT_FALSE(tree.due_in(0, false)) << "something below it is still there";
  EXPECT_EQ(tree.due_above(2), 2);
  tree.begin_teardown(2);
  EXPECT_FALSE(tree.due_in(1, false));
  EXPECT_TRUE(tree.any_leaving());
  tree.over(2, 1);
  EXPECT_EQ(tree.due_above(2), 1);
  EXPECT_EQ(tree.due_in(0, false), 1);
  tree.begin_teardown(1);
  tree.over(1, 1);
  EXPECT_FALSE(tree.due_in(0, false)) << "the other module needs the session's";
  EXPECT_TRUE(tree.any_live());
  EXPECT_FALSE(tree.any_leaving());
  EXPECT_EQ(tree.due_in(0, true), 0) << "the run ends";
}

TEST_F(TreeTest, WhatWasLostIsSetUpAgain) {
  tree.expect(1);
  make_ready(0, 0);
  make_ready(1, 1);
  tree.lost(1);
  EXPECT_EQ(next(1, {0}).kind, Kind::SetUp);
  make_ready(1, 1);
  tree.lost_in(1);
  EXPECT_EQ(next(1, {0}).scope, 1);
  tree.lost_in(0);
  EXPECT_EQ(next(1, {}).scope, 0);
  EXPECT_FALSE(tree.any_live());
}

TEST_F(TreeTest, TestsOfADeadOrUnforkableScopeRunBelowTheScopeAboveIt) {
  make_ready(0, 0);
  tree.begin_setup(1, 0);
  tree.dead(1);
  EXPECT_EQ(tree.path(2), (std::vector<int>{0}));
  EXPECT_EQ(next(2, {0}).kind, Kind::Run);
  EXPECT_EQ(next(2, {0}).scope, 0);
}

TEST_F(TreeTest, AWorkersScopeIsThereUntilItsWorkerHasGone) {
  tree.expect(1);
  make_ready(0, 0);
  make_ready(1, 0);
  tree.to_worker(1);
  EXPECT_FALSE(tree.worker_in(0));
  tree.settle(1);
  EXPECT_EQ(tree.worker_in(0), 1);
  EXPECT_FALSE(tree.due_in(0, false));
  tree.worker_gone(1);
  EXPECT_EQ(tree.due_in(0, false), 0);
}

TEST_F(TreeTest, IsDealtByItsOutermostScopeThatIsNotTheSessions) {
  EXPECT_EQ(tree.outermost(2), 1);
  EXPECT_EQ(tree.outermost(0), Tree::kNone);
  EXPECT_TRUE(tree.is_within(2, 0));
  EXPECT_FALSE(tree.is_within(3, 1));
}

}  // namespace
}  // namespace holdfast::run
