// Modules and kernels. There is no compiler: a module knows the names of its kernels (from the text of its PTX), and a kernel
// can be launched if one of that name is built in. What each does and takes is in docs/simgpu.md.
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cuda.h"

enum { PARAMETERS = 4 };
typedef CUresult (*Run)(struct stream* stream, void** parameters);
struct builtin {
  const char* name;
  size_t sizes[PARAMETERS];  ///< Bytes of each parameter, 0 behind the last.
  Run run;
};
struct module {
  char* text;  ///< The image, if it is PTX; null for one that knows all built-in kernels.
  struct function* functions;
};
/// A CUfunction, and a CUkernel.
struct function {
  const struct builtin* builtin;  ///< Null: its name is in the image, but there is nothing that could run.
  char name[128];
  struct module* module;
  struct function* next;
};

// ---- what is built in ------------------------------------------------------------------------------------------------------

#define VALUE(type, i) (*(type*)parameters[i])

static CUresult wild_access(void) { return simgpu_poison(simgpu_current, CUDA_ERROR_ILLEGAL_ADDRESS, 31); }
static void* memory(CUdeviceptr address, uint64_t bytes) {
  return simgpu_is_device_memory(address, bytes) ? (void*)(uintptr_t)address : NULL;
}

static CUresult run_empty(struct stream* stream, void** parameters) {
  (void)stream, (void)parameters;
  return CUDA_SUCCESS;
}
static CUresult run_fill(struct stream* stream, void** parameters) {
  (void)stream;
  uint64_t count = VALUE(uint64_t, 2);
  float* to = memory(VALUE(CUdeviceptr, 0), count * sizeof *to);
  if (to == NULL) return wild_access();
  for (uint64_t i = 0; i < count; ++i) to[i] = VALUE(float, 1);
  return CUDA_SUCCESS;
}
static CUresult run_saxpy(struct stream* stream, void** parameters) {
  (void)stream;
  uint64_t count = VALUE(uint64_t, 3);
  const float* x = memory(VALUE(CUdeviceptr, 1), count * sizeof *x);
  float* y = memory(VALUE(CUdeviceptr, 2), count * sizeof *y);
  if (x == NULL || y == NULL) return wild_access();
  for (uint64_t i = 0; i < count; ++i) y[i] += VALUE(float, 0) * x[i];
  return CUDA_SUCCESS;
}
static CUresult run_vector_add(struct stream* stream, void** parameters) {
  (void)stream;
  uint64_t count = VALUE(uint64_t, 3);
  const float* a = memory(VALUE(CUdeviceptr, 0), count * sizeof *a);
  const float* b = memory(VALUE(CUdeviceptr, 1), count * sizeof *b);
  float* sum = memory(VALUE(CUdeviceptr, 2), count * sizeof *sum);
  if (a == NULL || b == NULL || sum == NULL) return wild_access();
  for (uint64_t i = 0; i < count; ++i) sum[i] = a[i] + b[i];
  return CUDA_SUCCESS;
}
static CUresult run_spin(struct stream* stream, void** parameters) {
  uint64_t now = simgpu_now();
  stream->busy_until = (stream->busy_until > now ? stream->busy_until : now) + VALUE(uint64_t, 0);
  return CUDA_SUCCESS;
}
// As on a device, the launch succeeds and what comes next fails.
static CUresult run_wild(struct stream* stream, void** parameters) {
  (void)stream, (void)parameters;
  wild_access();
  return CUDA_SUCCESS;
}
static CUresult run_trap(struct stream* stream, void** parameters) {
  (void)stream, (void)parameters;
  simgpu_poison(simgpu_current, CUDA_ERROR_LAUNCH_FAILED, 43);
  return CUDA_SUCCESS;
}
static CUresult run_assert(struct stream* stream, void** parameters) {
  (void)stream, (void)parameters;
  fputs("device_assert: block: [0,0,0], thread: [0,0,0] Assertion `false` failed.\n", stderr);
  simgpu_poison(simgpu_current, CUDA_ERROR_ASSERT, 43);
  return CUDA_SUCCESS;
}

