// Stands in for the CUDA runtime on the simulated driver: a few functions that do what the real ones do, by way of the driver,
// and an error that each thread remembers. Like the real one it finds the driver with dlopen() and cuGetProcAddress().
#include <dlfcn.h>
#include <stddef.h>

static __thread int last;
static int (*driver_malloc)(unsigned long long*, size_t);
static int (*driver_free)(unsigned long long);
static int (*driver_sync)(void);
static int (*driver_to_host)(void*, unsigned long long, size_t);
static int (*driver_fill)(unsigned long long, unsigned char, size_t);
static int (*driver_set)(void*);
static int (*driver_retain)(void**, int);
static int (*driver_count)(int*);
static void* context;

static int remember(int code) {
  if (code != 0) last = code;
  return code;
}

static int start(void) {
  if (context == NULL) {
    void* library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
    int (*init)(unsigned) = (int (*)(unsigned))dlsym(library, "cuInit");
    int (*find)(const char*, void*, int, unsigned long long, void*) =
        (int (*)(const char*, void*, int, unsigned long long, void*))dlsym(library, "cuGetProcAddress_v2");
    find("cuMemAlloc", &driver_malloc, 12000, 0, NULL);
    find("cuMemFree", &driver_free, 12000, 0, NULL);
    find("cuCtxSynchronize", &driver_sync, 12000, 0, NULL);
    find("cuMemcpyDtoH", &driver_to_host, 12000, 0, NULL);
    find("cuMemsetD8", &driver_fill, 12000, 0, NULL);
    find("cuCtxSetCurrent", &driver_set, 12000, 0, NULL);
    find("cuDevicePrimaryCtxRetain", &driver_retain, 12000, 0, NULL);
    find("cuDeviceGetCount", &driver_count, 12000, 0, NULL);
    int code = init(0);
    if (code == 0) code = driver_retain(&context, 0);
    if (code != 0) return code;
  }
  return driver_set(context);
}

int cudaGetDevice(int* device) {
  *device = 0;
  return 0;
}
int cudaGetDeviceCount(int* count) {
  int code = start();
  return remember(code != 0 ? code : driver_count(count));
}
int cudaMalloc(void** at, size_t bytes) {
  int code = start();
  return remember(code != 0 ? code : driver_malloc((unsigned long long*)at, bytes));
}
int cudaMemset(void* at, int value, size_t bytes) {
  return remember(driver_fill((unsigned long long)at, (unsigned char)value, bytes));
}
int cudaMemcpy(void* to, const void* from, size_t bytes, int kind) {
  (void)kind;
  return remember(driver_to_host(to, (unsigned long long)from, bytes));
}
int cudaFree(void* at) { return remember(driver_free((unsigned long long)at)); }
int cudaDeviceSynchronize(void) {
  int code = start();
  return remember(code != 0 ? code : driver_sync());
}
int cudaPeekAtLastError(void) { return last; }
int cudaGetLastError(void) {
  int code = last;
  last = 0;
  return code;
}
