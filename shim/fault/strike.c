// Which faults a call meets, and what they do to it.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <execinfo.h>
#include <limits.h>
#include <linux/futex.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "shim.h"

// What this process has counted of each fault: the low 24 bits of the fault's id, then calls.
static _Atomic uint64_t counted[HF_FAULTS];
enum { CALL_BITS = 40 };

// Devices whose contexts are broken, here and for good.
static struct {
  _Atomic uint32_t state;  // 0: whole; 1: being written; 2: broken.
  int32_t codes[3];
  uint32_t fault;
  uint64_t id;
} poison[HF_DEVICES];

void hf_strikes_forked(void) {
  // A context does not survive a fork, so neither does what was wrong with it.
  for (int i = 0; i < HF_DEVICES; ++i) atomic_store(&poison[i].state, 0);
}

int hf_poison(int device, enum hf_api api) {
  if (device < 0 || device >= HF_DEVICES || api == HF_NVML ||
      atomic_load_explicit(&poison[device].state, memory_order_acquire) != 2)
    return 0;
  return poison[device].codes[api];
}

static void break_context(int device, const struct hf_fault* fault, uint32_t number, uint64_t id) {
  uint32_t whole = 0;
  if (device < 0 || !atomic_compare_exchange_strong(&poison[device].state, &whole, 1)) return;
  memcpy(poison[device].codes, fault->codes, sizeof poison[device].codes);
  poison[device].fault = number;
  poison[device].id = id;
  atomic_store_explicit(&poison[device].state, 2, memory_order_release);
}

static uint64_t now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

/// The number of this call among those of this process that the fault watches.
static uint64_t count_call(int number, uint64_t id) {
  uint64_t before = atomic_load(&counted[number]), after;
  do {
    bool same = before >> CALL_BITS == (id & 0xffffff);
    after = same ? before + 1 : (id << CALL_BITS) + 1;
  } while (!atomic_compare_exchange_weak(&counted[number], &before, after));
  return after & ((UINT64_C(1) << CALL_BITS) - 1);
}

/// Vigna's splitmix64 (https://prng.di.unimi.it/splitmix64.c, public domain): one step, of a state that says which call this
/// is.
static uint64_t random_of(uint64_t seed, int rank, uint64_t call) {
  uint64_t z = seed + UINT64_C(0x9e3779b97f4a7c15) * (call + ((uint64_t)(uint32_t)(rank + 1) << 32));
  z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
  z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
  return z ^ (z >> 31);
}

static bool may_spend(struct hf_fault* fault) {
  uint64_t times = fault->times, spent = atomic_load(&fault->spent);
  do {
    if (times != 0 && spent >= times) return false;
  } while (!atomic_compare_exchange_weak(&fault->spent, &spent, spent + 1));
  return true;
}

static void write_stack(char* text) {
  void* frames[48];
  int count = backtrace(frames, 48);
  size_t used = 0;
  text[0] = '\0';
  const char* skip = NULL;
  Dl_info info;
  if (dladdr(frames[0], &info) != 0) skip = info.dli_fname;
  for (int i = 0; i < count && used + 1 < HF_STACK; ++i) {
    if (dladdr(frames[i], &info) == 0 || info.dli_fname == NULL) continue;
    if (skip != NULL && strcmp(info.dli_fname, skip) == 0) continue;  // Ours.
    const char* file = strrchr(info.dli_fname, '/');
    file = file != NULL ? file + 1 : info.dli_fname;
    uintptr_t from = (uintptr_t)(info.dli_saddr != NULL ? info.dli_saddr : info.dli_fbase);
    int length = snprintf(text + used, HF_STACK - used, "%s in %s+0x%lx\n", info.dli_sname != NULL ? info.dli_sname : "?", file,
                          (unsigned long)((uintptr_t)frames[i] - from));
    if (length < 0) break;
    used += (size_t)length;
  }
}

static void note_first(struct hf_fault* fault, const struct hf_call* call, uint64_t number) {
  struct hf_first* first = &fault->first;
  uint32_t none = 0;
  if (!atomic_compare_exchange_strong(&first->state, &none, 1)) return;
  first->pid = hf_pid;
  first->tid = (int32_t)syscall(SYS_gettid);
  first->rank = hf_rank;
  first->device = call->device;
  first->function = call->function;
  first->call = number;
  first->at = now();
  write_stack(first->stack);
  atomic_store_explicit(&first->state, 2, memory_order_release);
}

