// A program on the CUDA runtime that looks at every error twice, as careful programs do.
#include <stddef.h>
#include <stdio.h>
#include <string.h>

int cudaMalloc(void**, size_t);
int cudaMemset(void*, int, size_t);
int cudaMemcpy(void*, const void*, size_t, int);
int cudaFree(void*);
int cudaDeviceSynchronize(void);
int cudaGetDeviceCount(int*);
int cudaPeekAtLastError(void);
int cudaGetLastError(void);

static void say(const char* what, int code) {
  int peek = cudaPeekAtLastError(), first = cudaGetLastError(), second = cudaGetLastError();
  printf("%s %d peek %d get %d then %d\n", what, code, peek, first, second);
}

int main(void) {
  void* at = NULL;
  unsigned char back[4096];
  int count = -1;
  say("malloc", cudaMalloc(&at, 4096));
  say("malloc", cudaMalloc(&at, 4096));
  say("fill", cudaMemset(at, 7, 4096));
  memset(back, 7, sizeof back);
  say("copy", cudaMemcpy(back, at, 4096, 2));
  int bits = 0;
  for (size_t i = 0; i < sizeof back; ++i) bits += __builtin_popcount(back[i] ^ 7u);
  printf("wrong bits %d\n", bits);
  say("free", cudaFree(at));
  say("sync", cudaDeviceSynchronize());
  int code = cudaGetDeviceCount(&count);
  printf("count %d: %d\n", code, count);
  return 0;
}
