#include "run/outbox.h"

#include <gtest/gtest.h>

#include "fake_clock.h"

namespace holdfast::run {
namespace {

using Tests = std::vector<std::int64_t>;

struct OutboxTest : testing::Test {
  os::FakeClock clock;
  os::Loop loop = os::Loop::open(clock).value();
  bool works = true;
  int commits = 0;
  Tests shown, lost;
  Outbox outbox{
      loop,
      {[this] {
         ++commits;
         return works;
       },
       [this](const News& news) { shown.push_back(news.test); }, [this](const News& news) { lost.push_back(news.test); }}};
  void add(std::int64_t test) {
    News news;
    news.test = test;
    outbox.add(std::move(news));
  }
};

TEST_F(OutboxTest, NothingIsShownBeforeItIsDelivered) {
  add(1);
  EXPECT_TRUE(outbox.commit());
  EXPECT_TRUE(shown.empty());
  add(2);
  EXPECT_TRUE(outbox.deliver());
  EXPECT_EQ(shown, (Tests{1, 2}));
  EXPECT_TRUE(outbox.deliver());
  EXPECT_EQ(shown, (Tests{1, 2}));
}

TEST_F(OutboxTest, WhatIsNotKeptIsNotShownAndWhatIsKeptIs) {
  add(1);
  EXPECT_TRUE(outbox.commit());
  add(2);
  works = false;
  EXPECT_FALSE(outbox.commit());
  EXPECT_EQ(lost, Tests{2});
  EXPECT_FALSE(outbox.deliver());
  EXPECT_EQ(shown, Tests{1});
  EXPECT_EQ(lost, Tests{2});
}

TEST_F(OutboxTest, ManyShareADelivery) {
  for (std::int64_t test : {1, 2, 3}) {
    add(test);
    outbox.deliver_soon();
  }
  EXPECT_EQ(commits, 0);
  loop.call_after(os::seconds(0.2), [this] { loop.stop(); });
  clock.time += os::seconds(1);
  ASSERT_TRUE(loop.run());
  EXPECT_EQ(commits, 1);
  EXPECT_EQ(shown, (Tests{1, 2, 3}));
}

}  // namespace
}  // namespace holdfast::run
