// A program of MPI: `ranks WHAT [RANK]`, where the rank of that number does it after all have spoken to each other.
#include <mpi.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <string>

int main(int argc, char** argv) {
  MPI_Init(&argc, &argv);
  std::string what = argc > 1 ? argv[1] : "";
  int number = argc > 2 ? std::atoi(argv[2]) : 1;
  int rank = 0;
  int size = 0;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  MPI_Comm_size(MPI_COMM_WORLD, &size);
  int sum = 0;
  MPI_Allreduce(&rank, &sum, 1, MPI_INT, MPI_SUM, MPI_COMM_WORLD);
  const char* greeting = std::getenv("GREETING");
  std::printf("rank %d of %d, sum %d, %s\n", rank, size, sum, greeting != nullptr ? greeting : "");
  std::fflush(stdout);
  if (rank == number && what == "abort") MPI_Abort(MPI_COMM_WORLD, 7);
  if (rank == number && what == "crash") *reinterpret_cast<volatile int*>(8) = 1;
  if (rank == number && what == "hang") ::pause();
  MPI_Barrier(MPI_COMM_WORLD);
  int code = rank == number && what == "return" ? 5 : 0;
  if (what == "size") code = size == number ? 0 : 1;
  MPI_Finalize();
  return code;
}
