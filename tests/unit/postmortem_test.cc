#include "run/postmortem.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>

namespace holdfast::run {
namespace {

struct PostmortemTest : testing::Test {
  os::SystemClock clock;
  os::Loop loop = os::Loop::open(clock).value();
  Postmortem postmortem{loop};
  os::Fd stacks = os::open_memfd("stacks", 0).value();

  wire::Json look(const std::string& script) {
    wire::Json found;
    postmortem.start(Examiner{{"/bin/sh", "-c", script, "sh"}, {}, "/"}, {7, 8}, stacks.get(), [&](wire::Json processes) {
      found = std::move(processes);
      loop.stop();
    });
    EXPECT_TRUE(loop.run());
    while (::waitpid(-1, nullptr, 0) > 0) {
    }
    return found;
  }
};

TEST_F(PostmortemTest, TheLastWordOnAProcessCounts) {
  auto found = look(R"(echo '{"pid":7,"state":"S"}'; echo '{"pid":8}'; echo '{"pid":7,"state":"T"}'; printf '{"pid":9,')");
  EXPECT_EQ(found, wire::Json::parse(R"([{"pid":7,"state":"T"},{"pid":8}])"));
}

TEST_F(PostmortemTest, HandsOverTheProcessesAndTheFileForStacks) {
  auto found = look(R"(echo "{\"pid\":1,\"told\":\"$*\"}"; echo word >&3)");
  EXPECT_EQ(found[0]["told"], "--stacks-fd 3 --asked 7 7 8");
  EXPECT_EQ(os::read_tail(stacks.get(), 100), "word\n");
}

TEST_F(PostmortemTest, TakesWhatIsThereWhenItsTimeIsOver) {
  double began = os::to_seconds(clock.now().time_since_epoch());
  auto found = look(R"(echo '{"pid":7}'; exec sleep 3600)");
  EXPECT_EQ(found.size(), 1U);
  EXPECT_LT(os::to_seconds(clock.now().time_since_epoch()) - began, 20);
}

TEST_F(PostmortemTest, SaysNothingWithoutAProgram) {
  wire::Json found;
  postmortem.start(Examiner{}, {7}, stacks.get(), [&](wire::Json processes) {
    found = std::move(processes);
    loop.stop();
  });
  EXPECT_TRUE(postmortem.looks());
  ASSERT_TRUE(loop.run());
  EXPECT_TRUE(found.empty());
  EXPECT_FALSE(postmortem.looks());
}

}  // namespace
}  // namespace holdfast::run
