// A program without any CUDA asks whether there is some, as libraries with optional support do.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>

int main(void) {
  printf("%d %d %d\n", dlsym(RTLD_DEFAULT, "cuInit") != NULL, dlsym(RTLD_DEFAULT, "puts") != NULL,
         dlsym(RTLD_NEXT, "puts") != NULL);
  puts("end");
  return 0;
}