static void wait_until_healed(const struct hf_fault* fault, int number, uint64_t id) {
  while ((atomic_load(&hf_block->armed) >> number & 1) != 0 && atomic_load(&fault->id) == id) {
    uint32_t wake = atomic_load(&hf_block->wake);
    // Between the look above and this one somebody may have healed it: then this returns at once, or after a second.
    const struct timespec second = {1, 0};
    syscall(SYS_futex, &hf_block->wake, FUTEX_WAIT, wake, &second, NULL, 0);
  }
}

static void wait_for(uint64_t nanoseconds) {
  struct timespec left = {(time_t)(nanoseconds / 1000000000u), (long)(nanoseconds % 1000000000u)};
  while (clock_nanosleep(CLOCK_MONOTONIC, 0, &left, &left) != 0) {
  }
}

/// What a device that is broken for everyone does not do any more.
static bool needs_whole_device(uint32_t function) {
  if (hf_uses_device(function)) return true;
  if (hf_api_of(function) == HF_NVML) return (hf_traits_of(function) & (HANDLE_FIRST | INDEX_FIRST | NAME_FIRST)) != 0;
  return function == HF_ID_cuDevicePrimaryCtxRetain || function == HF_ID_cudaSetDevice || function == HF_ID_cudaInitDevice ||
         function == HF_ID_cuGreenCtxCreate;
}

static bool meant(const struct hf_fault* fault, const struct hf_call* call, bool* latched) {
  if ((fault->pid >= 0 && fault->pid != hf_pid) || (fault->rank >= 0 && fault->rank != hf_rank)) return false;
  *latched = fault->reach == HF_DEVICE && atomic_load(&fault->latched) != 0 && needs_whole_device(call->function);
  bool watched = (fault->functions[call->function / 64] >> (call->function % 64) & 1) != 0;
  if (!*latched && !watched) return false;
  enum hf_api api = hf_api_of(call->function);
  // Row remapping (XID 63) happens to a program without failing its calls; only NVML tells of it.
  bool silent = fault->xid != 0 && fault->codes[HF_DRIVER] == 0 && api != HF_NVML;
  if (fault->kind == HF_ERROR && fault->codes[api] == 0 && !silent) return false;
  return hf_device_is(fault, call);
}

static void strike(struct hf_fault* fault, int number, uint64_t id, const struct hf_call* call, uint64_t nth,
                   struct hf_blow* blow) {
  // In this order: who sees that it has struck finds the first call, too.
  note_first(fault, call, nth);
  atomic_fetch_add(&fault->struck, 1);
  hf_look_always();
  switch (fault->kind) {
    case HF_DELAY:
      wait_for(fault->nanoseconds);
      return;
    case HF_HANG:
      wait_until_healed(fault, number, id);
      return;
    case HF_CORRUPT:
      blow->corrupt = true;
      blow->draw = random_of(~fault->seed, hf_rank, nth);
      return;
    default:
      if (blow->code == 0) blow->code = fault->codes[hf_api_of(call->function)];
      if (fault->reach != HF_CALL && hf_api_of(call->function) != HF_NVML)
        break_context(call->device, fault, (uint32_t)number, id);
      if (fault->reach == HF_DEVICE) atomic_store(&fault->latched, 1);
  }
}

static void meet(int number, const struct hf_call* call, struct hf_blow* blow) {
  struct hf_fault* fault = &hf_block->faults[number];
  uint64_t id = atomic_load_explicit(&fault->id, memory_order_acquire);
  bool latched = false;
  if (id == 0 || !meant(fault, call, &latched)) return;
  uint64_t nth = 0;
  if (!latched) {
    nth = count_call(number, id);
    atomic_fetch_add(&fault->watched, 1);
    if (nth <= fault->after || (fault->from != 0 && now() < fault->from)) return;
    if (fault->probability < 1 && (double)(random_of(fault->seed, hf_rank, nth) >> 11) * 0x1p-53 >= fault->probability) return;
    if (!may_spend(fault)) return;
    atomic_fetch_add(&fault->occurred, 1);
  }
  if (atomic_load(&fault->id) == id) strike(fault, number, id, call, nth, blow);
}

struct hf_blow hf_strike(const struct hf_call* call) {
  struct hf_blow blow = {0, false, 0};
  int broken = hf_uses_device(call->function) ? hf_poison(call->device, hf_api_of(call->function)) : 0;
  if (broken != 0) {
    struct hf_fault* fault = &hf_block->faults[poison[call->device].fault];
    if (atomic_load(&fault->id) == poison[call->device].id) atomic_fetch_add(&fault->struck, 1);
    blow.code = broken;
    return blow;
  }
  for (uint64_t armed = atomic_load(&hf_block->armed); armed != 0; armed &= armed - 1)
    meet(__builtin_ctzll(armed), call, &blow);
  return blow;
}
