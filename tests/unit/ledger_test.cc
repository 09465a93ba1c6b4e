#include "journal/ledger.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

namespace holdfast::journal {
namespace {

struct LedgerTest : testing::Test {
  std::filesystem::path dir = std::filesystem::temp_directory_path() / ("holdfast-ledger-" + std::to_string(getpid()));
  std::string path = (dir / "j.db").string();
  void SetUp() override { std::filesystem::create_directories(dir); }
  void TearDown() override { std::filesystem::remove_all(dir); }

  static Record record(std::int64_t test, const char* verdict) {
    Record r;
    r.test = test;
    r.verdict = verdict;
    r.reports = "[1]";
    return r;
  }
  static std::vector<std::string> finished(Ledger& ledger) {
    std::vector<std::string> found;
    EXPECT_TRUE(ledger.for_each_record(
        [&found](const std::string& id, const Record& r) { found.push_back(id + "=" + r.verdict + r.reports); }));
    return found;
  }
};

TEST_F(LedgerTest, KeepsVerdictsForAResumedRun) {
  {
    auto ledger = Ledger::open(path, false).value();
    ASSERT_TRUE(ledger->add_tests({"a", "b", "c"}));
    ASSERT_TRUE(ledger->start_attempt(0, 1, 0, 1.0));
    ASSERT_TRUE(ledger->finish_attempt(record(0, "passed"), 2.0));
    ASSERT_TRUE(ledger->start_attempt(1, 1, 1, 1.5));
  }
  auto ledger = Ledger::open(path, true).value();
  ASSERT_TRUE(ledger->add_tests({"a", "b", "c"}));
  EXPECT_EQ(finished(*ledger), std::vector<std::string>{"a=passed[1]"});
}

TEST_F(LedgerTest, HalfASuiteIsNotKept) {
  {
    auto ledger = Ledger::open(path, false).value();
    ASSERT_TRUE(ledger->note_tests({"a", "b"}));
    ASSERT_TRUE(ledger->commit());
  }
  auto ledger = Ledger::open(path, true).value();
  ASSERT_TRUE(ledger->add_tests({"other"}));
}

TEST_F(LedgerTest, ACollectionThatBeginsAnewReplacesTheFirst) {
  {
    auto ledger = Ledger::open(path, false).value();
    ASSERT_TRUE(ledger->note_tests({"a", "b"}));
    ASSERT_TRUE(ledger->forget_tests());
    ASSERT_TRUE(ledger->note_tests({"b"}));
    ASSERT_TRUE(ledger->add_tests({"b", "c"}));
  }
  auto ledger = Ledger::open(path, true).value();
  ASSERT_TRUE(ledger->add_tests({"b", "c"}));
}

TEST_F(LedgerTest, ATestHasOneVerdict) {
  auto ledger = Ledger::open(path, false).value();
  ASSERT_TRUE(ledger->add_tests({"a"}));
  for (const char* verdict : {"failed", "passed"}) {
    ASSERT_TRUE(ledger->start_attempt(0, 1, 0, 1.0));
    ASSERT_TRUE(ledger->finish_attempt(record(0, verdict), 2.0));
  }
  EXPECT_EQ(finished(*ledger), std::vector<std::string>{"a=failed[1]"});
}

TEST_F(LedgerTest, SurvivesKillOfItsWriter) {
  pid_t child = ::fork();
  if (child == 0) {
    auto ledger = Ledger::open(path, false).value();
    [[maybe_unused]] auto added = ledger->add_tests({"a", "b"});
    [[maybe_unused]] auto started = ledger->start_attempt(0, 1, 0, 1.0);
    [[maybe_unused]] auto finished = ledger->finish_attempt(record(0, "crashed"), 2.0);
    [[maybe_unused]] auto committed = ledger->commit();
    [[maybe_unused]] auto too_late = ledger->finish_attempt(record(1, "passed"), 2.0);
    ::raise(SIGKILL);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFSIGNALED(status));
  auto ledger = Ledger::open(path, true).value();
  EXPECT_EQ(finished(*ledger), std::vector<std::string>{"a=crashed[1]"});
}

TEST_F(LedgerTest, ExtraTestsAreNumberedApart) {
  auto ledger = Ledger::open(path, false).value();
  ASSERT_TRUE(ledger->add_tests({"a"}));
  std::int64_t first = ledger->add_extra_test("mod.py").value();
  std::int64_t second = ledger->add_extra_test("other.py").value();
  EXPECT_GT(first, 1'000'000);
  EXPECT_EQ(second, first + 1);
}

TEST_F(LedgerTest, RefusesAnotherSuite) {
  {
    auto ledger = Ledger::open(path, false).value();
    ASSERT_TRUE(ledger->add_tests({"a", "b"}));
  }
  for (const std::vector<std::string>& other : std::vector<std::vector<std::string>>{{"a"}, {"a", "x"}, {"a", "b", "c"}}) {
    auto ledger = Ledger::open(path, true).value();
    Status status = ledger->add_tests(other);
    ASSERT_FALSE(status);
    EXPECT_EQ(status.error().kind, ErrorKind::UserMistake);
    EXPECT_NE(status.error().message().find("another suite"), std::string::npos);
  }
}

TEST_F(LedgerTest, OneWriterAtATime) {
  auto first = Ledger::open(path, false).value();
  auto second = Ledger::open(path, false);
  ASSERT_FALSE(second);
  EXPECT_NE(second.error().message().find("another run is writing it"), std::string::npos);
}

TEST_F(LedgerTest, LeavesForeignFilesAlone) {
  std::ofstream(path) << "precious, and long enough to be looked at";
  auto ledger = Ledger::open(path, false);
  ASSERT_FALSE(ledger);
  EXPECT_EQ(ledger.error().kind, ErrorKind::UserMistake);
  EXPECT_EQ(std::filesystem::file_size(path), 41U);
}

TEST_F(LedgerTest, KeepsThePreviousLedgerAside) {
  {
    auto ledger = Ledger::open(path, false).value();
  }
  {
    auto ledger = Ledger::open(path, false).value();
  }
  EXPECT_TRUE(std::filesystem::exists(path + ".1"));
}

TEST_F(LedgerTest, NothingToResume) {
  auto ledger = Ledger::open(path, true);
  ASSERT_FALSE(ledger);
  EXPECT_NE(ledger.error().message().find("there is no ledger in it"), std::string::npos);
}

}  // namespace
}  // namespace holdfast::journal
