// Launches by a function that it is linked against and by one that it has found, allocates by a version that is newer than the
// shim.
#include <stddef.h>
#include <stdio.h>

typedef int (*launch_function)(void*, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, void*, void**,
                               void**);
int cuInit(unsigned);
int cuDevicePrimaryCtxRetain(void**, int);
int cuCtxSetCurrent(void*);
int cuLaunchKernel(void*, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, void*, void**, void**);
int cuGetProcAddress_v2(const char*, void**, int, unsigned long long, void*);
int cuEventElapsedTime(float*, float);

static int launch(launch_function function) {
  return function((void*)1, 2, 3, 4, 5, 6, 7, 8, (void*)9, (void**)10, (void**)11);
}

int main(void) {
  void* context = NULL;
  launch_function found = NULL;
  int (*allocate)(unsigned long long*, size_t, int) = NULL;
  unsigned long long at = 0;
  float time = 2.5f;
  if (cuInit(0) != 0 || cuDevicePrimaryCtxRetain(&context, 0) != 0 || cuCtxSetCurrent(context) != 0) return 1;
  if (cuGetProcAddress_v2("cuLaunchKernel", (void**)&found, 13000, 0, NULL) != 0) return 2;
  if (cuGetProcAddress_v2("cuMemAlloc", (void**)&allocate, 14000, 0, NULL) != 0) return 3;
  printf("linked %d\n", launch(cuLaunchKernel));
  printf("found %d\n", launch(found));
  printf("later %d\n", allocate(&at, 64, 3));
  printf("bias %d\n", cuEventElapsedTime(&time, 1.5f));
  return 0;
}
