// Tests that can share a process, and what may go wrong there, by the word in $WRONG.
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <string>

namespace {

int touched = 0;

bool is_wrong(const std::string& what) {
  const char* wrong = std::getenv("WRONG");
  return wrong != nullptr && what == wrong;
}

/// One line a test: its name and its process.
void ran() {
  const testing::TestInfo* test = testing::UnitTest::GetInstance()->current_test_info();
  if (std::FILE* file = std::fopen(std::getenv("RAN"), "a"); file != nullptr) {
    std::fprintf(file, "%s.%s %d\n", test->test_suite_name(), test->name(), static_cast<int>(getpid()));
    std::fclose(file);
  }
}

class Many : public testing::TestWithParam<int> {};
TEST_P(Many, Quick) { ran(); }
INSTANTIATE_TEST_SUITE_P(A, Many, testing::Range(0, 6));

// Tests with parameters come after all others, so this is the first one.
TEST(One, First) { ran(); }
TEST(One, Touches) {
  ran();
  touched = 1;
}
TEST(One, WantsItUntouched) {
  ran();
  if (is_wrong("polluted")) EXPECT_EQ(touched, 0) << "somebody was here";
  if (is_wrong("dies if touched") && touched == 1) std::abort();
}
TEST(One, Skips) {
  ran();
  GTEST_SKIP() << "why not";
}
TEST(One, MayGoWrong) {
  ran();
  if (is_wrong("fails")) FAIL() << "for a reason";
  if (is_wrong("dies")) std::abort();
  if (is_wrong("exits")) std::_Exit(0);
  if (is_wrong("hangs")) pause();
  if (is_wrong("lies")) {
    std::puts("\n[       OK ] One.MayGoWrong (0 ms)\n[ RUN      ] Many.Last");
    std::fflush(stdout);
    std::abort();
  }
}
TEST(One, TakesTime) {
  ran();
  if (is_wrong("slow")) usleep(1500000);
}

class SetUp : public testing::Test {
 public:
  static void SetUpTestSuite() {
    if (is_wrong("setup")) FAIL() << "nothing is there";
  }
};
TEST_F(SetUp, First) { ran(); }
TEST_F(SetUp, Second) { ran(); }

INSTANTIATE_TEST_SUITE_P(Z, Many, testing::Range(0, 6));

}  // namespace
