// Another library for LD_PRELOAD, which wraps puts() in the usual way: RTLD_NEXT must be meant from here.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>

int puts(const char* text) {
  int (*real)(const char*) = (int (*)(const char*))dlsym(RTLD_NEXT, "puts");
  fputs("wrapped ", stdout);
  return real(text);
}
