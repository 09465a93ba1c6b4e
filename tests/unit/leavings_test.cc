#include "run/leavings.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/shm.h>
#include <sys/stat.h>
#include <unistd.h>

#include <chrono>
#include <cstring>
#include <filesystem>
#include <fstream>

namespace holdfast::run {
namespace {

struct Leavings : testing::Test {
  std::string folder;
  std::string trail = std::string(8, '\0');
  double now = static_cast<double>(std::chrono::system_clock::to_time_t(std::chrono::system_clock::now()));

  void SetUp() override {
    char name[] = "/tmp/holdfast-leavings-XXXXXX";
    folder = ::mkdtemp(name);
  }
  void TearDown() override { std::filesystem::remove_all(folder); }
  void note(char kind, const std::string& path) {
    trail += kind + path + '\0';
    auto used = static_cast<std::uint32_t>(trail.size() - 8);
    std::memcpy(trail.data(), &used, sizeof used);
  }
  std::vector<std::string> clear(double began) const {
    std::vector<std::string> texts;
    for (const Leak& leak : clear_leavings(trail, 0, began)) texts.push_back(leak.text);
    return texts;
  }
};

TEST_F(Leavings, RemovesWhatHasNoNameThatSomebodyChoseAndLeavesTheRest) {
  std::filesystem::create_directories(folder + "/temporary/below");
  std::ofstream(folder + "/temporary/below/file") << "x";
  std::ofstream(folder + "/chosen") << "abc";
  note('o', folder + "/temporary");
  note('t', folder + "/temporary");
  note('o', folder + "/chosen");
  note('t', folder + "/gone");
  EXPECT_EQ(clear(now), (std::vector<std::string>{"file " + folder + "/chosen, 3 bytes (not removed)",
                                                  "temporary directory " + folder + "/temporary"}));
  EXPECT_FALSE(std::filesystem::exists(folder + "/temporary"));
  EXPECT_TRUE(std::filesystem::exists(folder + "/chosen"));
}

TEST_F(Leavings, BelievesNothingThatIsOlderThanTheTest) {
  std::ofstream(folder + "/old") << "x";
  note('t', folder + "/old");
  EXPECT_TRUE(clear(now + 60).empty());
  EXPECT_TRUE(std::filesystem::exists(folder + "/old"));
}

TEST_F(Leavings, TakesOnlyNamesOfDevShmForSharedMemory) {
  std::ofstream(folder + "/file") << "x";
  note('s', folder + "/file");
  note('s', "/dev/shm/../.." + folder + "/file");
  EXPECT_TRUE(clear(now).empty());
  EXPECT_TRUE(std::filesystem::exists(folder + "/file"));
}

TEST_F(Leavings, SurvivesATrailThatWasScribbledOn) {
  for (std::uint32_t used : {0xffffffffU, 60000U, 1U}) {
    std::string scribbled(60000, '\xff');
    std::memcpy(scribbled.data(), &used, sizeof used);
    EXPECT_TRUE(clear_leavings(scribbled, 0, now).empty());
  }
  EXPECT_TRUE(clear_leavings("", 0, now).empty());
}

TEST_F(Leavings, RemovesSegmentsOfTheProcess) {
  int id = ::shmget(IPC_PRIVATE, 4096, IPC_CREAT | 0600);
  ASSERT_GE(id, 0);
  EXPECT_TRUE(clear_leavings(trail, ::getpid() + 1, now).empty());
  auto found = clear_leavings(trail, ::getpid(), now);
  ASSERT_EQ(found.size(), 1U);
  EXPECT_EQ(found[0].kind, "sysv");
  EXPECT_LT(::shmctl(id, IPC_STAT, nullptr), 0);
}

}  // namespace
}  // namespace holdfast::run
