#include "report/event_log.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <sstream>

namespace holdfast::report {
namespace {

TEST(EventLog, OneLineAnEventInTheGivenOrder) {
  auto path = std::filesystem::temp_directory_path() / ("holdfast-log-" + std::to_string(::getpid()));
  auto log = EventLog::open(path.string()).value();
  ASSERT_TRUE(log.record({{"event", "verdict"}, {"id", "a\nb"}, {"aaa", 1}}));
  ASSERT_TRUE(log.record({{"event", "x"}, {"text", "\xff"}}));
  std::ostringstream text;
  text << std::ifstream(path).rdbuf();
  EXPECT_EQ(text.str(), "{\"event\":\"verdict\",\"id\":\"a\\nb\",\"aaa\":1}\n{\"event\":\"x\",\"text\":\"\xEF\xBF\xBD\"}\n");
  std::filesystem::remove(path);
}

TEST(EventLog, WithoutAPathItIsSilent) { EXPECT_TRUE(EventLog::open("").value().record({{"event", "x"}})); }

TEST(EventLog, SaysWhatItCannotOpenOrWrite) {
  auto missing = EventLog::open("/nonexistent/log");
  ASSERT_FALSE(missing);
  EXPECT_EQ(missing.error().kind, ErrorKind::UserMistake);
  auto full = EventLog::open("/dev/full");
  ASSERT_TRUE(full);
  Status status = full->record({{"event", "x"}});
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().sys_errno, ENOSPC);
}

}  // namespace
}  // namespace holdfast::report
