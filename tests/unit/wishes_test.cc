#include "run/wishes.h"

#include <gtest/gtest.h>

namespace holdfast::run {
namespace {

using nlohmann::json;

Wishes four(bool reuse) {
  Wishes wishes;
  for (const char* id : {"a.py::1", "a.py::2", "b.py::1", "a.py::3"}) wishes.add(id, json{{"reuse", reuse}});
  return wishes;
}

std::vector<std::uint32_t> chunks(const plan::Problem& problem) {
  std::vector<std::uint32_t> found;
  for (const plan::Task& task : problem.tasks) found.push_back(task.chunk);
  return found;
}

TEST(Wishes, TestsOfTheirOwnProcessAreDealtOneByOne) {
  EXPECT_EQ(chunks(four(false).problem({})), (std::vector<std::uint32_t>{0, 1, 2, 3}));
}

TEST(Wishes, TestsForWorkersByFileWhichMayBeShared) {
  plan::Problem problem = four(true).problem({});
  EXPECT_EQ(chunks(problem), (std::vector<std::uint32_t>{0, 0, 1, 0}));
  EXPECT_TRUE(problem.splittable[0]);
}

TEST(Wishes, FilesAndEverythingStayTogetherWhereAsked) {
  plan::Problem problem = four(false).problem(Dealing{"file", false, 2, {}});
  EXPECT_EQ(chunks(problem), (std::vector<std::uint32_t>{0, 0, 1, 0}));
  EXPECT_FALSE(problem.splittable[0]);
  EXPECT_EQ(chunks(four(true).problem(Dealing{"sequential", false, 2, {}})), (std::vector<std::uint32_t>{0, 0, 0, 0}));
}

TEST(Wishes, WhatDiedLastTimeIsNoWorkersButAScopesIfItHasOne) {
  Wishes wishes;
  journal::Known died{1.0, 0, true};
  wishes.add("a.py::1", {{"reuse", true}});
  wishes.add("a.py::2", {{"reuse", true}, {"scope", "a.py"}});
  wishes.know(0, died, 0);
  wishes.know(1, died, 0);
  plan::Problem problem = wishes.problem({});
  EXPECT_FALSE(problem.tasks[0].reuse);
  EXPECT_TRUE(problem.tasks[1].reuse);
}

TEST(Wishes, GroupsStayTogetherOverFiles) {
  Wishes wishes;
  wishes.add("a.py::1", {{"group", "x"}});
  wishes.add("a.py::2", json::object());
  wishes.add("b.py::1", {{"group", "x"}});
  EXPECT_EQ(chunks(wishes.problem(Dealing{"group", false, 2, {}})), (std::vector<std::uint32_t>{0, 1, 0}));
  EXPECT_EQ(chunks(wishes.problem(Dealing{"dynamic", false, 2, {}})), (std::vector<std::uint32_t>{0, 1, 2}));
}

TEST(Wishes, WhatIsSetUpTogetherIsDealtTogetherAndShared) {
  Wishes wishes;
  for (int outermost : {4, -1, 4, 7}) wishes.add("a.py::1", json::object(), outermost);
  plan::Problem problem = wishes.problem({});
  EXPECT_EQ(chunks(problem), (std::vector<std::uint32_t>{0, 1, 0, 2}));
  EXPECT_TRUE(problem.splittable[0]);
  EXPECT_FALSE(problem.splittable[1]);
}

TEST(Wishes, OneBlockAtATimeIsAClassOrTheFunctionsOfAModule) {
  Wishes wishes;
  for (const char* id : {"a.py::x", "a.py::C::x[a::b]", "a.py::y[c::d]", "a.py::C::y", "a.py::C::D::y"}) {
    wishes.add(id, json{{"reuse", true}});
  }
  plan::Problem problem = wishes.problem(Dealing{"isoscope", false, 2, {}});
  EXPECT_EQ(chunks(problem), (std::vector<std::uint32_t>{0, 1, 0, 1, 2}));
  EXPECT_TRUE(problem.one_chunk);
  EXPECT_TRUE(problem.keep_order);
  EXPECT_TRUE(problem.splittable[1]);
  EXPECT_EQ(chunks(wishes.problem(Dealing{"scope", false, 2, {}})), (std::vector<std::uint32_t>{0, 1, 0, 1, 2}));
}

TEST(Wishes, EqualDemandsAreOne) {
  Wishes wishes;
  json port = {{"demand", {{"tokens", {{"port", true}}}}}};
  wishes.add("a", port);
  wishes.add("b", port);
  wishes.add("c", {{"demand", {{"cores", 3}, {"memory", 5}, {"alone", true}}}});
  plan::Problem problem = wishes.problem({});
  EXPECT_EQ(problem.demands.size(), 3U);
  EXPECT_EQ(problem.tasks[0].demand, problem.tasks[1].demand);
  EXPECT_TRUE(wishes.demand_of(0).tokens[0].exclusive);
  EXPECT_EQ(wishes.demand_of(2).cores, 3);
  EXPECT_TRUE(wishes.demand_of(2).alone);
}

TEST(Wishes, ALeaseIsATokenThatSoManyMayHold) {
  Wishes wishes;
  wishes.add("a", {{"demand", {{"leases", {{"db", 3}}}, {"tokens", {{"db", true}}}}}});
  const plan::Demand& demand = wishes.demand_of(0);
  ASSERT_EQ(demand.tokens.size(), 2U);
  EXPECT_NE(demand.tokens[0].token, demand.tokens[1].token);
  EXPECT_FALSE(demand.tokens[1].exclusive);
  EXPECT_EQ(demand.tokens[1].most, 3U);
}

TEST(Wishes, MeasuredMemoryIsBookedInStepsAndNeverMoreThanThereIs) {
  Wishes wishes;
  constexpr std::uint64_t kMiB = 1U << 20U;
  std::size_t test = 0;
  auto add = [&](const char* id, const json& item, const journal::Known& known) {
    wishes.add(id, item);
    wishes.know(test++, known, 1000 * kMiB);
  };
  add("small", json::object(), {1, 10 * kMiB});
  add("large", json::object(), {2, 100 * kMiB});
  add("huge", json::object(), {3, 9000 * kMiB});
  add("declared", {{"demand", {{"memory", 7}}}}, {4, 500 * kMiB});
  EXPECT_EQ(wishes.demand_of(0).memory, 0U);
  EXPECT_EQ(wishes.demand_of(1).memory, 128 * kMiB);
  EXPECT_EQ(wishes.demand_of(2).memory, 1000 * kMiB);
  EXPECT_EQ(wishes.demand_of(3).memory, 7U);
  EXPECT_DOUBLE_EQ(wishes.problem({}).tasks[3].expected, 4);
}

}  // namespace
}  // namespace holdfast::run
