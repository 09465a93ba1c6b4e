// What a trivial call of the simulated driver costs: nanoseconds, the best of ten rounds. Run under `holdfast simgpu`. With a
// word it calls until it is killed.
#include <dlfcn.h>
#include <stdio.h>
#include <time.h>

static double now(void) {
  struct timespec at;
  clock_gettime(CLOCK_MONOTONIC, &at);
  return (double)at.tv_sec * 1e9 + (double)at.tv_nsec;
}

int main(int argc, char** argv) {
  (void)argv;
  void* library = dlopen("libcuda.so.1", RTLD_NOW);
  if (library == NULL) return 1;
  int (*init)(unsigned) = (int (*)(unsigned))dlsym(library, "cuInit");
  int (*retain)(void**, int) = (int (*)(void**, int))dlsym(library, "cuDevicePrimaryCtxRetain");
  int (*set)(void*) = (int (*)(void*))dlsym(library, "cuCtxSetCurrent");
  int (*count)(int*) = (int (*)(int*))dlsym(library, "cuDeviceGetCount");
  int (*device)(int*) = (int (*)(int*))dlsym(library, "cuCtxGetDevice");
  void* context = NULL;
  int number = 0;
  if (init(0) != 0 || retain(&context, 0) != 0 || set(context) != 0) return 1;
  while (argc > 1) device(&number);
  double best[2] = {1e9, 1e9};
  enum { kCalls = 1000000 };
  for (int round = 0; round < 10; ++round) {
    double begin = now();
    for (int i = 0; i < kCalls; ++i) count(&number);
    double middle = now();
    for (int i = 0; i < kCalls; ++i) device(&number);
    double end = now();
    if ((middle - begin) / kCalls < best[0]) best[0] = (middle - begin) / kCalls;
    if ((end - middle) / kCalls < best[1]) best[1] = (end - middle) / kCalls;
  }
  printf("cuDeviceGetCount %.1f ns, cuCtxGetDevice %.1f ns\n", best[0], best[1]);
  return 0;
}
