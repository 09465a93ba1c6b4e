// What NVML says of a device on which an XID fault has struck: the same story as CUDA's. Calls on a device that is gone fail as
// any faulted call does (strike.c); here are counters of ECC errors, rows to be remapped, and events.
#define _GNU_SOURCE
#include <string.h>
#include <time.h>

#include "shim.h"
#include "xids.h"

enum { NVML_UNCORRECTED = 1, NVML_EVENT_XID = 8, NVML_ERROR_TIMEOUT = 10, EVENTS = 64, SLICE_MS = 20 };

// Who wants to hear of which device.
static struct {
  _Atomic uint64_t set;
  const void* device;
  uint64_t types;
} wanted[EVENTS];
static _Atomic uint32_t wanted_count;
// By fault: its id's low 24 bits, and how many of its strikes have been told of.
static _Atomic uint64_t told[HF_FAULTS];
enum { COUNT_BITS = 40 };

/// An XID fault that has struck and isn't healed, in this place; its id, or 0.
static uint64_t xid_there(int number, const struct hf_fault** fault) {
  *fault = &hf_block->faults[number];
  if ((atomic_load(&hf_block->armed) >> number & 1) == 0 || (*fault)->xid == 0 || atomic_load(&(*fault)->occurred) == 0)
    return 0;
  return atomic_load(&(*fault)->id);
}

static uint64_t memory_errors_of(const void* handle) {
  uint64_t sum = 0;
  for (int i = 0; i < HF_FAULTS; ++i) {
    const struct hf_fault* fault;
    if (xid_there(i, &fault) == 0) continue;
    const struct hf_xid* xid = hf_xid(fault->xid);
    if (xid != NULL && xid->ecc && hf_handle_is(fault, handle)) sum += atomic_load(&fault->occurred);
  }
  return sum;
}

static bool is_second_version(const struct hf_call* call) {
  const char* symbol = hf_symbol(call->entry);
  return symbol != NULL && strstr(symbol, "_v2") != NULL;
}

struct event_data {
  const void* device;
  uint64_t type, data;
  uint32_t gpu_instance, compute_instance;  // Only in the second version.
};

static bool tell(uint64_t set, struct event_data* data, bool second) {
  for (int i = 0; i < HF_FAULTS; ++i) {
    const struct hf_fault* fault;
    uint64_t id = xid_there(i, &fault);
    if (id == 0) continue;
    uint64_t so_far = atomic_load(&told[i]),
             count = so_far >> COUNT_BITS == (id & 0xffffff) ? so_far & ((UINT64_C(1) << COUNT_BITS) - 1) : 0;
    if (count >= atomic_load(&fault->occurred)) continue;
    for (uint32_t w = 0; w < atomic_load(&wanted_count) && w < EVENTS; ++w) {
      if (atomic_load(&wanted[w].set) != set || (wanted[w].types & NVML_EVENT_XID) == 0 ||
          !hf_handle_is(fault, wanted[w].device))
        continue;
      if (!atomic_compare_exchange_strong(&told[i], &so_far, (id << COUNT_BITS) + count + 1)) break;
      data->device = wanted[w].device;
      data->type = NVML_EVENT_XID;
      data->data = (uint64_t)fault->xid;
      if (second) data->gpu_instance = data->compute_instance = UINT32_MAX;
      return true;
    }
  }
  return false;
}

static uint64_t milliseconds(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (uint64_t)time.tv_sec * 1000u + (uint64_t)time.tv_nsec / 1000000u;
}

/// Waits in slices, since the real function does not wake up for what we have to tell.
static int64_t wait_for_event(const struct hf_call* call, const void* real) {
  uint64_t arguments[6];
  memcpy(arguments, call->arguments, sizeof arguments);
  uint64_t start = milliseconds(), timeout = (uint32_t)arguments[2];
  struct event_data* data = (struct event_data*)(uintptr_t)arguments[1];
  for (;;) {
    if (data != NULL && tell(arguments[0], data, is_second_version(call))) return 0;
    uint64_t gone = milliseconds() - start, left = gone < timeout ? timeout - gone : 0;
    arguments[2] = left < SLICE_MS ? left : SLICE_MS;
    int64_t result = hf_call_six(real, arguments);
    if (result != NVML_ERROR_TIMEOUT || left <= SLICE_MS) return result;
  }
}

static int64_t want_events(const struct hf_call* call, const void* real) {
  int64_t result = hf_call_six(real, call->arguments);
  if (result != 0) return result;
  uint32_t place = atomic_load(&wanted_count);
  do {
    if (place == EVENTS) return result;
  } while (!atomic_compare_exchange_weak(&wanted_count, &place, place + 1));
  wanted[place].device = (const void*)(uintptr_t)call->arguments[0];
  wanted[place].types = call->arguments[1];
  atomic_store(&wanted[place].set, call->arguments[2]);
  return result;
}

bool hf_nvml_special(const struct hf_call* call, const void* real, int64_t* result) {
  const uint64_t* a = call->arguments;
  const void* handle = (const void*)(uintptr_t)a[0];
  switch (call->function) {
    case HF_ID_nvmlDeviceGetTotalEccErrors:  // (device, type, counter, sum)
      *result = hf_call_six(real, a);
      if (*result == 0 && (int)a[1] == NVML_UNCORRECTED) *(uint64_t*)(uintptr_t)a[3] += memory_errors_of(handle);
      return true;
    case HF_ID_nvmlDeviceGetMemoryErrorCounter:  // (device, type, counter, location, sum)
      *result = hf_call_six(real, a);
      if (*result == 0 && (int)a[1] == NVML_UNCORRECTED) *(uint64_t*)(uintptr_t)a[4] += memory_errors_of(handle);
      return true;
    case HF_ID_nvmlDeviceGetRemappedRows: {  // (device, corrected, uncorrected, pending, failed)
      *result = hf_call_six(real, a);
      uint64_t errors = *result == 0 ? memory_errors_of(handle) : 0;
      if (errors != 0 && a[2] != 0) *(unsigned*)(uintptr_t)a[2] += (unsigned)errors;
      if (errors != 0 && a[3] != 0) *(unsigned*)(uintptr_t)a[3] = 1;
      return true;
    }
    case HF_ID_nvmlDeviceRegisterEvents:
      *result = want_events(call, real);
      return true;
    case HF_ID_nvmlEventSetWait:
      *result = wait_for_event(call, real);
      return true;
    default:
      return false;
  }
}
