#include "run/usage.h"

#include <gtest/gtest.h>
#include <unistd.h>

namespace holdfast::run {
namespace {

TEST(Usage, KeepsAtMostSixtyLooksAndAllOfTheTime) {
  Usage usage;
  for (int i = 0; i < 1000; ++i) usage.add({static_cast<double>(i), 0, 1, 1, 1, 1});
  auto samples = usage.describe()["samples"];
  EXPECT_LE(samples.size(), 60U);
  EXPECT_GE(samples.size(), 30U);
  EXPECT_EQ(samples.front()[0], 0.0);
  EXPECT_GT(samples.back()[0].get<double>(), 900);
  EXPECT_GE(usage.interval(), 8);
}

TEST(Usage, KnowsTheMostAtOneTime) {
  Usage usage;
  EXPECT_FALSE(usage.describe().contains("threads")) << "nobody has looked";
  usage.add({0.5, 0.1, 100, 2, 9, 5});
  usage.add({1.0, 0.2, 300, 1, 3, 8});
  auto described = usage.describe();
  EXPECT_EQ(described["processes"], 2);
  EXPECT_EQ(described["threads"], 9);
  EXPECT_EQ(described["files"], 8);
  EXPECT_EQ(described["memory"], 300);
}

TEST(Usage, LooksAtARealProcess) {
  Sample sample = look(::getpid());
  EXPECT_GE(sample.processes, 1);
  EXPECT_GE(sample.threads, 1);
  EXPECT_GE(sample.files, 3);
  EXPECT_GT(sample.memory, 1U << 20U);
  EXPECT_EQ(look(0x7ffffff0).processes, 0);
}

}  // namespace
}  // namespace holdfast::run
