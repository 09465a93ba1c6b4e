#include "serve/undo_log.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "serve/undo.h"

namespace holdfast::serve {
namespace {

class UndoLogTest : public ::testing::Test {
 protected:
  UndoLogTest() { std::filesystem::remove_all(path_); }
  ~UndoLogTest() override {
    for (const char* suffix : {"", "-wal", "-shm"}) std::filesystem::remove(path_ + suffix);
  }
  const std::string path_ = ::testing::TempDir() + "undo-" + std::to_string(::getpid()) + ".db";
};

Change change(const std::string& fault) {
  return {0, fault, "me", "a change", {{"do", "nothing"}, {"why", "a test"}}, 1.5, 2.5};
}

TEST_F(UndoLogTest, GivesBackWhatIsOpenTheLatestFirst) {
  Result<UndoLog> log = UndoLog::open(path_);
  ASSERT_TRUE(log) << log.error().message();
  Result<std::int64_t> first = log->note(change("a"));
  ASSERT_TRUE(first && log->note(change("b")) && log->note(change("c")));
  ASSERT_TRUE(log->settle(*first + 1, "done"));
  Result<std::vector<Change>> open = log->open_changes();
  ASSERT_TRUE(open);
  ASSERT_EQ(open->size(), 2U);
  EXPECT_EQ((*open)[0].fault, "c");
  EXPECT_EQ((*open)[1].fault, "a");
  EXPECT_EQ((*open)[1].undo["why"], "a test");
  EXPECT_EQ((*open)[1].expires, 2.5);
}

// As if the service were killed: nothing is closed, and somebody else opens the file.
TEST_F(UndoLogTest, IsOnDiskWhenItIsNoted) {
  Result<UndoLog> log = UndoLog::open(path_);
  ASSERT_TRUE(log && log->note(change("a")));
  Result<UndoLog> other = UndoLog::open(path_);
  ASSERT_TRUE(other);
  EXPECT_EQ(other->open_changes()->size(), 1U);
}

TEST_F(UndoLogTest, RefusesAFileOfALaterVersion) {
  {
    Result<journal::Database> db = journal::Database::open(path_);
    ASSERT_TRUE(db && db->execute("PRAGMA user_version=99"));
  }
  Result<UndoLog> log = UndoLog::open(path_);
  ASSERT_FALSE(log);
  EXPECT_NE(log.error().message().find("a later version"), std::string::npos);
}

TEST(Undo, SaysWhatItCannotDo) {
  EXPECT_EQ(undo({{"do", "nothing"}, {"why", "so it is"}}), "so it is");
  EXPECT_EQ(undo({{"do", "fly"}}), R"(not understood: {"do":"fly"})");
  EXPECT_EQ(undo(nlohmann::json::array()), "not understood: []");
  EXPECT_EQ(undo({{"do", "continue"}, {"pid", 4194304}}), "process 4194304 has ended");
}

TEST(Undo, TakesNoOtherProcessForTheOneItKnows) {
  nlohmann::json self = identify(::getpid());
  EXPECT_TRUE(is_same(self));
  nlohmann::json later = self, elsewhere = self;
  later["start"] = self["start"].get<double>() + 1;
  elsewhere["boot"] = "another";
  EXPECT_FALSE(is_same(later));
  EXPECT_FALSE(is_same(elsewhere));
}

}  // namespace
}  // namespace holdfast::serve
