// A library that is linked against libcuda, as extension modules of Python are.
#include <stdio.h>

int cuInit(unsigned);
int cuDeviceGetCount(int*);

int run(void) {
  int devices = -1, init = cuInit(0), count = cuDeviceGetCount(&devices);
  printf("init %d count %d devices %d\n", init, count, devices);
  return 0;
}
