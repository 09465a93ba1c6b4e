// A shell in the launcher's place, and this process in that of the lenders: the real ones are in
// tests/e2e/test_mpi_launchers.py.
#include "mpi/launch.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <filesystem>
#include <fstream>
#include <memory>
#include <optional>

#include "os/passing.h"
#include "os/sys.h"

namespace holdfast::mpi {
namespace {

constexpr double kLimit = 10;  // Seconds.

class LaunchTest : public testing::Test {
 protected:
  LaunchTest() {
    std::string made = (std::filesystem::temp_directory_path() / "launch-test-XXXXXX").string();
    folder_ = ::mkdtemp(made.data());
  }
  ~LaunchTest() override {
    launch_.reset();
    while (::waitpid(-1, nullptr, 0) > 0) {
    }
    std::filesystem::remove_all(folder_);
  }
  LaunchTest(const LaunchTest&) = delete;
  LaunchTest& operator=(const LaunchTest&) = delete;

  /// The launcher says on which socket it is listened to, then does what `script` says. ($2: that name.)
  void launch(const std::string& script, int size) {
    LaunchCommand command;
    command.argv = {"/bin/sh", "-c", "echo $2 > " + folder_ + "/new; mv " + folder_ + "/new " + folder_ + "/name; " + script};
    command.environment = {{"GIVEN_BY_US", "{ranks}"}, {"ITS_FOLDER", "{folder}"}};
    launch_ = std::make_unique<Launch>(loop_, command, size,
                                       Launch::Host{[this](Manager::Begun begun) { begun_.emplace(std::move(begun)); },
                                                    [this] { lost_ = true; }, [this] { gone_ = true; }});
  }
  template <typename Condition>
  void run_until(Condition condition) {
    os::Time deadline = clock_.now() + os::seconds(kLimit);
    while (!condition() && clock_.now() < deadline) {
      loop_.call_after(os::seconds(0.005), [this] { loop_.stop(); });
      ASSERT_TRUE(loop_.run());
    }
    ASSERT_TRUE(condition());
  }
  void run_a_moment() {
    loop_.call_after(os::seconds(0.05), [this] { loop_.stop(); });
    ASSERT_TRUE(loop_.run());
  }
  os::Fd dial() {
    run_until([this] { return std::filesystem::exists(folder_ + "/name"); });
    std::string name;
    std::ifstream(folder_ + "/name") >> name;
    Result<os::Fd> fd = os::dial_name(name);
    EXPECT_TRUE(fd);
    return fd ? std::move(*fd) : os::Fd();
  }
  static void say(const os::Fd& fd, const nlohmann::json& frame, std::vector<os::Fd> passed = {}) {
    std::string bytes = wire::encode(frame.dump());
    ASSERT_EQ(os::send_with_fds(fd.get(), bytes.data(), bytes.size(), passed), static_cast<ssize_t>(bytes.size()));
  }
  os::Fd lend(int rank, std::vector<os::Fd> passed = {}) {
    os::Fd fd = dial();
    say(fd, {{"t", "lend"}, {"environment", {{"PMI_RANK", std::to_string(rank)}, {"GIVEN_BY_US", "{ranks}"}, {"PATH", "x"}}}},
        std::move(passed));
    return fd;
  }
  void expect_problem(const std::string& part) {
    run_until([this] { return begun_.has_value(); });
    EXPECT_NE(begun_->problem.find(part), std::string::npos) << begun_->problem;
  }

