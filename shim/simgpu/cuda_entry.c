// Words for errors, and cuGetProcAddress, by which clients find everything else.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

#include "cuda.h"

static const struct {
  CUresult code;
  const char *name, *text;
} kErrors[] = {
    {0, "CUDA_SUCCESS", "no error"},
    {1, "CUDA_ERROR_INVALID_VALUE", "invalid argument"},
    {2, "CUDA_ERROR_OUT_OF_MEMORY", "out of memory"},
    {3, "CUDA_ERROR_NOT_INITIALIZED", "initialization error"},
    {4, "CUDA_ERROR_DEINITIALIZED", "driver shutting down"},
    {46, "CUDA_ERROR_DEVICE_UNAVAILABLE", "CUDA-capable device(s) is/are busy or unavailable"},
    {100, "CUDA_ERROR_NO_DEVICE", "no CUDA-capable device is detected"},
    {101, "CUDA_ERROR_INVALID_DEVICE", "invalid device ordinal"},
    {200, "CUDA_ERROR_INVALID_IMAGE", "device kernel image is invalid"},
    {201, "CUDA_ERROR_INVALID_CONTEXT", "invalid device context"},
    {209, "CUDA_ERROR_NO_BINARY_FOR_GPU", "no kernel image is available for execution on the device"},
    {214, "CUDA_ERROR_ECC_UNCORRECTABLE", "uncorrectable ECC error encountered"},
    {217, "CUDA_ERROR_PEER_ACCESS_UNSUPPORTED", "peer access is not supported between these two devices"},
    {301, "CUDA_ERROR_FILE_NOT_FOUND", "file not found"},
    {400, "CUDA_ERROR_INVALID_HANDLE", "invalid resource handle"},
    {500, "CUDA_ERROR_NOT_FOUND", "named symbol not found"},
    {600, "CUDA_ERROR_NOT_READY", "device not ready"},
    {700, "CUDA_ERROR_ILLEGAL_ADDRESS", "an illegal memory access was encountered"},
    {702, "CUDA_ERROR_LAUNCH_TIMEOUT", "the launch timed out and was terminated"},
    {704, "CUDA_ERROR_PEER_ACCESS_ALREADY_ENABLED", "peer access is already enabled"},
    {705, "CUDA_ERROR_PEER_ACCESS_NOT_ENABLED", "peer access has not been enabled"},
    {710, "CUDA_ERROR_ASSERT", "device-side assert triggered"},
    {712, "CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED", "part or all of the requested memory range is already mapped"},
    {713, "CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED", "pointer does not correspond to a registered memory region"},
    {715, "CUDA_ERROR_ILLEGAL_INSTRUCTION", "an illegal instruction was encountered"},
    {719, "CUDA_ERROR_LAUNCH_FAILED", "unspecified launch failure"},
    {801, "CUDA_ERROR_NOT_SUPPORTED", "operation not supported"},
    {999, "CUDA_ERROR_UNKNOWN", "unknown error"},
};

static CUresult word(CUresult code, const char** text, bool name) {
  NEED(text != NULL, CUDA_ERROR_INVALID_VALUE);
  for (size_t i = 0; i < sizeof kErrors / sizeof kErrors[0]; ++i) {
    if (kErrors[i].code != code) continue;
    *text = name ? kErrors[i].name : kErrors[i].text;
    return CUDA_SUCCESS;
  }
  *text = NULL;
  return CUDA_ERROR_INVALID_VALUE;
}
CUDA CUresult cuGetErrorName(CUresult code, const char** text) { return word(code, text, true); }
CUDA CUresult cuGetErrorString(CUresult code, const char** text) { return word(code, text, false); }

CUDA CUresult cuGetExportTable(const void** table, const void* id) {
  (void)table, (void)id;
  return CUDA_ERROR_NOT_FOUND;
}

CUDA CUresult cuGetProcAddress_v2(const char* symbol, void** function, int version, uint64_t flags, int* status);
CUDA CUresult cuGetProcAddress(const char* symbol, void** function, int version, uint64_t flags) {
  return cuGetProcAddress_v2(symbol, function, version, flags, NULL);
}

/// Functions whose parameters have changed: from which version of CUDA on a name means which symbol. Newest first.
static const struct {
  const char* name;
  int since;
  const char* symbol;
} kChanged[] = {
    {"cuCtxCreate", 13000, "cuCtxCreate_v4"},
    {"cuCtxCreate", 11040, "cuCtxCreate_v3"},
    {"cuGetProcAddress", 12000, "cuGetProcAddress_v2"},
};

// `flags` chooses between default streams for all threads and for each; here these are the same.
CUDA CUresult cuGetProcAddress_v2(const char* symbol, void** function, int version, uint64_t flags, int* status) {
  (void)flags;
  NEED(symbol != NULL && function != NULL, CUDA_ERROR_INVALID_VALUE);
  static void* self;
  if (self == NULL) {
    Dl_info info;
    if (dladdr((void*)cuGetProcAddress, &info) != 0) self = dlopen(info.dli_fname, RTLD_LAZY | RTLD_NOLOAD);
  }
  const char* wanted = symbol;
  for (size_t i = 0; i < sizeof kChanged / sizeof kChanged[0]; ++i) {
    if (strcmp(kChanged[i].name, symbol) != 0 || version < kChanged[i].since) continue;
    wanted = kChanged[i].symbol;
    break;
  }
  char second[128];
  snprintf(second, sizeof second, "%s_v2", wanted);
  *function = strncmp(symbol, "cu", 2) == 0 && self != NULL ? dlsym(self, wanted) : NULL;
  if (*function == NULL && self != NULL) *function = dlsym(self, second);
  if (status != NULL) *status = *function != NULL ? 0 : 1;
  return *function != NULL ? CUDA_SUCCESS : CUDA_ERROR_NOT_FOUND;
}
