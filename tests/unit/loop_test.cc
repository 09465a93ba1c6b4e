#include "os/loop.h"

#include <gtest/gtest.h>
#include <sys/epoll.h>

#include "fake_clock.h"
#include "os/sys.h"

namespace holdfast::os {
namespace {

struct LoopTest : testing::Test {
  FakeClock clock;
  Loop loop = Loop::open(clock).value();
};

TEST_F(LoopTest, TimersFireInOrderOfTheirTimes) {
  std::string order;
  loop.call_after(seconds(0.2), [&] { order += "b"; });
  loop.call_after(seconds(0.1), [&] { order += "a"; });
  loop.call_after(seconds(0.3), [&] {
    order += "c";
    loop.stop();
  });
  clock.time += seconds(1);
  ASSERT_TRUE(loop.run());
  EXPECT_EQ(order, "abc");
}

TEST_F(LoopTest, ACancelledTimerDoesNotFire) {
  bool fired = false;
  TimerId id = loop.call_after(seconds(0.1), [&] { fired = true; });
  loop.cancel(id);
  loop.cancel(id);
  loop.call_after(seconds(0.2), [&] { loop.stop(); });
  clock.time += seconds(1);
  ASSERT_TRUE(loop.run());
  EXPECT_FALSE(fired);
}

TEST_F(LoopTest, ATimerMayCancelItsSuccessor) {
  bool fired = false;
  TimerId later = 0;
  loop.call_after(seconds(0.1), [&] {
    loop.cancel(later);
    loop.stop();
  });
  later = loop.call_after(seconds(0.2), [&] { fired = true; });
  clock.time += seconds(1);
  ASSERT_TRUE(loop.run());
  EXPECT_FALSE(fired);
}

TEST_F(LoopTest, AStaleEventOfAReusedDescriptorIsDropped) {
  auto first = open_pipe().value();
  auto second = open_pipe().value();
  ASSERT_EQ(::write(first.second.get(), "x", 1), 1);
  ASSERT_EQ(::write(second.second.get(), "x", 1), 1);
  int calls = 0;
  // Both are ready in one batch. Whichever comes first unwatches the other and watches its number anew.
  auto watch_again = [&](int other) {
    ++calls;
    loop.unwatch(first.first.get());
    loop.unwatch(second.first.get());
    ASSERT_TRUE(loop.watch(other, EPOLLPRI, [&](std::uint32_t) { FAIL() << "an event of the earlier registration"; }));
    loop.call_after({}, [&] { loop.stop(); });
  };
  ASSERT_TRUE(loop.watch(first.first.get(), EPOLLIN, [&](std::uint32_t) { watch_again(second.first.get()); }));
  ASSERT_TRUE(loop.watch(second.first.get(), EPOLLIN, [&](std::uint32_t) { watch_again(first.first.get()); }));
  ASSERT_TRUE(loop.run());
  EXPECT_EQ(calls, 1);
}

}  // namespace
}  // namespace holdfast::os
