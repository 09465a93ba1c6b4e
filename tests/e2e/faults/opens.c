// Opens a library by its path with RTLD_LOCAL and calls its `run`, which is linked against libcuda: libcuda is then in no scope
// that RTLD_NEXT would look through. With a second word it looks its functions up by dlsym() instead.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>

int main(int argc, char** argv) {
  void* library = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL);
  if (library == NULL) {
    printf("%s\n", dlerror());
    return 1;
  }
  if (argc == 2) return ((int (*)(void))dlsym(library, "run"))();
  int (*init)(unsigned) = (int (*)(unsigned))dlsym(library, "cuInit");
  int (*count)(int*) = (int (*)(int*))dlsym(library, "cuDeviceGetCount");
  int devices = -1, started = init(0), counted = count(&devices);
  dlerror();
  void* none = dlsym(library, "cuNoSuchFunction");
  printf("init %d count %d none %d error %d\n", started, counted, none != NULL, dlerror() != NULL);
  return 0;
}
