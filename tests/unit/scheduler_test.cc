#include "plan/scheduler.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <set>

namespace holdfast::plan {
namespace {

Problem single_chunks(const std::vector<double>& expected, int slots = 2) {
  Problem problem;
  for (double seconds : expected) {
    problem.tasks.push_back(Task{seconds, static_cast<std::uint32_t>(problem.tasks.size()), 0, false});
  }
  problem.slots = slots;
  problem.capacity.cores = slots;
  return problem;
}

Problem one_chunk(std::size_t tests, bool splittable, int slots = 2) {
  Problem problem;
  problem.tasks.assign(tests, Task{-1, 0, 0, true});
  problem.splittable = {splittable};
  problem.slots = slots;
  problem.capacity.cores = slots;
  return problem;
}

using Taken = std::optional<std::size_t>;

TEST(Scheduler, NothingKnownMeansCollectionOrder) {
  Scheduler scheduler;
  scheduler.reset(single_chunks({-1, -1, -1}));
  EXPECT_EQ(scheduler.take(0), Taken(0));
  EXPECT_EQ(scheduler.take(1), Taken(1));
  scheduler.finished(0, 0);
  EXPECT_EQ(scheduler.take(0), Taken(2));
  EXPECT_EQ(scheduler.take(1), std::nullopt);
  EXPECT_TRUE(scheduler.empty());
}

TEST(Scheduler, LongestFirstAndTheUnknownAsTheAverage) {
  Scheduler scheduler;
  scheduler.reset(single_chunks({1, 5, -1, 9}, 1));
  std::vector<std::size_t> order;
  while (Taken task = scheduler.take(0)) {
    order.push_back(*task);
    scheduler.finished(0, *task);
  }
  EXPECT_EQ(order, (std::vector<std::size_t>{3, 1, 2, 0}));  // Unknown: 5, and later than the one that is known to take 5.
}

TEST(Scheduler, KeepsTheOrderWhereAsked) {
  Scheduler scheduler;
  Problem problem = single_chunks({1, 5, 9}, 1);
  problem.keep_order = true;
  scheduler.reset(problem);
  EXPECT_EQ(scheduler.take(0), Taken(0));
}

TEST(Scheduler, SkipsWhatIsSettled) {
  Scheduler scheduler;
  scheduler.reset(single_chunks({-1, -1, -1, -1}));
  scheduler.settle(0);
  scheduler.settle(2);
  scheduler.settle(2);
  EXPECT_EQ(scheduler.waiting(), 2U);
  EXPECT_EQ(scheduler.take(0), Taken(1));
  EXPECT_EQ(scheduler.take(1), Taken(3));
}

TEST(Scheduler, WhatIsPutBackComesFirst) {
  Scheduler scheduler;
  scheduler.reset(single_chunks({-1, -1, -1}));
  EXPECT_EQ(scheduler.take(0), Taken(0));
  scheduler.finished(0, 0);
  scheduler.put_back(0);
  EXPECT_EQ(scheduler.waiting(), 3U);
  EXPECT_EQ(scheduler.take(0), Taken(0));
}

TEST(Scheduler, AChunkStaysWithItsSlotAndIsHalvedForAnIdleOne) {
  Scheduler scheduler;
  scheduler.reset(one_chunk(9, true));
  EXPECT_EQ(scheduler.take(0), Taken(0));
  EXPECT_EQ(scheduler.take(1), Taken(5));  // Of 1..8 the back half.
  EXPECT_EQ(scheduler.take(0, true), Taken(1));
  EXPECT_EQ(scheduler.take(1, true), Taken(6));
}

TEST(Scheduler, AFileIsNotHalvedWhereItMustStayTogether) {
  Scheduler scheduler;
  scheduler.reset(one_chunk(3, false));
  EXPECT_EQ(scheduler.take(0), Taken(0));
  EXPECT_EQ(scheduler.take(1), std::nullopt);
  EXPECT_EQ(scheduler.take(0, true), Taken(1));
}

TEST(Scheduler, WhatASlotThatGivesUpHadNotBegunGoesToTheOthers) {
  Scheduler scheduler;
  scheduler.reset(one_chunk(3, false));
  EXPECT_EQ(scheduler.take(0), Taken(0));
  scheduler.close(0);
  EXPECT_EQ(scheduler.take(1), Taken(1));
  EXPECT_EQ(scheduler.take(1), Taken(2));
}

TEST(Scheduler, AReusedProcessIsGivenOnlyTestsForReuse) {
  Scheduler scheduler;
  Problem problem = one_chunk(3, true, 1);
  problem.tasks[1].reuse = false;
  scheduler.reset(problem);
  EXPECT_EQ(scheduler.take(0), Taken(0));
  EXPECT_EQ(scheduler.take(0, true), std::nullopt);
  scheduler.finished(0, 0);
  EXPECT_EQ(scheduler.take(0), Taken(1));
}

TEST(Scheduler, AnExclusiveTokenIsHeldByOneSlotAtATime) {
  Scheduler scheduler;
  Problem problem = single_chunks({-1, -1, -1});
  problem.demands.push_back(Demand{1, 0, false, {{7, true}}});
  problem.tasks[0].demand = problem.tasks[1].demand = 1;
  scheduler.reset(problem);
  EXPECT_EQ(scheduler.take(0), Taken(0));
  EXPECT_EQ(scheduler.take(1), Taken(2));  // Not the second user of the port.
  scheduler.finished(1, 2);
  EXPECT_EQ(scheduler.take(1), std::nullopt);
  EXPECT_EQ(scheduler.waiting(), 1U);
  EXPECT_EQ(scheduler.take(0, false), Taken(1));  // Its own claim ends before its next test begins.
}

TEST(Scheduler, ReadersShareAndAWriterWaits) {
  Scheduler scheduler;
  Problem problem = single_chunks({-1, -1, -1}, 3);
  problem.demands.push_back(Demand{1, 0, false, {{1, false}}});
  problem.demands.push_back(Demand{1, 0, false, {{1, true}}});
  problem.tasks[0].demand = problem.tasks[1].demand = 1;
  problem.tasks[2].demand = 2;
  scheduler.reset(problem);
  EXPECT_EQ(scheduler.take(0), Taken(0));
  EXPECT_EQ(scheduler.take(1), Taken(1));
  EXPECT_EQ(scheduler.take(2), std::nullopt);
  scheduler.finished(0, 0);
  EXPECT_EQ(scheduler.take(2), std::nullopt);
  scheduler.finished(1, 1);
  EXPECT_EQ(scheduler.take(2), Taken(2));
}

TEST(Scheduler, ALeaseIsForSoManyAtATime) {
  Scheduler scheduler;
  Problem problem = single_chunks({-1, -1, -1, -1}, 4);
  problem.demands.push_back(Demand{1, 0, false, {{1, false, 2}}});
  for (Task& task : problem.tasks) task.demand = 1;
  scheduler.reset(problem);
  EXPECT_EQ(scheduler.take(0), Taken(0));
  EXPECT_EQ(scheduler.take(1), Taken(1));
  EXPECT_EQ(scheduler.take(2), std::nullopt);
  EXPECT_EQ(scheduler.take(1), Taken(2));  // Its own lease is free when its next test begins.
  scheduler.finished(1, 1);
  scheduler.finished(0, 0);
  EXPECT_EQ(scheduler.take(2), Taken(3));
}

TEST(Scheduler, AloneMeansNothingBesideIt) {
  Scheduler scheduler;
  Problem problem = single_chunks({9, 1, 1});
  problem.demands.push_back(Demand{1, 0, true, {}});
  problem.tasks[0].demand = 1;
  scheduler.reset(problem);
  EXPECT_EQ(scheduler.take(0), Taken(0));
  EXPECT_EQ(scheduler.take(1), std::nullopt);
  scheduler.finished(0, 0);
  EXPECT_EQ(scheduler.take(1), Taken(1));
  scheduler.put_back(0, true, true);
  EXPECT_EQ(scheduler.take(0), Taken(2));
  scheduler.finished(0, 2);
  EXPECT_EQ(scheduler.take(0), std::nullopt);
  scheduler.finished(1, 1);
  EXPECT_EQ(scheduler.take(0), Taken(0));
}

TEST(Scheduler, MemoryAndCoresAreNotOverbooked) {
  Scheduler scheduler;
  Problem problem = single_chunks({-1, -1, -1});
  problem.capacity = Capacity{2, 100};
  problem.demands.push_back(Demand{1, 60, false, {}});
  problem.demands.push_back(Demand{2, 0, false, {}});
  problem.tasks[0].demand = problem.tasks[1].demand = 1;
  problem.tasks[2].demand = 2;
  scheduler.reset(problem);
  EXPECT_EQ(scheduler.take(0), Taken(2));  // The widest first.
  EXPECT_EQ(scheduler.take(1), std::nullopt);
  scheduler.finished(0, 2);
  EXPECT_EQ(scheduler.take(0), Taken(0));
  EXPECT_EQ(scheduler.take(1), std::nullopt);
  scheduler.finished(0, 0);
  EXPECT_EQ(scheduler.take(1), Taken(1));
}

TEST(Scheduler, SaysWhyATestCanNeverRun) {
  EXPECT_EQ(why_impossible(Demand{2, 1, false, {}}, Capacity{2, 1}), "");
  EXPECT_NE(why_impossible(Demand{3, 0, false, {}}, Capacity{2, 0}).find("3 cores"), std::string::npos);
  EXPECT_NE(why_impossible(Demand{1, 2ULL << 30U, false, {}}, Capacity{2, 1ULL << 30U}).find("2048 MiB"), std::string::npos);
}

// Whatever the tests ask for: each is given out exactly once, nothing conflicts, and the run ends.
TEST(Scheduler, WithOneChunkAtATimeTheNextIsOpenedWhenTheOneBeforeIsOver) {
  Problem problem = one_chunk(4, true);
  for (int i = 0; i < 2; ++i) problem.tasks.push_back(Task{-1, 1, 0, true});
  problem.splittable = {true, true};
  problem.one_chunk = problem.keep_order = true;
  Scheduler scheduler;
  scheduler.reset(problem);
  EXPECT_EQ(scheduler.take(0), Taken(0));
  EXPECT_EQ(scheduler.take(1), Taken(2)) << "the same chunk, shared";
  scheduler.finished(0, 0);
  EXPECT_EQ(scheduler.take(0), Taken(1));
  scheduler.finished(1, 2);
  EXPECT_EQ(scheduler.take(1), Taken(3));
  scheduler.finished(1, 3);
  EXPECT_EQ(scheduler.take(1), std::nullopt) << "slot 0 still runs one of it";
  scheduler.finished(0, 1);
  scheduler.may_open(false);
  EXPECT_EQ(scheduler.take(1), std::nullopt) << "it is being torn down";
  scheduler.may_open(true);
  EXPECT_EQ(scheduler.take(1), Taken(4));
}

TEST(Scheduler, WhatIsBoundToASlotRunsThereAndNowhereElse) {
  Problem problem = one_chunk(6, true);
  for (Task& task : problem.tasks) task.reuse = false;
  problem.tasks.push_back(Task{-1, 1, 0, false});
  Scheduler scheduler;
  scheduler.reset(problem);
  EXPECT_EQ(scheduler.take(0), Taken(0));
  EXPECT_EQ(scheduler.take(1), Taken(6));
  scheduler.finished(1, 6);
  EXPECT_EQ(scheduler.take(1), Taken(3)) << "the back half";
  scheduler.put_back(3);
  scheduler.bind({0, 1, 2, 3, 4, 5}, 77, 0, 0);
  scheduler.finished(1, 3);
  EXPECT_EQ(scheduler.take(1), std::nullopt);
  std::vector<std::size_t> ran;
  for (std::size_t last = 0; auto task = scheduler.take(0, true);) {
    scheduler.finished(0, last);
    ran.push_back(*task);
    last = *task;
    EXPECT_TRUE(scheduler.may_reuse(*task));
    EXPECT_TRUE(scheduler.shares_scope(*task));
  }
  std::sort(ran.begin(), ran.end());
  EXPECT_EQ(ran, (std::vector<std::size_t>{1, 2, 3, 4, 5}));
}

TEST(Scheduler, RandomProblemsAreSolvedWithoutConflicts) {
  for (unsigned seed = 0; seed < 300; ++seed) {
    std::mt19937 random(seed);
    auto below = [&](unsigned n) { return static_cast<unsigned>(random() % n); };
    Problem problem;
    problem.slots = 1 + static_cast<int>(below(5));
    problem.capacity = Capacity{problem.slots, 100};
    for (unsigned i = 0; i < 6; ++i) {
      problem.demands.push_back(Demand{1 + static_cast<int>(below(static_cast<unsigned>(problem.slots))),
                                       below(100),
                                       below(6) == 0,
                                       {{below(3), below(2) == 0}}});
    }
    unsigned chunks = 1 + below(8);
    for (unsigned i = 0; i < chunks; ++i) problem.splittable.push_back(below(2) == 0);
    for (unsigned i = 0; i < 60; ++i) {
      bool reuse = below(2) == 0;
      problem.tasks.push_back(Task{below(3) == 0 ? -1.0 : below(10), below(chunks), below(7), reuse, reuse ? below(3) : 0});
    }
    Scheduler scheduler;
    scheduler.reset(problem);
    std::vector<std::vector<std::size_t>> running(static_cast<std::size_t>(problem.slots));
    std::multiset<std::size_t> given;
    int returned = 0;
    for (int step = 0; step < 2000; ++step) {
      auto slot = static_cast<int>(below(static_cast<unsigned>(problem.slots)));
      auto& mine = running[static_cast<std::size_t>(slot)];
      if (mine.size() == 2 || (mine.size() == 1 && below(2) == 0)) {
        scheduler.finished(slot, mine.front());
        if (below(20) == 0) {
          scheduler.put_back(mine.front(), below(2) == 0, below(4) == 0);
          given.erase(given.find(mine.front()));
          ++returned;
        }
        mine.erase(mine.begin());
        continue;
      }
      Taken task = scheduler.take(slot, !mine.empty());
      if (!task) continue;
      EXPECT_TRUE(mine.empty() || scheduler.may_reuse(*task)) << seed;
      if (!mine.empty() && scheduler.may_reuse(mine.back())) {
        EXPECT_EQ(problem.tasks[mine.back()].process, problem.tasks[*task].process) << seed;
      }
      given.insert(*task);
      mine.push_back(*task);
      const Demand& demand = problem.demands[problem.tasks[*task].demand];
      for (int other = 0; other < problem.slots; ++other) {
        const auto& held = running[static_cast<std::size_t>(other)];
        if (other == slot || held.empty()) continue;
        for (std::size_t theirs : held) {
          const Demand& their = problem.demands[problem.tasks[theirs].demand];
          EXPECT_FALSE(demand.alone || their.alone) << seed;
          if (demand.tokens.empty() || their.tokens.empty() || demand.tokens[0].token != their.tokens[0].token) continue;
          EXPECT_FALSE(demand.tokens[0].exclusive || their.tokens[0].exclusive) << seed;
        }
      }
    }
    EXPECT_TRUE(scheduler.empty()) << seed << " left " << scheduler.waiting() << " returned " << returned;
    EXPECT_EQ(given.size(), problem.tasks.size()) << seed;
    EXPECT_EQ(std::set<std::size_t>(given.begin(), given.end()).size(), given.size()) << seed;
  }
}

TEST(Scheduler, OfThePutBackOnlyThoseForAFreshProcess) {
  Scheduler scheduler;
  scheduler.reset(one_chunk(3, false, 1));
  for (std::size_t i = 0; i < 3; ++i) ASSERT_EQ(scheduler.take(0, i > 0), Taken(i));
  for (std::size_t i = 0; i < 3; ++i) scheduler.finished(0, i);
  scheduler.put_back(0, true);
  scheduler.put_back(1);
  EXPECT_EQ(scheduler.take_fresh(0), Taken(0));
  EXPECT_EQ(scheduler.take_fresh(0), std::nullopt);
  EXPECT_EQ(scheduler.take(0), Taken(1));
}

TEST(Scheduler, PlainNextIsWhatTakeGives) {
  Scheduler scheduler;
  Problem problem = one_chunk(4, false, 1);
  problem.demands.push_back(Demand{1, 5, false, {}});
  problem.tasks[2].demand = 1;
  scheduler.reset(problem);
  EXPECT_EQ(scheduler.plain_next(0), std::nullopt) << "no chunk is open";
  ASSERT_EQ(scheduler.take(0), Taken(0));
  EXPECT_EQ(scheduler.plain_next(0), Taken(1));
  ASSERT_EQ(scheduler.take(0, true), Taken(1));
  EXPECT_EQ(scheduler.plain_next(0), std::nullopt) << "it asks for memory";
  scheduler.finished(0, 0);
  scheduler.finished(0, 1);
  ASSERT_EQ(scheduler.take(0), Taken(2));
  EXPECT_EQ(scheduler.plain_next(0), Taken(3));
  scheduler.put_back(0);
  EXPECT_EQ(scheduler.plain_next(0), std::nullopt) << "another comes first";
}

TEST(Scheduler, AScopeHasAProcessOfItsOwnInOneSlot) {
  Scheduler scheduler;
  Problem problem;
  for (std::uint32_t i = 0; i < 6; ++i) problem.tasks.push_back(Task{-1, i / 3, 0, true, 1 + i / 3});
  problem.slots = problem.capacity.cores = 2;
  scheduler.reset(problem);
  ASSERT_EQ(scheduler.take(0), Taken(0));
  EXPECT_TRUE(scheduler.wants_other_process(0));
  ASSERT_EQ(scheduler.take(0, true), Taken(1));
  EXPECT_FALSE(scheduler.wants_other_process(0));
  scheduler.finished(0, 0);
  scheduler.finished(0, 1);
  scheduler.put_back(1);
  ASSERT_EQ(scheduler.take(1), Taken(3)) << "what was put back waits for its own slot";
  EXPECT_EQ(scheduler.take(0), Taken(1));
  EXPECT_EQ(scheduler.take(0, true), Taken(2));
  scheduler.finished(0, 1);
  scheduler.finished(0, 2);
  EXPECT_EQ(scheduler.take(0, true), std::nullopt) << "the other scope is not this process's";
  scheduler.finished(1, 3);
  scheduler.put_back(3);
  scheduler.close(1);
  EXPECT_EQ(scheduler.take(0), Taken(3));
  EXPECT_TRUE(scheduler.wants_other_process(0));
}

}  // namespace
// ---- gangs -----------------------------------------------------------------------------------------------------------------

Problem with_gangs(const std::vector<int>& ranks, int slots) {
  Problem problem;
  problem.slots = slots;
  problem.capacity.cores = slots;
  for (std::uint32_t i = 0; i < ranks.size(); ++i) {
    Demand demand;
    demand.ranks = ranks[i];
    problem.demands.push_back(demand);
    problem.tasks.push_back(Task{-1, i, i + 1});
  }
  return problem;
}

TEST(Gangs, ItGetsAllItsSlotsAtOnceOrNone) {
  Scheduler scheduler;
  scheduler.reset(with_gangs({3, 1}, 3));
  scheduler.offer({0, 1});
  EXPECT_EQ(scheduler.take(0), Taken(1)) << "slot 2 is not idle";
  scheduler.finished(0, 1);
  scheduler.offer({0, 1, 2});
  EXPECT_EQ(scheduler.take(1), Taken(0));
  EXPECT_EQ(scheduler.seats_of(0), (std::vector<int>{1, 0, 2}));
  scheduler.gang_finished(0);
  EXPECT_TRUE(scheduler.empty());
}

TEST(Gangs, TheWidestGoesFirstAndOthersFillTheRest) {
  Scheduler scheduler;
  scheduler.reset(with_gangs({1, 2, 3}, 4));
  scheduler.offer({0, 1, 2, 3});
  EXPECT_EQ(scheduler.take(0), Taken(2));
  scheduler.offer({3});
  EXPECT_EQ(scheduler.take(3), Taken(0)) << "two slots are not free";
}

TEST(Gangs, ItDoesNotStarveWhileOthersRun) {
  std::vector<int> ranks(100, 1);
  ranks[0] = 2;
  Scheduler scheduler;
  scheduler.reset(with_gangs(ranks, 2));
  // The slots are never idle at the same moment, unless they are kept so.
  std::vector<std::optional<std::size_t>> held(2);
  int before = 0;
  for (int step = 0; step < 1000; ++step) {
    int slot = step % 2;
    if (held[slot]) scheduler.finished(slot, *held[slot]);
    held[slot].reset();
    scheduler.offer(held[1 - slot] ? std::vector<int>{slot} : std::vector<int>{0, 1});
    held[slot] = scheduler.take(slot);
    if (held[slot] == 0U) break;
    before += held[slot] ? 1 : 0;
  }
  EXPECT_LE(before, 6);
  EXPECT_EQ(scheduler.waiting(), 99U - static_cast<unsigned>(before));
}

// Whatever their sizes: every gang runs once, no slot holds two, and the run ends.
TEST(Gangs, AtRandomEachRunsOnceOnSlotsThatNobodyElseHas) {
  for (unsigned seed = 0; seed < 200; ++seed) {
    std::mt19937 random(seed);
    int slots = 1 + static_cast<int>(random() % 6);
    std::vector<int> ranks(40);
    for (int& one : ranks) one = 1 + static_cast<int>(random() % static_cast<unsigned>(slots));
    Scheduler scheduler;
    scheduler.reset(with_gangs(ranks, slots));
    std::vector<int> runs(ranks.size());
    std::vector<std::optional<std::size_t>> held(static_cast<std::size_t>(slots));
    int steps = 0;
    while (!scheduler.empty() && ++steps < 10000) {
      auto slot = random() % static_cast<unsigned>(slots);
      if (held[slot]) {
        std::size_t task = *held[slot];
        bool gang = ranks[task] > 1;
        std::vector<int> seats = gang ? scheduler.seats_of(task) : std::vector<int>{static_cast<int>(slot)};
        for (int seat : seats) held[static_cast<std::size_t>(seat)].reset();
        gang ? scheduler.gang_finished(task) : scheduler.finished(static_cast<int>(slot), task);
        continue;
      }
      std::vector<int> idle;
      for (int i = 0; i < slots; ++i) {
        if (!held[static_cast<std::size_t>(i)]) idle.push_back(i);
      }
      scheduler.offer(idle);
      auto task = scheduler.take(static_cast<int>(slot));
      if (!task) continue;
      ++runs[*task];
      std::vector<int> seats = ranks[*task] > 1 ? scheduler.seats_of(*task) : std::vector<int>{static_cast<int>(slot)};
      ASSERT_EQ(seats.size(), static_cast<std::size_t>(ranks[*task]));
      for (int seat : seats) {
        ASSERT_FALSE(held[static_cast<std::size_t>(seat)]);
        held[static_cast<std::size_t>(seat)] = *task;
      }
    }
    ASSERT_TRUE(scheduler.empty()) << "seed " << seed;
    ASSERT_EQ(runs, std::vector<int>(ranks.size(), 1));
  }
}

}  // namespace holdfast::plan