static const struct builtin kBuiltins[] = {
    {"empty", {0}, run_empty},
    {"fill", {8, 4, 8}, run_fill},
    {"saxpy", {4, 8, 8, 8}, run_saxpy},
    {"vector_add", {8, 8, 8, 8}, run_vector_add},
    {"spin", {8}, run_spin},
    {"wild", {0}, run_wild},
    {"trap", {0}, run_trap},
    {"device_assert", {0}, run_assert},
};

static const struct builtin* builtin_of(const char* name) {
  for (size_t i = 0; i < sizeof kBuiltins / sizeof kBuiltins[0]; ++i) {
    if (strcmp(kBuiltins[i].name, name) == 0) return &kBuiltins[i];
  }
  return NULL;
}

// ---- modules ---------------------------------------------------------------------------------------------------------------

/// Whether the PTX has `.entry NAME(`.
static bool has_entry(const char* text, const char* name) {
  size_t length = strlen(name);
  for (const char* at = strstr(text, ".entry"); at != NULL; at = strstr(at + 1, ".entry")) {
    const char* word = at + strlen(".entry");
    word += strspn(word, " \t\r\n");
    if (strncmp(word, name, length) == 0 && strchr(" \t\r\n(){", word[length]) != NULL) return true;
  }
  return false;
}

static CUresult load(struct module** result, const char* image) {
  NEED(result != NULL && image != NULL, CUDA_ERROR_INVALID_VALUE);
  bool all = strcmp(image, "simgpu") == 0;
  NEED(all || strstr(image, ".version") != NULL, CUDA_ERROR_INVALID_IMAGE);
  struct module* module = calloc(1, sizeof *module);
  NEED(module != NULL, CUDA_ERROR_OUT_OF_MEMORY);
  if (!all) module->text = strdup(image);
  *result = module;
  return CUDA_SUCCESS;
}

static CUresult load_file(struct module** result, const char* path) {
  FILE* file = path != NULL ? fopen(path, "re") : NULL;
  NEED(file != NULL, 301);  // File not found.
  char* text = NULL;
  size_t room = 0;
  ssize_t length = getdelim(&text, &room, '\0', file);
  fclose(file);
  CUresult problem = length > 0 ? load(result, text) : CUDA_ERROR_INVALID_IMAGE;
  free(text);
  return problem;
}

static void unload(struct module* module) {
  while (module->functions != NULL) {
    struct function* function = module->functions;
    module->functions = function->next;
    free(function);
  }
  free(module->text);
  free(module);
}

static CUresult find(struct function** result, struct module* module, const char* name) {
  NEED(result != NULL && module != NULL && name != NULL, CUDA_ERROR_INVALID_VALUE);
  pthread_mutex_lock(&simgpu_process.lock);
  struct function* function = module->functions;
  while (function != NULL && strcmp(function->name, name) != 0) function = function->next;
  bool exists = module->text != NULL ? has_entry(module->text, name) : builtin_of(name) != NULL;
  if (function == NULL && exists && strlen(name) < sizeof function->name) {
    function = calloc(1, sizeof *function);
    if (function != NULL) {
      strcpy(function->name, name);
      function->builtin = builtin_of(name);
      function->module = module;
      function->next = module->functions;
      module->functions = function;
    }
  }
  pthread_mutex_unlock(&simgpu_process.lock);
  *result = function;
  return function != NULL ? CUDA_SUCCESS : CUDA_ERROR_NOT_FOUND;
}

CUDA CUresult cuModuleLoadData(struct module** module, const void* image) {
  ENTER(NEEDS_CONTEXT);
  return load(module, image);
}
CUDA CUresult cuModuleLoadDataEx(struct module** module, const void* image, unsigned count, int* options, void** values) {
  (void)count, (void)options, (void)values;
  ENTER(NEEDS_CONTEXT);
  return load(module, image);
}
CUDA CUresult cuModuleLoad(struct module** module, const char* path) {
  ENTER(NEEDS_CONTEXT);
  return load_file(module, path);
}
CUDA CUresult cuModuleUnload(struct module* module) {
  ENTER(NEEDS_CONTEXT);
  NEED(module != NULL, CUDA_ERROR_INVALID_HANDLE);
  unload(module);
  return CUDA_SUCCESS;
}
CUDA CUresult cuModuleGetFunction(struct function** function, struct module* module, const char* name) {
  ENTER(NEEDS_CONTEXT);
  return find(function, module, name);
}
CUDA CUresult cuModuleGetLoadingMode(int* mode) {
  ENTER(NEEDS_INIT);
  *mode = 2;  // Lazy.
  return CUDA_SUCCESS;
}

