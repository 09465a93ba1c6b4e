#include "inventory/cpus.h"

#include <gtest/gtest.h>
#include <sched.h>

namespace holdfast::inventory {
namespace {

TEST(Cpus, QuotaTexts) {
  EXPECT_EQ(cpus_of_quota("max 100000"), 0);
  EXPECT_EQ(cpus_of_quota("150000 100000"), 2);
  EXPECT_EQ(cpus_of_quota("200000 100000"), 2);
  EXPECT_EQ(cpus_of_quota("10000 100000"), 1);
  EXPECT_EQ(cpus_of_quota("-1 100000"), 0);
  EXPECT_EQ(cpus_of_quota(""), 0);
  EXPECT_EQ(cpus_of_quota("junk"), 0);
}

TEST(Cpus, AffinityCounts) {
  cpu_set_t before;
  ASSERT_EQ(sched_getaffinity(0, sizeof before, &before), 0);
  EXPECT_GE(usable_cpus(), 1);
  EXPECT_LE(usable_cpus(), CPU_COUNT(&before));
  cpu_set_t one;
  CPU_ZERO(&one);
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (CPU_ISSET(cpu, &before)) {
      CPU_SET(cpu, &one);
      break;
    }
  }
  ASSERT_EQ(sched_setaffinity(0, sizeof one, &one), 0);
  EXPECT_EQ(usable_cpus(), 1);
  ASSERT_EQ(sched_setaffinity(0, sizeof before, &before), 0);
}

TEST(CpuList, AsTheKernelWritesIt) {
  EXPECT_EQ(cpu_list("0-3,8"), (std::vector<int>{0, 1, 2, 3, 8}));
  EXPECT_EQ(cpu_list("5"), (std::vector<int>{5}));
  EXPECT_EQ(cpu_list(""), (std::vector<int>{}));
}

TEST(CpuList, EveryUsableCpuHasAPlace) {
  auto places = places_of_cpus();
  EXPECT_GE(static_cast<int>(places.size()), usable_cpus());
  for (const auto& [cpu, place] : places) EXPECT_LE(place.core, cpu);
}

}  // namespace
}  // namespace holdfast::inventory
