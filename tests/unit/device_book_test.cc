#include "plan/device_book.h"

#include <gtest/gtest.h>

#include <random>
#include <set>

#include "plan/pack.h"
#include "plan/scheduler.h"

namespace holdfast::plan {
namespace {

constexpr std::uint64_t kGib = std::uint64_t{1} << 30U;

DeviceBook book_of(std::vector<Device> devices) {
  DeviceBook book;
  book.reset(std::move(devices));
  return book;
}

TEST(DeviceBook, AWholeDeviceIsGivenToOneTestOnly) {
  DeviceBook book = book_of({{80 * kGib}, {80 * kGib}});
  auto first = book.find({1}, 0, 0);
  ASSERT_TRUE(first);
  book.take(*first);
  auto second = book.find({1}, 0, 0);
  ASSERT_TRUE(second);
  EXPECT_NE(first->devices, second->devices);
  EXPECT_FALSE(book.find({2}, 0, 0));
  book.take(*second);
  EXPECT_FALSE(book.find({1, kGib}, 0, 0));
  book.give_back(*first);
  EXPECT_EQ(book.find({1, kGib}, 0, 0)->devices, first->devices);
}

TEST(DeviceBook, TestsShareADeviceAsLongAsTheirMemoryFitsWithAMargin) {
  DeviceBook book = book_of({{80 * kGib}});
  book.take(*book.find({1, 40 * kGib}, 0, 0));
  EXPECT_FALSE(book.find({1, 40 * kGib}, 0, 0));  // 80 of 80, and 4 are to stay free.
  ASSERT_TRUE(book.find({1, 36 * kGib}, 0, 0));
  book.change(0).foreign = kGib;
  EXPECT_FALSE(book.find({1, 36 * kGib}, 0, 0));
  EXPECT_FALSE(book.find({1}, 0, 0));
}

TEST(DeviceBook, AloneATestMayHaveAllThatThereIs) { EXPECT_TRUE(book_of({{80 * kGib}}).find({1, 80 * kGib}, 0, 0)); }

TEST(DeviceBook, WhatIsFullestAndHasRoomComesFirst) {
  DeviceBook book = book_of({{80 * kGib}, {80 * kGib}});
  book.take({{1}, 30 * kGib});
  EXPECT_EQ(book.find({1, 10 * kGib}, 0, 0)->devices, std::vector<int>{1});
  EXPECT_EQ(book.find({1, 60 * kGib}, 0, 0)->devices, std::vector<int>{0});
}

TEST(DeviceBook, SeveralDevicesAreOfOneNodeWhereItHasEnough) {
  DeviceBook book = book_of({{kGib, 0, 0}, {kGib, 0, 1}, {kGib, 0, 0}, {kGib, 0, 1}});
  EXPECT_EQ(book.find({2}, 1, 0)->devices, (std::vector<int>{1, 3}));
  EXPECT_EQ(book.find({3}, 0, 0)->devices.size(), 3U);
}

TEST(DeviceBook, AvoidedDevicesAreUsedOnlyIfNothingElseIs) {
  DeviceBook book = book_of({{kGib}, {kGib}});
  EXPECT_EQ(book.find({1}, 1, 0)->devices, std::vector<int>{1});
  book.take(*book.find({1}, 1, 0));
  EXPECT_FALSE(book.find({1}, 1, 0));  // It waits for the other one.
  book.change(1).usable = false;
  EXPECT_EQ(book.find({1}, 1, 0)->devices, std::vector<int>{0});
}

TEST(DeviceBook, ArchitectureAndUseAreRespected) {
  DeviceBook book = book_of({{kGib}, {kGib}, {kGib}});
  EXPECT_EQ(book.find({1, 0, 4}, 0, 0)->devices, std::vector<int>{2});
  EXPECT_FALSE(book.is_possible({2, 0, 4}));
  book.change(2).usable = false;
  EXPECT_FALSE(book.is_possible({1, 0, 4}));
  EXPECT_FALSE(book.is_possible({1, 2 * kGib}));
}

// ---- with the scheduler ----------------------------------------------------------------------------------------------------

Problem problem_of(const std::vector<DeviceDemand>& wanted, std::size_t devices, int slots, bool reuse) {
  Problem problem;
  problem.slots = slots;
  problem.capacity.cores = slots;
  problem.devices.assign(devices, Device{80 * kGib});
  problem.demands.clear();
  for (const DeviceDemand& demand : wanted) {
    problem.demands.push_back({});
    problem.demands.back().devices = demand;
  }
  std::uint32_t chunk = 0;
  for (std::uint32_t i = 0; i < wanted.size(); ++i) problem.tasks.push_back({-1, reuse ? i / 7 : chunk++, i, reuse});
  problem.splittable.assign(wanted.size(), reuse);
  return problem;
}

TEST(SchedulerWithDevices, ATestWithSeveralIsNotStarvedBySmallOnes) {
  std::vector<DeviceDemand> wanted(200, {1, 20 * kGib});
  wanted[100] = {2};
  Problem problem = problem_of(wanted, 2, 4, false);
  problem.keep_order = true;
  Scheduler scheduler;
  scheduler.reset(problem);
  std::vector<std::optional<std::size_t>> held(4);
  int after = 0;
  bool begun = false;
  for (int step = 0; step < 2000 && !scheduler.empty(); ++step) {
    int slot = step % 4;
    if (held[slot]) {
      scheduler.finished(slot, *held[slot]);
      scheduler.returned(*held[slot]);
    }
    held[slot] = scheduler.take(slot);
    if (held[slot] == 100U) begun = true;
    if (held[slot] && *held[slot] > 100 && !begun) ++after;
  }
  EXPECT_TRUE(begun);
  EXPECT_LE(after, 4 + 4);  // Those that may pass, and those that were begun at once.
}

TEST(Scheduler, ALeaseRemembersThatItWasShared) {
  Scheduler scheduler;
  scheduler.reset(problem_of({{1, 30 * kGib}, {1, 30 * kGib}, {1, 60 * kGib}}, 1, 3, false));
  std::size_t first = *scheduler.take(0);
  ASSERT_EQ(first, 0U);
  EXPECT_FALSE(scheduler.lease_of(0, first)->shared);
  std::size_t second = *scheduler.take(1);
  scheduler.finished(1, second);
  scheduler.returned(second);
  EXPECT_TRUE(scheduler.lease_of(0, first)->shared) << "by one that has ended";
  scheduler.finished(0, first);
  scheduler.returned(first);
  EXPECT_FALSE(scheduler.lease_of(2, *scheduler.take(2))->shared);
}

TEST(Pack, AnOrderThatWasTriedIsNeverWorseThanTheLongestFirstAndOftenBetter) {
  std::mt19937 random(5);
  int better = 0;
  for (int round = 0; round < 20; ++round) {
    std::vector<Packed> tests;
    for (int i = 0; i < 15; ++i) tests.push_back({1.0 + random() % 100, {1, (1 + random() % 60) * kGib}});
    std::vector<Device> devices(2, Device{80 * kGib});
    double first = makespan(tests, pack(tests, devices, 8, 0), devices, 8);
    std::vector<std::uint32_t> order = pack(tests, devices, 8, 500);
    double tried = makespan(tests, order, devices, 8);
    EXPECT_LE(tried, first);
    better += tried < first ? 1 : 0;
    EXPECT_EQ(std::set<std::uint32_t>(order.begin(), order.end()).size(), tests.size());
    EXPECT_EQ(order, pack(tests, devices, 8, 500));
  }
  EXPECT_GT(better, 10);
}

// Nothing is overbooked, every test is given out, and the end is reached: for tests in processes of their own and in workers,
// with failures that are judged again and devices that fall out.
class SchedulerAtRandom : public testing::TestWithParam<unsigned> {};

TEST_P(SchedulerAtRandom, EveryTestGetsWhatItAsksForAndNothingIsOverbooked) {
  std::mt19937 random(GetParam());
  auto below = [&](unsigned limit) { return random() % limit; };
  bool reuse = GetParam() % 2 == 1;
  const int slots = 1 + static_cast<int>(below(5));
  const std::size_t devices = 2 + below(3);
  std::vector<DeviceDemand> wanted;
  for (int i = 0; i < 60; ++i) {
    switch (below(4)) {
      case 0:
        wanted.push_back({});
        break;
      case 1:
        wanted.push_back({1});
        break;
      case 2:
        wanted.push_back({2});
        break;
      default:
        wanted.push_back({1, (1 + below(70)) * kGib});
        break;
    }
  }
  Scheduler scheduler;
  scheduler.reset(problem_of(wanted, devices, slots, reuse));
  std::vector<std::optional<std::size_t>> held(slots);
  std::vector<bool> worker(slots);
  std::set<std::size_t> done;
  std::set<std::size_t> repeated;
  for (int step = 0; step < 20000 && done.size() < wanted.size(); ++step) {
    auto slot = static_cast<int>(below(slots));
    if (held[slot]) {
      std::size_t task = *held[slot];
      scheduler.finished(slot, task);
      bool own = scheduler.has_own_lease(task);
      if (own) scheduler.returned(task);
      if (below(5) == 0 && repeated.insert(task).second) {
        scheduler.move_away(task, 1U << below(devices), below(2) == 0);
        scheduler.put_back(task, true);
      } else {
        done.insert(task);
      }
      held[slot].reset();
      if (below(10) == 0) worker[slot] = false;
    } else {
      if (!worker[slot]) {
        if (auto lease = scheduler.process_gone(slot)) scheduler.release(*lease);
      }
      held[slot] = scheduler.take(slot);
      if (!held[slot]) {
        worker[slot] = false;  // As the dispatcher does: its process holds what others may need.
      } else {
        worker[slot] = worker[slot] || scheduler.may_reuse(*held[slot]);
        const DeviceDemand& demand = scheduler.demand_of(*held[slot]).devices;
        const Lease* lease = scheduler.lease_of(slot, *held[slot]);
        ASSERT_EQ(lease != nullptr ? static_cast<int>(lease->devices.size()) : 0, demand.count);
      }
    }
    std::vector<std::uint64_t> booked(devices);
    std::vector<int> whole(devices);
    std::vector<int> users(devices);
    auto count = [&](const Lease* lease) {
      for (int device : lease != nullptr ? lease->devices : std::vector<int>()) {
        booked[device] += lease->memory;
        whole[device] += lease->memory == 0 ? 1 : 0;
        ++users[device];
      }
    };
    for (int i = 0; i < slots; ++i) {
      count(scheduler.kept_lease(i));
      if (held[i] && scheduler.has_own_lease(*held[i])) count(scheduler.lease_of(i, *held[i]));
    }
    for (std::size_t i = 0; i < devices; ++i) {
      ASSERT_TRUE(whole[i] == 0 || users[i] == 1) << "a whole device was shared";
      ASSERT_LE(booked[i], 80 * kGib);
      ASSERT_EQ(scheduler.devices().leases_of(static_cast<int>(i)), users[i]);
    }
  }
  EXPECT_EQ(done.size(), wanted.size()) << "somebody waits for ever";
}

INSTANTIATE_TEST_SUITE_P(Seeds, SchedulerAtRandom, testing::Range(0U, 60U));

}  // namespace
}  // namespace holdfast::plan
