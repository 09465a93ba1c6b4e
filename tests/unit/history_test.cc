#include "journal/history.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

namespace holdfast::journal {
namespace {

struct HistoryTest : testing::Test {
  std::filesystem::path folder =
      std::filesystem::path(testing::TempDir()) /
      ("history-" + std::to_string(::getpid()) + "-" + testing::UnitTest::GetInstance()->current_test_info()->name());
  std::string path = (folder / "history.db").string();
  std::string notice;
  void SetUp() override { std::filesystem::create_directories(folder); }
  void TearDown() override { std::filesystem::remove_all(folder); }
  std::unordered_map<std::string, Known> add(double duration, std::uint64_t memory) {
    History history = History::open(path, notice);
    history.add(PastRun{1, 2, 2}, {{"a", "passed", "[]", duration, memory}, {"b", "failed", "[\"leaked\"]", 3, 0}}, notice);
    return history.load(notice);
  }
};

TEST_F(HistoryTest, BringsVersionOneUpToDate) {
  {
    Database old = Database::open(path).value();
    ASSERT_TRUE(old.execute(
        "PRAGMA application_id=1212565577; PRAGMA user_version=1;"
        "CREATE TABLE runs(run INTEGER PRIMARY KEY, started REAL NOT NULL, seconds REAL NOT NULL, slots INTEGER NOT NULL, tests"
        " INTEGER NOT NULL) STRICT;"
        "CREATE TABLE tests(test INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, duration REAL NOT NULL, memory INTEGER NOT NULL,"
        " runs INTEGER NOT NULL) STRICT;"
        "CREATE TABLE results(run INTEGER NOT NULL, test INTEGER NOT NULL, verdict TEXT NOT NULL, notes TEXT NOT NULL, duration"
        " REAL NOT NULL, memory INTEGER NOT NULL, PRIMARY KEY(run, test)) STRICT, WITHOUT ROWID;"
        "INSERT INTO tests VALUES(1, 'a', 4.0, 7, 1)"));
  }
  auto known = add(2.0, 500);
  EXPECT_EQ(notice, "");
  EXPECT_DOUBLE_EQ(known.at("a").duration, 3.0);
  Database now = Database::open(path).value();
  EXPECT_EQ(now.pragma("user_version").value(), kHistoryVersion);
}

TEST_F(HistoryTest, KnowsWhatDiedWhenItWasRunLast) {
  auto run = [&](const std::string& verdict) {
    History history = History::open(path, notice);
    history.add(PastRun{1, 2, 2}, {{"a", verdict, "[]", 1, 0}, {"b", "passed", "[]", 1, 0}}, notice);
    return history.load(notice);
  };
  EXPECT_FALSE(run("failed").at("a").died);
  auto known = run("crashed");
  EXPECT_TRUE(known.at("a").died);
  EXPECT_FALSE(known.at("b").died);
  EXPECT_FALSE(run("passed").at("a").died);
}

TEST_F(HistoryTest, RemembersAndAverages) {
  add(1.0, 1000);
  auto known = add(2.0, 500);
  EXPECT_EQ(notice, "");
  EXPECT_DOUBLE_EQ(known.at("a").duration, 1.5);
  EXPECT_EQ(known.at("a").memory, 900U);  // The peak fades slowly.
  EXPECT_DOUBLE_EQ(known.at("b").duration, 3);
}

TEST_F(HistoryTest, ForgetsSingleResultsOfOldRuns) {
  for (int i = 0; i < kRunsKept + 5; ++i) add(1, 1);
  Database db = Database::open(path).value();
  Statement count =
      db.prepare("SELECT count(*), (SELECT count(*) FROM runs), (SELECT runs FROM tests WHERE id='a') FROM results").value();
  ASSERT_TRUE(count.step().value());
  EXPECT_EQ(count.integer(0), 2 * kRunsKept);
  EXPECT_EQ(count.integer(1), kRunsKept);
  EXPECT_EQ(count.integer(2), kRunsKept + 5);
}

TEST_F(HistoryTest, ABrokenFileIsMovedAside) {
  std::ofstream(path)
      << "this is no database, and long enough to be read as the header of one, which takes a hundred bytes or more.....";
  auto known = add(1, 1);
  EXPECT_EQ(known.size(), 2U);
  EXPECT_NE(notice.find("history.db.broken"), std::string::npos);
  EXPECT_TRUE(std::filesystem::exists(path + ".broken"));
}

TEST_F(HistoryTest, AnotherProgramsDatabaseIsMovedAsideWhole) {
  ASSERT_TRUE(Database::open(path).value().execute("CREATE TABLE theirs(x); INSERT INTO theirs VALUES(1)"));
  add(1, 1);
  Statement theirs = Database::open(path + ".broken").value().prepare("SELECT x FROM theirs").value();
  EXPECT_TRUE(theirs.step().value());
}

TEST_F(HistoryTest, WithoutAPathNothingIsKept) {
  History history = History::open("", notice);
  history.add(PastRun{}, {{"a", "passed", "[]", 1, 1}}, notice);
  EXPECT_TRUE(history.load(notice).empty());
  EXPECT_EQ(notice, "");
}

TEST_F(HistoryTest, AFolderThatIsNotThereIsSaid) {
  History history = History::open("/nonexistent/history.db", notice);
  EXPECT_TRUE(history.load(notice).empty());
  EXPECT_NE(notice.find("does without it"), std::string::npos);
}

TEST_F(HistoryTest, TwoRunsAtOnceBothGetIn) {
  History one = History::open(path, notice);
  History two = History::open(path, notice);
  one.add(PastRun{}, {{"a", "passed", "[]", 1, 1}}, notice);
  two.add(PastRun{}, {{"a", "passed", "[]", 1, 1}}, notice);
  EXPECT_EQ(notice, "");
  EXPECT_EQ(one.load(notice).size(), 1U);
}

}  // namespace
}  // namespace holdfast::journal
