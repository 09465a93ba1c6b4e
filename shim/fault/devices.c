// Which device a call is about. Numbers are those that this process sees; a UUID is the same for all.
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "shim.h"

int hf_current_device(void) {
  static _Atomic(const void*) known;
  const void* function = atomic_load_explicit(&known, memory_order_relaxed);
  if (function == NULL) {
    function = hf_real_named("cuCtxGetDevice");
    if (function == NULL) return -1;
    atomic_store_explicit(&known, function, memory_order_relaxed);
  }
  int device = -1;
  return ((int (*)(int*))(uintptr_t)function)(&device) == 0 && device >= 0 && device < HF_DEVICES ? device : -1;
}

static bool begins(const char* uuid, const char* prefix) {
  return prefix[0] != '\0' && strncasecmp(uuid, prefix, strlen(prefix)) == 0;
}

/// NVML shows all devices, CUDA those in CUDA_VISIBLE_DEVICES, in that order.
static int as_visible(unsigned index, const char* uuid) {
  const char* list = getenv("CUDA_VISIBLE_DEVICES");
  if (list == NULL) return index < HF_DEVICES ? (int)index : -1;
  int place = 0;
  for (const char* word = list; *word != '\0' && place < HF_DEVICES; ++place) {
    size_t length = strcspn(word, ",");
    char* end;
    unsigned long number = strtoul(word, &end, 10);
    if (end != word && end == word + length && number == index) return place;
    char prefix[HF_UUID];
    snprintf(prefix, sizeof prefix, "%.*s", (int)(length < sizeof prefix ? length : sizeof prefix - 1), word);
    if ((end == word || end != word + length) && begins(uuid, prefix)) return place;
    word += length;
    if (*word == ',') ++word;
  }
  return -1;
}

typedef int (*nvml_of_two)(const void*, void*);
typedef int (*nvml_of_three)(const void*, void*, unsigned);

static bool handle_uuid(const void* handle, char* uuid) {
  const void* real = hf_real_named("nvmlDeviceGetUUID");
  char text[96] = "";
  if (real == NULL || ((nvml_of_three)(uintptr_t)real)(handle, text, sizeof text) != 0) return false;
  snprintf(uuid, HF_UUID, "%.*s", HF_UUID - 1, text);
  return true;
}

int hf_handle_device(const void* handle) {
  const void* real = hf_real_named("nvmlDeviceGetIndex");
  unsigned index = 0;
  char uuid[HF_UUID] = "";
  if (handle == NULL || real == NULL || ((nvml_of_two)(uintptr_t)real)(handle, &index) != 0) return -1;
  handle_uuid(handle, uuid);
  return as_visible(index, uuid);
}

static const void* handle_of(unsigned index) {
  const void* real = hf_real_named("nvmlDeviceGetHandleByIndex_v2");
  const void* handle = NULL;
  return real != NULL && ((int (*)(unsigned, const void**))(uintptr_t)real)(index, &handle) == 0 ? handle : NULL;
}

static bool cuda_uuid(int device, char* uuid) {
  const void* real = hf_real_named("cuDeviceGetUuid_v2");
  if (real == NULL) real = hf_real_named("cuDeviceGetUuid");
  unsigned char b[16];
  if (real == NULL || ((int (*)(void*, int))(uintptr_t)real)(b, device) != 0) return false;
  snprintf(uuid, HF_UUID, "GPU-%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", b[0], b[1], b[2], b[3],
           b[4], b[5], b[6], b[7], b[8], b[9], b[10], b[11], b[12], b[13], b[14], b[15]);
  return true;
}

static bool cuda_device_is(const struct hf_fault* fault, int device) {
  if (fault->uuid[0] == '\0') return fault->device < 0 || fault->device == device;
  char prefix[HF_UUID], uuid[HF_UUID];
  snprintf(prefix, sizeof prefix, "%.*s", HF_UUID - 1, fault->uuid);
  return device >= 0 && cuda_uuid(device, uuid) && begins(uuid, prefix);
}

bool hf_handle_is(const struct hf_fault* fault, const void* handle) {
  if (fault->uuid[0] == '\0') return fault->device < 0 || fault->device == hf_handle_device(handle);
  char prefix[HF_UUID], uuid[HF_UUID];
  snprintf(prefix, sizeof prefix, "%.*s", HF_UUID - 1, fault->uuid);
  return handle_uuid(handle, uuid) && begins(uuid, prefix);
}

/// The handle that `function`, which looks devices up by name, would give.
static const void* handle_by_name(uint32_t function, const char* name) {
  const void* real = hf_real_named(function == HF_ID_nvmlDeviceGetHandleByUUID ? "nvmlDeviceGetHandleByUUID"
                                                                               : "nvmlDeviceGetHandleByPciBusId_v2");
  const void* handle = NULL;
  return real != NULL && ((int (*)(const char*, const void**))(uintptr_t)real)(name, &handle) == 0 ? handle : NULL;
}

bool hf_device_is(const struct hf_fault* fault, const struct hf_call* call) {
  unsigned traits = hf_traits_of(call->function);
  uint64_t first = call->arguments[0];
  if (traits & HANDLE_FIRST) return hf_handle_is(fault, (const void*)(uintptr_t)first);
  if (traits & INDEX_FIRST) return hf_handle_is(fault, handle_of((unsigned)first));
  if (traits & NAME_FIRST)
    return first != 0 && hf_handle_is(fault, handle_by_name(call->function, (const char*)(uintptr_t)first));
  return cuda_device_is(fault, call->device);
}

int hf_call_device(uint32_t function, const uint64_t* arguments, int current) {
  unsigned traits = hf_traits_of(function);
  int64_t named = -1;
  if (traits & DEVICE_FIRST)
    named = (int)arguments[0];
  else if (traits & DEVICE_SECOND)
    named = (int)arguments[1];
  else if (traits & DEVICE_THIRD)
    named = (int)arguments[2];
  else if (traits & HANDLE_FIRST)
    return hf_handle_device((const void*)(uintptr_t)arguments[0]);
  else if (current < 0 && hf_api_of(function) == HF_RUNTIME) {
    // The runtime makes its context when it is first needed, on the device that it names here.
    const void* real = hf_real_named("cudaGetDevice");
    int device = -1;
    if (real != NULL && ((int (*)(int*))(uintptr_t)real)(&device) == 0) named = device;
  } else {
    named = current;
  }
  return named >= 0 && named < HF_DEVICES ? (int)named : -1;
}
