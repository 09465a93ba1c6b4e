// A driver of a few functions, each of which says whether its parameters have arrived: integers, pointers, one on the stack of
// each kind, and a float. cuGetProcAddress() hands out functions that are not exported, and a version that nobody knew before.
#include <stddef.h>
#include <string.h>

static int context;

int cuInit(unsigned flags) { return flags == 0 ? 0 : 1; }
int cuDevicePrimaryCtxRetain(void** made, int device) {
  *made = &context;
  return device == 0 ? 0 : 1;
}
int cuCtxSetCurrent(void* current) { return current == &context ? 0 : 1; }
int cuCtxGetDevice(int* device) {
  *device = 0;
  return 0;
}
int cuLaunchKernel(void* f, unsigned x, unsigned y, unsigned z, unsigned bx, unsigned by, unsigned bz, unsigned shared,
                   void* stream, void** parameters, void** extra) {
  return f == (void*)1 && x == 2 && y == 3 && z == 4 && bx == 5 && by == 6 && bz == 7 && shared == 8 && stream == (void*)9 &&
                 parameters == (void*)10 && extra == (void*)11
             ? 0
             : 1;
}
static int hidden_launch(void* f, unsigned x, unsigned y, unsigned z, unsigned bx, unsigned by, unsigned bz, unsigned shared,
                         void* stream, void** parameters, void** extra) {
  return cuLaunchKernel(f, x, y, z, bx, by, bz, shared, stream, parameters, extra);
}
static int later_allocation(unsigned long long* at, size_t bytes, int how) {
  *at = 4096;
  return bytes == 64 && how == 3 ? 0 : 1;
}
int cuGetProcAddress_v2(const char* name, void** function, int version, unsigned long long flags, void* status) {
  (void)version, (void)flags, (void)status;
  *function = strcmp(name, "cuLaunchKernel") == 0 ? (void*)hidden_launch
              : strcmp(name, "cuMemAlloc") == 0   ? (void*)later_allocation
                                                  : NULL;
  return *function != NULL ? 0 : 500;
}
int cuMemcpyPeer(unsigned long long to, void* a, unsigned long long from, void* b, size_t bytes) {
  (void)to, (void)a, (void)from, (void)b, (void)bytes;
  return 0;
}
int cuEventElapsedTime(float* time, float bias) {
  return *time == 2.5f && bias == 1.5f ? 0 : 1;
}  // No real one takes a float by value here.
