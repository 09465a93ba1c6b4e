#include "mpi/abort_words.h"

#include <gtest/gtest.h>

namespace holdfast::mpi {
namespace {

TEST(AbortWords, OfOpenMpi) {
  auto call = abort_call_in(
      "noise\n-----\nMPI_ABORT was invoked on rank 1 in communicator MPI_COMM_WORLD\nwith errorcode 42.\n\nNOTE: invoking ...");
  ASSERT_TRUE(call);
  EXPECT_EQ(call->rank, 1);
  EXPECT_EQ(call->code, 42);
  call =
      abort_call_in("MPI_ABORT was invoked on rank 3 in communicator MPI_COMM_WORLD\n  Proc: [[26756,1],1]\n  Errorcode: 7\n");
  ASSERT_TRUE(call);
  EXPECT_EQ(call->rank, 3);
  EXPECT_EQ(call->code, 7);
}

TEST(AbortWords, OfMpich) {
  auto call = abort_call_in(
      "Abort(42) on node 1 (rank 1 in comm 496): application called MPI_Abort(comm=0x84000001, 42) - process 1\n");
  ASSERT_TRUE(call);
  EXPECT_EQ(call->rank, 1);
  EXPECT_EQ(call->code, 42);
  call = abort_call_in("application called MPI_Abort(MPI_COMM_WORLD, 5) - process 2");
  ASSERT_TRUE(call);
  EXPECT_EQ(call->rank, 2);
  EXPECT_EQ(call->code, 5);
}

TEST(AbortWords, TheLastOneCounts) {
  auto call = abort_call_in(
      "application called MPI_Abort(MPI_COMM_WORLD, 5) - process 2\napplication called MPI_Abort(MPI_COMM_WORLD, 6) - process "
      "0\n");
  ASSERT_TRUE(call);
  EXPECT_EQ(call->rank, 0);
  EXPECT_EQ(call->code, 6);
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
