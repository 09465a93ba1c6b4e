#include "run/limits.h"

#include <gtest/gtest.h>

namespace holdfast::run {
namespace {

constexpr double kStart = 100;

TEST(Limits, TheSumHoldsForSetupAndCall) {
  Limits limits;
  EXPECT_EQ(due_of(limits, 3, Phase::Idle, kStart, kStart).at, 103);
  EXPECT_EQ(due_of(limits, 3, Phase::Setup, kStart, kStart + 1).at, 103);
  EXPECT_EQ(due_of(limits, 3, Phase::Call, kStart, kStart + 2).at, 103);
}

TEST(Limits, TheEarlierOfSumAndPhaseHolds) {
  Limits limits;
  limits.call = 5;
  EXPECT_EQ(due_of(limits, 3, Phase::Call, kStart, kStart + 2).limit, 3);
  EXPECT_EQ(due_of(limits, 30, Phase::Call, kStart, kStart + 2).at, 107);
  EXPECT_EQ(due_of(limits, 30, Phase::Call, kStart, kStart + 2).limit, 5);
}

TEST(Limits, ATeardownThatBeginsLateGetsTheGrace) {
  Limits limits;
  limits.grace = 5;
  EXPECT_EQ(due_of(limits, 3, Phase::Teardown, kStart, kStart + 2.5).at, 107.5);
  EXPECT_EQ(due_of(limits, 30, Phase::Teardown, kStart, kStart + 1).at, 130);
}

TEST(Limits, ExitHasItsOwn) {
  Limits limits;
  EXPECT_EQ(due_of(limits, 3, Phase::Exit, kStart, kStart + 50).at, 160);
}

TEST(Limits, ZeroMeansNever) {
  Limits limits;
  EXPECT_EQ(due_of(limits, 0, Phase::Call, kStart, kStart).at, 0);
  limits.exit = 0;
  EXPECT_EQ(shortest_phase(limits), 0);
  limits.setup = 4;
  limits.call = 2;
  EXPECT_EQ(shortest_phase(limits), 2);
}

}  // namespace
}  // namespace holdfast::run
