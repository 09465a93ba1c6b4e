#include "inventory/memory.h"

#include <gtest/gtest.h>

namespace holdfast::inventory {
namespace {

TEST(Memory, LimitTexts) {
  EXPECT_EQ(bytes_of_limit("max"), 0U);
  EXPECT_EQ(bytes_of_limit("9223372036854771712"), 0U);  // v1's "no limit".
  EXPECT_EQ(bytes_of_limit("1048576"), 1048576U);
  EXPECT_EQ(bytes_of_limit(""), 0U);
}

TEST(Memory, ThisMachineHasSome) {
  Memory found = memory();
  EXPECT_GT(found.limit, 1U << 20U);
  EXPECT_GT(found.available, 0U);
  EXPECT_LE(found.available, found.limit);
}

TEST(Memory, ShortMeansUnderATwentieth) {
  EXPECT_TRUE(is_short(Memory{100, 4}));
  EXPECT_FALSE(is_short(Memory{100, 5}));
  EXPECT_FALSE(is_short(Memory{0, 0}));
}

}  // namespace
}  // namespace holdfast::inventory
