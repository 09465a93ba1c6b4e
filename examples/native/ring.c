/* A number goes round all ranks once, and comes back larger by what each has added. Any number of ranks but one. */
#include <mpi.h>
#include <stdio.h>

int main(int argc, char** argv) {
  int rank = 0, size = 0, number = 0;
  MPI_Init(&argc, &argv);
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  MPI_Comm_size(MPI_COMM_WORLD, &size);
  int next = (rank + 1) % size, before = (rank + size - 1) % size;
  if (rank == 0) MPI_Send(&number, 1, MPI_INT, next, 0, MPI_COMM_WORLD);
  MPI_Recv(&number, 1, MPI_INT, before, 0, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
  number += rank;
  if (rank != 0) MPI_Send(&number, 1, MPI_INT, next, 0, MPI_COMM_WORLD);
  printf("rank %d of %d has %d\n", rank, size, number);
  MPI_Finalize();
  return rank != 0 || number == size * (size - 1) / 2 ? 0 : 1;
}
