// The long way of a call: taken while something is armed, and where the short one does not know enough yet.
#include <errno.h>

#include "seed.h"
#include "shim.h"

/// There is nothing to hand the call on to: without the shim, its library would not have been found either.
static int64_t not_there(uint32_t function) {
  enum { NVML_ERROR_FUNCTION_NOT_FOUND = 13, CUDA_ERROR_NOT_FOUND = 500 };
  return hf_api_of(function) == HF_NVML ? NVML_ERROR_FUNCTION_NOT_FOUND : CUDA_ERROR_NOT_FOUND;
}

static struct hf_go decide(const struct hf_call* call, const void* real, uint64_t* row) {
  struct hf_blow blow = hf_strike(call);
  if (blow.code != 0) {
    ++row[HF_FUNCTIONS_MOST + call->function];
    hf_failed(call, blow.code);
    return (struct hf_go){NULL, blow.code};
  }
  ++row[call->function];
  return hf_special(call, real, blow);
}

__attribute__((visibility("hidden"), used)) struct hf_go hf_decide(uint32_t entry, const uint64_t* arguments,
                                                                   const void* caller) {
  // Set while we call the driver ourselves: it may call back through functions that we stand in front of.
  static __thread bool inside;
  hf_attach_once();
  hf_seed_watch();
  int saved = errno;
  const void* real = hf_real(entry, caller);
  uint32_t function = hf_entry_function[entry];
  if (real == NULL) return (struct hf_go){NULL, not_there(function)};
  if (inside) return (struct hf_go){real, 0};
  inside = true;
  int current = hf_row_device();
  if (current < 0) current = hf_current_device();
  uint64_t* row = hf_row_for(current);
  struct hf_call call = {entry, function, hf_call_device(function, arguments, current), arguments};
  struct hf_go go = decide(&call, real, row);
  // Without a device the next call may have one; after these functions it may be another one.
  if (current < 0 || (hf_traits_of(function) & SWITCHES) != 0) hf_row = NULL;
  inside = false;
  errno = saved;
  return go;
}
