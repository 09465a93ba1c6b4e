#include "mpi/abort_words.h"

#include <gtest/gtest.h>

namespace holdfast::mpi {
namespace {

void expect_call(const std::string& text, int rank, int code) {
  auto call = abort_call_in(text);
  ASSERT_TRUE(call) << text;
  EXPECT_EQ(call->rank, rank) << text;
  EXPECT_EQ(call->code, code) << text;
}

TEST(AbortWords, OfOpenMpi) {
  expect_call(
      "noise\n-----\nMPI_ABORT was invoked on rank 1 in communicator MPI_COMM_WORLD\nwith errorcode 42.\n\nNOTE: invoking ...",
      1, 42);
  expect_call("MPI_ABORT was invoked on rank 3 in communicator MPI_COMM_WORLD\n  Proc: [[26756,1],1]\n  Errorcode: 7\n", 3, 7);
}

TEST(AbortWords, OfMpich) {
  expect_call("Abort(42) on node 1 (rank 1 in comm 496): application called MPI_Abort(comm=0x84000001, 42) - process 1\n", 1,
              42);
  expect_call("application called MPI_Abort(MPI_COMM_WORLD, 5) - process 2", 2, 5);
}

TEST(AbortWords, TheLastOneCounts) {
  expect_call(
      "application called MPI_Abort(MPI_COMM_WORLD, 5) - process 2\napplication called MPI_Abort(MPI_COMM_WORLD, 6) - process "
      "0\n",
      0, 6);
}

TEST(AbortWords, OfNothing) {
  EXPECT_FALSE(abort_call_in(""));
  EXPECT_FALSE(abort_call_in("MPI_Abort is not what this is about, errorcode 42"));
  // Cut short: a code that is not there is none.
  EXPECT_EQ(abort_call_in("MPI_ABORT was invoked on rank 1")->code, 0);
  EXPECT_EQ(abort_call_in("application called MPI_Abort(")->rank, -1);
}

}  // namespace
}  // namespace holdfast::mpi