CUDA CUresult cuLibraryLoadData(struct module** library, const void* code, int* options, void** values, unsigned count,
                                int* library_options, void** library_values, unsigned library_count) {
  (void)options, (void)values, (void)count, (void)library_options, (void)library_values, (void)library_count;
  ENTER(NEEDS_INIT);
  return load(library, code);
}
CUDA CUresult cuLibraryLoadFromFile(struct module** library, const char* path, int* options, void** values, unsigned count,
                                    int* library_options, void** library_values, unsigned library_count) {
  (void)options, (void)values, (void)count, (void)library_options, (void)library_values, (void)library_count;
  ENTER(NEEDS_INIT);
  return load_file(library, path);
}
CUDA CUresult cuLibraryUnload(struct module* library) {
  ENTER(NEEDS_INIT);
  NEED(library != NULL, CUDA_ERROR_INVALID_HANDLE);
  unload(library);
  return CUDA_SUCCESS;
}
CUDA CUresult cuLibraryGetKernel(struct function** kernel, struct module* library, const char* name) {
  ENTER(NEEDS_INIT);
  return find(kernel, library, name);
}
CUDA CUresult cuLibraryGetModule(struct module** module, struct module* library) {
  ENTER(NEEDS_INIT);
  *module = library;
  return CUDA_SUCCESS;
}
CUDA CUresult cuKernelGetFunction(struct function** function, struct function* kernel) {
  ENTER(NEEDS_INIT);
  NEED(kernel != NULL, CUDA_ERROR_INVALID_HANDLE);
  *function = kernel;
  return CUDA_SUCCESS;
}
CUDA CUresult cuKernelGetLibrary(struct module** library, struct function* kernel) {
  ENTER(NEEDS_INIT);
  *library = kernel->module;
  return CUDA_SUCCESS;
}
CUDA CUresult cuKernelGetName(const char** name, struct function* kernel) {
  ENTER(NEEDS_INIT);
  *name = kernel->name;
  return CUDA_SUCCESS;
}
ALSO(cuKernelGetName, cuFuncGetName);
CUDA CUresult cuFuncGetModule(struct module** module, struct function* function) {
  ENTER(NEEDS_INIT);
  *module = function->module;
  return CUDA_SUCCESS;
}

static CUresult parameter(const struct function* function, size_t index, size_t* offset, size_t* size) {
  NEED(function != NULL, CUDA_ERROR_INVALID_HANDLE);
  NEED(function->builtin != NULL && index < PARAMETERS && function->builtin->sizes[index] != 0, CUDA_ERROR_INVALID_VALUE);
  size_t at = 0;
  for (size_t i = 0; i <= index; ++i) {
    size_t unit = function->builtin->sizes[i];
    at = (at + unit - 1) / unit * unit;
    if (i < index) at += unit;
  }
  if (offset != NULL) *offset = at;
  if (size != NULL) *size = function->builtin->sizes[index];
  return CUDA_SUCCESS;
}
CUDA CUresult cuFuncGetParamInfo(struct function* function, size_t index, size_t* offset, size_t* size) {
  ENTER(NEEDS_INIT);
  return parameter(function, index, offset, size);
}
ALSO(cuFuncGetParamInfo, cuKernelGetParamInfo);

