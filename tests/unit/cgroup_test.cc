#include "os/cgroup.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "os/sys.h"

namespace holdfast::os {
namespace {

TEST(Cgroup, KillsWhatIsInItAndIsRemoved) {
  std::string path;
  {
    Cgroup group = Cgroup::create();
    if (!group.usable()) GTEST_SKIP() << "CGROUPS ARE NOT TESTED: no v2 group with cgroup.kill can be made here";
    path = group.path();
    Cgroup slot = group.create_child("slot-0");
    ASSERT_TRUE(slot.usable());
    pid_t child = spawn({"/bin/sleep", "3600"}, {}, "/", {}).value();
    ASSERT_TRUE(slot.add(child));
    ASSERT_TRUE(slot.kill_all());
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    EXPECT_EQ(WTERMSIG(status), SIGKILL);
  }
  EXPECT_NE(::access(path.c_str(), F_OK), 0);
}

TEST(Cgroup, AnEmptyOneDoesNothing) {
  Cgroup none;
  EXPECT_FALSE(none.usable());
  EXPECT_FALSE(none.add(::getpid()));
  EXPECT_FALSE(none.kill_all());
  EXPECT_FALSE(none.create_child("x").usable());
}

}  // namespace
}  // namespace holdfast::os
