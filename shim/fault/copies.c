// Silent corruption: the copy succeeds, and one bit of what has arrived is another one.
#include <stddef.h>

#include "shim.h"

enum where { NOT_KNOWN, TO_HOST, TO_DEVICE };

struct copy {
  uint64_t to, bytes, stream;
  enum where where;
  bool asynchronous;
};

static enum where where_is(uint64_t address) {
  enum { CU_POINTER_ATTRIBUTE_MEMORY_TYPE = 2, CU_MEMORYTYPE_DEVICE = 2 };
  const void* real = hf_real_named("cuPointerGetAttribute");
  unsigned type = 0;
  if (real == NULL || ((int (*)(void*, int, uint64_t))(uintptr_t)real)(&type, CU_POINTER_ATTRIBUTE_MEMORY_TYPE, address) != 0)
    return TO_HOST;
  return type == CU_MEMORYTYPE_DEVICE ? TO_DEVICE : TO_HOST;
}

static struct copy describe(const struct hf_call* call) {
  const uint64_t* a = call->arguments;
  switch (call->function) {
    case HF_ID_cuMemcpyHtoD:
    case HF_ID_cuMemcpyDtoD:
      return (struct copy){a[0], a[2], 0, TO_DEVICE, false};
    case HF_ID_cuMemcpyDtoH:
      return (struct copy){a[0], a[2], 0, TO_HOST, false};
    case HF_ID_cuMemcpyHtoDAsync:
    case HF_ID_cuMemcpyDtoDAsync:
      return (struct copy){a[0], a[2], a[3], TO_DEVICE, true};
    case HF_ID_cuMemcpyDtoHAsync:
      return (struct copy){a[0], a[2], a[3], TO_HOST, true};
    case HF_ID_cuMemcpy:
    case HF_ID_cudaMemcpy:
      return (struct copy){a[0], a[2], 0, where_is(a[0]), false};
    case HF_ID_cuMemcpyAsync:
      return (struct copy){a[0], a[2], a[3], where_is(a[0]), true};
    case HF_ID_cudaMemcpyAsync:
      return (struct copy){a[0], a[2], a[4], where_is(a[0]), true};
    default:
      return (struct copy){0, 0, 0, NOT_KNOWN, false};
  }
}

typedef int (*copy_function)(uint64_t, uint64_t, uint64_t);

static void flip(const struct copy* copy, uint64_t draw) {
  uint64_t at = copy->to + (draw >> 3) % copy->bytes;
  unsigned char bit = (unsigned char)(1u << (draw & 7));
  if (copy->where == TO_HOST) {
    *(unsigned char*)(uintptr_t)at ^= bit;
    return;
  }
  const void* from_device = hf_real_named("cuMemcpyDtoH_v2");
  const void* to_device = hf_real_named("cuMemcpyHtoD_v2");
  unsigned char byte = 0;
  if (from_device == NULL || to_device == NULL || ((copy_function)(uintptr_t)from_device)((uintptr_t)&byte, at, 1) != 0) return;
  byte ^= bit;
  ((copy_function)(uintptr_t)to_device)(at, (uintptr_t)&byte, 1);
}

int64_t hf_corrupted_copy(const struct hf_call* call, const void* real, uint64_t draw) {
  struct copy copy = describe(call);
  int64_t result = hf_call_six(real, call->arguments);
  if (result != 0 || copy.where == NOT_KNOWN || copy.bytes == 0) return result;
  if (copy.asynchronous) {
    // What has not arrived can't be falsified: such a copy is waited for.
    const void* wait = hf_real_named("cuStreamSynchronize");
    if (wait == NULL || ((int (*)(uint64_t))(uintptr_t)wait)(copy.stream) != 0) return result;
  }
  flip(&copy, draw);
  return result;
}