static CUresult attribute(int* value, int which) {
  static const int kValues[] = {1024, 0, 0, 0, 16, 90, 90, 0, 49152, 0};
  NEED(value != NULL && which >= 0, CUDA_ERROR_INVALID_VALUE);
  *value = which < (int)(sizeof kValues / sizeof kValues[0]) ? kValues[which] : 0;
  return CUDA_SUCCESS;
}
CUDA CUresult cuFuncGetAttribute(int* value, int which, struct function* function) {
  (void)function;
  ENTER(NEEDS_INIT);
  return attribute(value, which);
}
CUDA CUresult cuKernelGetAttribute(int* value, int which, struct function* kernel, CUdevice device) {
  (void)kernel, (void)device;
  ENTER(NEEDS_INIT);
  return attribute(value, which);
}
CUDA CUresult cuFuncSetAttribute(struct function* function, int which, int value) {
  (void)function, (void)which, (void)value;
  ENTER(NEEDS_INIT);
  return CUDA_SUCCESS;
}
CUDA CUresult cuKernelSetAttribute(int which, int value, struct function* kernel, CUdevice device) {
  (void)which, (void)value, (void)kernel, (void)device;
  ENTER(NEEDS_INIT);
  return CUDA_SUCCESS;
}
CUDA CUresult cuFuncLoad(struct function* function) {
  (void)function;
  ENTER(NEEDS_INIT);
  return CUDA_SUCCESS;
}
CUDA CUresult cuFuncIsLoaded(int* state, struct function* function) {
  (void)function;
  ENTER(NEEDS_INIT);
  *state = 1;
  return CUDA_SUCCESS;
}
CUDA CUresult cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int* blocks, struct function* function, int size,
                                                                   size_t shared, unsigned flags) {
  (void)function, (void)shared, (void)flags;
  ENTER(NEEDS_CONTEXT);
  NEED(size > 0 && size <= 1024, CUDA_ERROR_INVALID_VALUE);
  *blocks = 2048 / size;
  return CUDA_SUCCESS;
}
CUDA CUresult cuOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, struct function* function, int size, size_t shared) {
  return cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(blocks, function, size, shared, 0);
}

// ---- launching -------------------------------------------------------------------------------------------------------------

CUDA CUresult cuLaunchKernel(struct function* function, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x,
                             unsigned block_y, unsigned block_z, unsigned shared, struct stream* stream, void** parameters,
                             void** extra) {
  (void)shared;
  ENTER(NEEDS_CONTEXT);
  NEED(function != NULL, CUDA_ERROR_INVALID_HANDLE);
  uint64_t threads = (uint64_t)block_x * block_y * block_z;
  NEED(grid_x != 0 && grid_y != 0 && grid_z != 0 && threads > 0 && threads <= 1024, CUDA_ERROR_INVALID_VALUE);
  NEED(function->builtin != NULL && extra == NULL, CUDA_ERROR_NOT_SUPPORTED);
  NEED(function->builtin->sizes[0] == 0 || parameters != NULL, CUDA_ERROR_INVALID_VALUE);
  struct stream* where = simgpu_stream(stream);
  // In its order: what was launched before may still be said to run.
  if (function->builtin->run != run_spin && where->busy_until > simgpu_now()) simgpu_wait_until(where->busy_until);
  return function->builtin->run(where, parameters);
}
struct launch {
  unsigned grid_x, grid_y, grid_z, block_x, block_y, block_z, shared;
  struct stream* stream;
  void* attributes;
  unsigned count;
};
CUDA CUresult cuLaunchKernelEx(const struct launch* launch, struct function* function, void** parameters, void** extra) {
  ENTER(NEEDS_CONTEXT);
  NEED(launch != NULL, CUDA_ERROR_INVALID_VALUE);
  return cuLaunchKernel(function, launch->grid_x, launch->grid_y, launch->grid_z, launch->block_x, launch->block_y,
                        launch->block_z, launch->shared, launch->stream, parameters, extra);
}
CUDA CUresult cuLaunchCooperativeKernel(struct function* function, unsigned grid_x, unsigned grid_y, unsigned grid_z,
                                        unsigned block_x, unsigned block_y, unsigned block_z, unsigned shared,
                                        struct stream* stream, void** parameters) {
  return cuLaunchKernel(function, grid_x, grid_y, grid_z, block_x, block_y, block_z, shared, stream, parameters, NULL);
}
