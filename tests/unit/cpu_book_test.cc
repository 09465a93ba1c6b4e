#include "plan/cpu_book.h"

#include <gtest/gtest.h>

namespace holdfast::plan {
namespace {

using Cpus = std::vector<int>;

CpuBook two_nodes() {
  CpuBook book;
  book.reset({{0, 0}, {1, 0}, {2, 0}, {3, 0}, {8, 1}, {9, 1}});
  return book;
}

TEST(CpuBook, NoCpuIsGivenOutTwice) {
  CpuBook book = two_nodes();
  EXPECT_EQ(book.take(4), (Cpus{0, 1, 2, 3}));
  EXPECT_EQ(book.take(2), (Cpus{8, 9}));
  EXPECT_FALSE(book.take(1));
  book.give_back({2, 8});
  EXPECT_EQ(book.take(2), (Cpus{2, 8}));
}

TEST(CpuBook, AGangStaysOnTheNodeThatItFillsBest) {
  CpuBook book = two_nodes();
  EXPECT_EQ(book.take(2), (Cpus{8, 9})) << "the large hole stays";
  EXPECT_EQ(book.take(3), (Cpus{0, 1, 2}));
}

TEST(CpuBook, WhereNoNodeHasEnoughItGetsTheFewestNodes) {
  CpuBook book = two_nodes();
  EXPECT_EQ(book.take(5), (Cpus{0, 1, 2, 3, 8}));
}

}  // namespace
}  // namespace holdfast::plan
