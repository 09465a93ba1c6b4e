#include "plan/queue.h"

#include <gtest/gtest.h>

#include <random>
#include <set>

namespace holdfast::plan {
namespace {

TEST(Queue, GivesTestsInCollectionOrderAndThenNothing) {
  Queue queue;
  queue.reset(3);
  EXPECT_EQ(queue.take(), 0U);
  EXPECT_EQ(queue.take(), 1U);
  EXPECT_EQ(queue.take(), 2U);
  EXPECT_EQ(queue.take(), std::nullopt);
  EXPECT_TRUE(queue.empty());
}

TEST(Queue, SkipsSettledTests) {
  Queue queue;
  queue.reset(4);
  queue.settle(0);
  queue.settle(2);
  queue.settle(2);
  EXPECT_EQ(queue.waiting(), 2U);
  EXPECT_EQ(queue.take(), 1U);
  EXPECT_EQ(queue.take(), 3U);
}

TEST(Queue, ReturnedTestsComeFirst) {
  Queue queue;
  queue.reset(3);
  EXPECT_EQ(queue.take(), 0U);
  EXPECT_EQ(queue.take(), 1U);
  queue.put_back(0);
  EXPECT_EQ(queue.take(), 0U);
  EXPECT_EQ(queue.take(), 2U);
}

// Whatever is asked of it in whatever order, no test is out twice at a time and none is lost.
TEST(Queue, NeverLosesOrDoublesATest) {
  std::mt19937 random(20261121);
  for (int round = 0; round < 200; ++round) {
    Queue queue;
    std::size_t size = random() % 20;
    queue.reset(size);
    std::set<std::size_t> out;
    std::set<std::size_t> settled;
    for (int step = 0; step < 100; ++step) {
      std::size_t test = size == 0 ? 0 : random() % size;
      switch (random() % 3) {
        case 0:
          if (auto taken = queue.take()) {
            ASSERT_TRUE(out.insert(*taken).second) << "given out twice";
            ASSERT_EQ(settled.count(*taken), 0U);
          }
          break;
        case 1:
          if (out.erase(test) != 0) queue.put_back(test);
          break;
        default:
          if (size != 0 && out.count(test) == 0) {
            queue.settle(test);
            settled.insert(test);
          }
      }
      ASSERT_EQ(queue.waiting() + out.size() + settled.size(), size);
    }
    while (auto taken = queue.take()) out.insert(*taken);
    ASSERT_EQ(out.size() + settled.size(), size);
  }
}

}  // namespace
}  // namespace holdfast::plan
