// Calls with more to them than to go on or to fail: functions that give out functions, and the error that a thread has seen
// last.
#include <stddef.h>

#include "shim.h"

// A runtime call that failed here never reached the runtime, which therefore knows nothing of it.
static __thread int last_error;

void hf_failed(const struct hf_call* call, int code) {
  enum { CUDA_ERROR_NO_DEVICE = 100 };
  if (hf_api_of(call->function) == HF_RUNTIME) last_error = code;
  int* count = (int*)(uintptr_t)call->arguments[0];
  if (call->function == HF_ID_cudaGetDeviceCount && code == CUDA_ERROR_NO_DEVICE && count != NULL) *count = 0;
}

/// cudaGetLastError() and cudaPeekAtLastError(). An error that has broken the context stays the last one.
static struct hf_go error_so_far(const struct hf_call* call, const void* real) {
  int poison = hf_poison(call->device, HF_RUNTIME), error = last_error;
  if (poison == 0 && error == 0) return (struct hf_go){real, 0};
  if (call->function == HF_ID_cudaGetLastError) {
    last_error = 0;
    hf_call_six(real, call->arguments);
  }
  return (struct hf_go){NULL, poison != 0 ? poison : error};
}

/// cuGetProcAddress() and its like in the runtime: (name, where to write it, ...).
static struct hf_go give_function(const struct hf_call* call, const void* real) {
  int64_t result = hf_call_six(real, call->arguments);
  const char* name = (const char*)(uintptr_t)call->arguments[0];
  const void** function = (const void**)(uintptr_t)call->arguments[1];
  if (result == 0 && name != NULL && function != NULL && *function != NULL) *function = hf_in_front_of(name, *function, NULL);
  return (struct hf_go){NULL, result};
}

struct hf_go hf_special(const struct hf_call* call, const void* real, struct hf_blow blow) {
  int64_t result = 0;
  if (blow.corrupt) return (struct hf_go){NULL, hf_corrupted_copy(call, real, blow.draw)};
  switch (call->function) {
    case HF_ID_cuGetProcAddress:
    case HF_ID_cudaGetDriverEntryPoint:
    case HF_ID_cudaGetDriverEntryPointByVersion:
      return give_function(call, real);
    case HF_ID_cudaGetLastError:
    case HF_ID_cudaPeekAtLastError:
      return error_so_far(call, real);
    default:
      if (hf_api_of(call->function) == HF_NVML && hf_nvml_special(call, real, &result)) return (struct hf_go){NULL, result};
      return (struct hf_go){real, 0};
  }
}
