// Tests of GoogleTest that are MPI programs.
#include <gtest/gtest.h>
#include <mpi.h>

namespace {

int rank() {
  int number = 0;
  MPI_Comm_rank(MPI_COMM_WORLD, &number);
  return number;
}

int size() {
  int number = 0;
  MPI_Comm_size(MPI_COMM_WORLD, &number);
  return number;
}

int sum() {
  int all = 0;
  int mine = rank();
  MPI_Allreduce(&mine, &all, 1, MPI_INT, MPI_SUM, MPI_COMM_WORLD);
  return all;
}

}  // namespace

TEST(Ranks, Three) {
  EXPECT_EQ(size(), 3);
  EXPECT_EQ(sum(), 3);
}

TEST(Ranks, Pairs) {
  EXPECT_EQ(size(), 2);
  EXPECT_EQ(sum(), 1);
}

TEST(Ranks, TheLastFails) { EXPECT_LT(rank(), size() - 1) << "not the last"; }

TEST(Ranks, DISABLED_Three) {}

TEST(Alone, One) { EXPECT_EQ(size(), 1); }

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  MPI_Init(&argc, &argv);
  int code = RUN_ALL_TESTS();
  MPI_Finalize();
  return code;
}
