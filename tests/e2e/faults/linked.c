// A program linked against libcuda: allocates, copies, and says what each call has returned. With a number: that many
// allocations.
#include <stdio.h>
#include <stdlib.h>

int cuInit(unsigned);
int cuDevicePrimaryCtxRetain(void**, int);
int cuCtxSetCurrent(void*);
int cuMemAlloc_v2(unsigned long long*, size_t);
int cuCtxSynchronize(void);

__attribute__((noinline)) int one_allocation(unsigned long long* at) {
  int code = cuMemAlloc_v2(at, 4096);
  __asm__ volatile("" ::: "memory");  // Not a tail call: this function is to be seen in a stack.
  return code;
}

int main(int argc, char** argv) {
  void* context = NULL;
  unsigned long long at = 0;
  printf("init %d\n", cuInit(0));
  printf("retain %d\n", cuDevicePrimaryCtxRetain(&context, 0));
  printf("set %d\n", cuCtxSetCurrent(context));
  for (int i = 0, n = argc > 1 ? atoi(argv[1]) : 1; i < n; ++i) printf("alloc %d\n", one_allocation(&at));
  printf("sync %d\n", cuCtxSynchronize());
  return 0;
}
