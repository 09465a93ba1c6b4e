#include "plan/cpu_book.h"

#include <gtest/gtest.h>

namespace holdfast::plan {
namespace {

using Cpus = std::vector<int>;

CpuBook two_nodes() {
  CpuBook book;
  book.reset({{0, {0, 0}}, {1, {0, 1}}, {2, {0, 2}}, {3, {0, 3}}, {8, {1, 8}}, {9, {1, 9}}});
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

// Four cores of two threads each on two nodes, numbered as Linux does on most machines.
CpuBook eight_threads() {
  CpuBook book;
  book.reset({{0, {0, 0}}, {1, {0, 1}}, {2, {1, 2}}, {3, {1, 3}}, {4, {0, 0}}, {5, {0, 1}}, {6, {1, 2}}, {7, {1, 3}}});
  return book;
}

TEST(CpuBook, NoTwoGangsShareACoreWhereThereAreEnough) {
  CpuBook book = eight_threads();
  EXPECT_EQ(book.take(1), (Cpus{0}));
  EXPECT_EQ(book.take(1), (Cpus{1}));
  EXPECT_EQ(book.take(3), (Cpus{2, 6, 3})) << "a core's threads after each other";
  // All cores are in use: better beside another gang than anywhere.
  EXPECT_EQ(book.take(1), (Cpus{7})) << "on the node with the least room";
  EXPECT_EQ(book.take(2), (Cpus{4, 5}));
  EXPECT_FALSE(book.take(1));
  book.give_back({4});
  book.give_back({0});
  EXPECT_EQ(book.take(2), (Cpus{0, 4})) << "whole again";
}

}  // namespace
}  // namespace holdfast::plan
