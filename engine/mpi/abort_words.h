// What MPI libraries print when a rank calls MPI_Abort: all that there is where their process manager is not ours.
#pragma once

#include <optional>
#include <string>

namespace holdfast::mpi {

struct AbortCall {
  int rank = -1;  ///< Negative: whoever has printed it.
  int code = 0;
};

/// The last such call that the text tells of. Open MPI: "MPI_ABORT was invoked on rank 1 in communicator X [...] errorcode 42"
/// (`Errorcode: 42` from version 5 on). MPICH: "application called MPI_Abort(comm=0x44000000, 42) - process 1", or without the
/// handle's number. Text of a test: nothing but a number is taken from it.
std::optional<AbortCall> abort_call_in(const std::string& text);

}  // namespace holdfast::mpi