  os::SystemClock clock_;
  Result<os::Loop> opened_ = os::Loop::open(clock_);
  os::Loop& loop_ = *opened_;
  std::string folder_;
  std::unique_ptr<Launch> launch_;
  std::optional<Manager::Begun> begun_;
  bool lost_ = false, gone_ = false;
};

TEST_F(LaunchTest, RanksGetWhatTheLauncherHasGiven) {
  launch("exec sleep 100", 2);
  Result<std::pair<os::Fd, os::Fd>> socket = os::open_channel_pair();
  ASSERT_TRUE(socket);
  std::vector<os::Fd> passed;
  passed.push_back(std::move(socket->second));
  os::Fd one = lend(1, std::move(passed));
  run_a_moment();
  EXPECT_FALSE(begun_);
  passed.clear();
  passed.push_back(os::duplicate(socket->first));
  os::Fd zero = lend(0, std::move(passed));
  run_until([this] { return begun_.has_value(); });
  EXPECT_EQ(begun_->problem, "");
  ASSERT_EQ(begun_->environments.size(), 2U);
  // Not what it had from us, and not what every process has of its own.
  EXPECT_EQ(begun_->environments[0], (nlohmann::json{{"PMI_RANK", "0"}}));
  EXPECT_EQ(begun_->environments[1], (nlohmann::json{{"PMI_RANK", "1"}}));
  ASSERT_EQ(begun_->sockets.size(), 2U);
  ASSERT_EQ(::send(begun_->sockets[1].get(), "x", 1, MSG_NOSIGNAL), 1);
  char byte = 0;
  EXPECT_EQ(::recv(socket->first.get(), &byte, 1, 0), 1);
}

TEST_F(LaunchTest, LendersAreToldOfTheEnd) {
  launch("while [ ! -e " + folder_ + "/over ]; do sleep 0.01; done", 1);
  os::Fd zero = lend(0);
  run_until([this] { return begun_.has_value(); });
  launch_->end();
  char byte = 0;
  EXPECT_EQ(::recv(zero.get(), &byte, 1, 0), 1);
  std::ofstream(folder_ + "/over") << "x";
  run_until([this] { return gone_; });
  EXPECT_FALSE(lost_);
}

TEST_F(LaunchTest, ALauncherThatEndsItsProcessesHasLostItsRanks) {
  launch("exec sleep 100", 1);
  os::Fd zero = lend(0);
  run_until([this] { return begun_.has_value(); });
  EXPECT_FALSE(lost_);
  zero.reset();
  run_until([this] { return lost_; });
  launch_->end();
  run_until([this] { return gone_; });
}

TEST_F(LaunchTest, ALauncherThatDiesHasLostItsRanksAndItsWordsAreKept) {
  launch("while [ ! -e " + folder_ + "/over ]; do sleep 0.01; done; echo it was all too much; exit 3", 1);
  os::Fd zero = lend(0);
  run_until([this] { return begun_.has_value(); });
  std::optional<std::string> words;
  ASSERT_TRUE(launch_->explain([&](const std::string& said) { words = said; }));
  std::ofstream(folder_ + "/over") << "x";
  run_until([&] { return lost_ && words.has_value(); });
  EXPECT_NE(words->find("it was all too much"), std::string::npos);
  EXPECT_TRUE(launch_->gone());
}

TEST_F(LaunchTest, OneThatHasNothingToSayIsNotWaitedForLong) {
  launch("exec sleep 100", 1);
  os::Fd zero = lend(0);
  run_until([this] { return begun_.has_value(); });
  std::optional<std::string> words;
  ASSERT_TRUE(launch_->explain([&](const std::string& said) { words = said; }));
  run_until([&] { return words.has_value(); });
  EXPECT_EQ(*words, "");
}

TEST_F(LaunchTest, OneThatEndsAtOnceSaysWhy) {
  launch("echo there are not enough slots >&2; exit 1", 2);
  expect_problem("sh has ended without having started 2 rank(s); it has said:\nthere are not enough slots");
}

TEST_F(LaunchTest, OfOneThatPrintsWithoutEndTheLastWordsAreKept) {
  launch("head -c 1000000 /dev/zero | tr '\\0' x; echo; echo the end", 1);
  expect_problem("xxx\nthe end");
  EXPECT_LT(begun_->problem.size(), 5000U);
}

TEST_F(LaunchTest, AProgramThatIsNotThere) {
  LaunchCommand command;
  command.argv = {"/nonexistent/mpirun"};
  launch_ = std::make_unique<Launch>(
      loop_, command, 1, Launch::Host{[this](Manager::Begun begun) { begun_.emplace(std::move(begun)); }, [] {}, [] {}});
  expect_problem("mpirun has ended without having started 1 rank(s)");
}

TEST_F(LaunchTest, ItsFolderIsItsOwnAndGoesWithIt) {
  launch("echo $ITS_FOLDER > " + folder_ + "/its; touch $ITS_FOLDER/left; exec sleep 100", 1);
  os::Fd zero = lend(0);
  run_until([this] { return begun_.has_value() && std::filesystem::exists(folder_ + "/its"); });
  std::string its;
  std::ifstream(folder_ + "/its") >> its;
  run_until([&its] { return std::filesystem::exists(its + "/left"); });
  EXPECT_EQ(std::filesystem::status(its).permissions(), std::filesystem::perms::owner_all);
  launch_.reset();
  EXPECT_FALSE(std::filesystem::exists(its));
}

TEST_F(LaunchTest, WhereNoFolderCanBeMadeItSaysSo) {
  std::string before = ::getenv("TMPDIR") == nullptr ? "" : ::getenv("TMPDIR");
  ::setenv("TMPDIR", (folder_ + "/missing").c_str(), 1);
  launch("exec sleep 100", 1);
  before.empty() ? ::unsetenv("TMPDIR") : ::setenv("TMPDIR", before.c_str(), 1);
  expect_problem("failed to find the temporary directory: ");
}

TEST_F(LaunchTest, TwoProcessesOfTheSameRankAreRefused) {
  launch("exec sleep 100", 2);
  os::Fd first = lend(1);
  os::Fd second = lend(1);
  expect_problem("does not say which of 2 rank(s) it is");
}

TEST_F(LaunchTest, WhatIsNoLenderIsRefused) {
  for (const nlohmann::json& frame :
       {nlohmann::json{{"t", "lend"}}, nlohmann::json{{"environment", 3}}, nlohmann::json::array(),
        nlohmann::json{{"environment", {{"PMI_RANK", "-1"}}}}, nlohmann::json{{"environment", {{"PMI_RANK", "2"}}}},
        nlohmann::json{{"environment", {{"PMI_RANK", 0}}}}}) {
    begun_.reset();
    std::filesystem::remove(folder_ + "/name");
    launch("exec sleep 100", 2);
    os::Fd fd = dial();
    say(fd, frame);
    expect_problem("does not say which of 2 rank(s) it is");
  }
}

TEST_F(LaunchTest, WhoDialsAndHangsUpIsNobody) {
  launch("exec sleep 100", 1);
  dial().reset();
  run_a_moment();
  EXPECT_FALSE(begun_);
  os::Fd zero = lend(0);
  run_until([this] { return begun_.has_value(); });
  EXPECT_EQ(begun_->problem, "");
  EXPECT_FALSE(lost_);
}

TEST(LaunchRank, TheFirstVariableCounts) {
  EXPECT_EQ(rank_in({{"PMIX_RANK", "3"}, {"SLURM_PROCID", "0"}}), 3);
  EXPECT_EQ(rank_in({{"OMPI_COMM_WORLD_RANK", "2"}}), 2);
  EXPECT_EQ(rank_in({{"PMI_RANK", "1x"}}), -1);
  EXPECT_EQ(rank_in(nlohmann::json::object()), -1);
}

}  // namespace
}  // namespace holdfast::mpi
