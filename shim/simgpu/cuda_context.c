// Start, devices and contexts.
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "cuda.h"

struct process simgpu_process = {.lock = PTHREAD_MUTEX_INITIALIZER};
_Thread_local struct context* simgpu_current;
static _Atomic unsigned long long g_contexts;
enum { STACK = 64 };
static _Thread_local struct context* g_stack[STACK];  // Below the current one.
static _Thread_local int g_depth;

// ---- what every call does first --------------------------------------------------------------------------------------------

uint64_t simgpu_now(void) {
  struct timespec at;
  clock_gettime(CLOCK_MONOTONIC, &at);
  return (uint64_t)at.tv_sec * 1000000000U + (uint64_t)at.tv_nsec;
}

static CUresult strike(const char* function, struct context* context, int device) {
  struct simgpu_state* state = simgpu_process.state;
  bool sticky = false;
  CUresult struck = simgpu_strike(state, device, function, &sticky);
  if (struck != 0) return sticky && context != NULL ? simgpu_poison(context, struck, 0) : struck;
  if (context != NULL && atomic_load(&state->devices[device].lost) != 0) return simgpu_poison(context, CUDA_ERROR_UNKNOWN, 0);
  return CUDA_SUCCESS;
}

CUresult simgpu_enter(const char* function, enum need need) {
  if (need == NEEDS_NOTHING) return CUDA_SUCCESS;
  // In a fork of a process that has used the driver nothing works, as on a real one.
  NEED(atomic_load_explicit(&simgpu_process.pid, memory_order_relaxed) != 0, CUDA_ERROR_NOT_INITIALIZED);
  struct context* context = simgpu_current;
  if (need >= NEEDS_NAME) NEED(context != NULL, CUDA_ERROR_INVALID_CONTEXT);
  if (need == NEEDS_CONTEXT) {
    NEED(!atomic_load_explicit(&context->ended, memory_order_relaxed), CUDA_ERROR_CONTEXT_IS_DESTROYED);
    CUresult error = atomic_load_explicit(&simgpu_process.poison[context->ordinal], memory_order_relaxed);
    if (error != CUDA_SUCCESS) return error;
    struct simgpu_device* device = &simgpu_process.state->devices[context->device];
    if (atomic_load_explicit(&device->uncorrected, memory_order_relaxed) > context->uncorrected)
      return simgpu_poison(context, CUDA_ERROR_ECC_UNCORRECTABLE, 0);
  }
  if (atomic_load_explicit(&simgpu_process.state->armed, memory_order_relaxed) == 0) return CUDA_SUCCESS;
  return strike(function, need == NEEDS_CONTEXT ? context : NULL, need == NEEDS_CONTEXT ? context->device : -1);
}

CUresult simgpu_enter_device(const char* function, CUdevice ordinal) {
  CUresult problem = simgpu_enter("", NEEDS_INIT);
  if (problem != CUDA_SUCCESS) return problem;
  NEED(ordinal >= 0 && ordinal < simgpu_process.count, CUDA_ERROR_INVALID_DEVICE);
  if (atomic_load_explicit(&simgpu_process.state->armed, memory_order_relaxed) == 0) return CUDA_SUCCESS;
  return strike(function, NULL, simgpu_process.devices[ordinal]);
}

CUresult simgpu_poison(struct context* context, CUresult error, int xid) {
  int before = 0;
  if (!atomic_compare_exchange_strong(&simgpu_process.poison[context->ordinal], &before, error)) return before;
  if (xid != 0) simgpu_tell(simgpu_process.state, context->device, xid, false);
  return error;
}

// ---- start -----------------------------------------------------------------------------------------------------------------

static void forget_in_fork(void) { atomic_store(&simgpu_process.pid, 0); }
static void watch_forks(void) { pthread_atfork(NULL, NULL, forget_in_fork); }

CUDA CUresult cuInit(unsigned flags) {
  static pthread_once_t once = PTHREAD_ONCE_INIT;
  NEED(flags == 0, CUDA_ERROR_INVALID_VALUE);
  struct simgpu_state* state = simgpu_attach();
  NEED(state != NULL, CUDA_ERROR_NO_DEVICE);
  pthread_mutex_lock(&simgpu_process.lock);
  if (simgpu_process.state == NULL) {
    simgpu_process.count = simgpu_visible(state, SIMGPU_NVIDIA, getenv("CUDA_VISIBLE_DEVICES"), simgpu_process.devices);
    // What is off the bus when the driver is loaded is not found.
    int there = 0;
    for (int i = 0; i < simgpu_process.count; ++i) {
      int index = simgpu_process.devices[i];
      if (atomic_load(&state->devices[index].lost) == 0) simgpu_process.devices[there++] = index;
    }
    if (simgpu_process.count > 0) simgpu_process.count = there;
    if (there > 0 && simgpu_open_arena()) {
      simgpu_process.state = state;
      atomic_store(&simgpu_process.pid, (int)getpid());
    }
  }
  pthread_mutex_unlock(&simgpu_process.lock);
  NEED(simgpu_process.count != SIMGPU_NAMED_TWICE, CUDA_ERROR_INVALID_DEVICE);
  NEED(simgpu_process.count > 0, CUDA_ERROR_NO_DEVICE);
  pthread_once(&once, watch_forks);
  return simgpu_enter("cuInit", NEEDS_INIT);
}

CUDA CUresult cuDriverGetVersion(int* version) {
  NEED(version != NULL, CUDA_ERROR_INVALID_VALUE);
  *version = 13000;
  return CUDA_SUCCESS;
}

// ---- devices ---------------------------------------------------------------------------------------------------------------

static struct simgpu_device* device_of(CUdevice ordinal) {
  return &simgpu_process.state->devices[simgpu_process.devices[ordinal]];
}

CUDA CUresult cuDeviceGetCount(int* count) {
  ENTER(NEEDS_INIT);
  NEED(count != NULL, CUDA_ERROR_INVALID_VALUE);
  *count = simgpu_process.count;
  return CUDA_SUCCESS;
}
CUDA CUresult cuDeviceGet(CUdevice* device, int ordinal) {
  ENTER(NEEDS_INIT);
  NEED(device != NULL, CUDA_ERROR_INVALID_VALUE);
  NEED(ordinal >= 0 && ordinal < simgpu_process.count, CUDA_ERROR_INVALID_DEVICE);
  *device = ordinal;
  return CUDA_SUCCESS;
}
CUDA CUresult cuDeviceGetName(char* name, int length, CUdevice ordinal) {
  ENTER_DEVICE(ordinal);
  NEED(name != NULL && length > 0, CUDA_ERROR_INVALID_VALUE);
  snprintf(name, (size_t)length, "%s", device_of(ordinal)->name);
  return CUDA_SUCCESS;
}
CUDA CUresult cuDeviceGetUuid_v2(void* uuid, CUdevice ordinal) {
  ENTER_DEVICE(ordinal);
  NEED(uuid != NULL, CUDA_ERROR_INVALID_VALUE);
  memcpy(uuid, device_of(ordinal)->uuid_bytes, 16);
  return CUDA_SUCCESS;
}
CUDA CUresult cuDeviceGetUuid(void* uuid, CUdevice ordinal) { return cuDeviceGetUuid_v2(uuid, ordinal); }
CUDA CUresult cuDeviceTotalMem_v2(size_t* bytes, CUdevice ordinal) {
  ENTER_DEVICE(ordinal);
  NEED(bytes != NULL, CUDA_ERROR_INVALID_VALUE);
  *bytes = device_of(ordinal)->total;
  return CUDA_SUCCESS;
}
CUDA CUresult cuDeviceComputeCapability(int* major, int* minor, CUdevice ordinal) {
  ENTER_DEVICE(ordinal);
  *major = device_of(ordinal)->major;
  *minor = device_of(ordinal)->minor;
  return CUDA_SUCCESS;
}
CUDA CUresult cuDeviceGetPCIBusId(char* id, int length, CUdevice ordinal) {
  ENTER_DEVICE(ordinal);
  const struct simgpu_device* device = device_of(ordinal);
  snprintf(id, (size_t)length, "%04x:%02x:%02x.0", device->domain, device->bus, device->slot);
  return CUDA_SUCCESS;
}
CUDA CUresult cuDeviceGetByPCIBusId(CUdevice* found, const char* id) {
  ENTER(NEEDS_INIT);
  unsigned domain = 0;
  unsigned bus = 0;
  unsigned slot = 0;
  NEED(id != NULL && sscanf(id, "%x:%x:%x", &domain, &bus, &slot) == 3, CUDA_ERROR_INVALID_VALUE);
  for (int i = 0; i < simgpu_process.count; ++i) {
    const struct simgpu_device* device = device_of(i);
    if (device->domain != domain || device->bus != bus || device->slot != slot) continue;
    *found = i;
    return CUDA_SUCCESS;
  }
  return CUDA_ERROR_INVALID_DEVICE;
}
CUDA CUresult cuDeviceGetLuid(char* luid, unsigned* mask, CUdevice ordinal) {
  (void)luid, (void)mask, (void)ordinal;
  return CUDA_ERROR_NOT_SUPPORTED;  // Of Windows only.
}

CUDA CUresult cuDeviceGetAttribute(int* value, int attribute, CUdevice ordinal) {
  ENTER_DEVICE(ordinal);
  NEED(value != NULL && attribute > 0, CUDA_ERROR_INVALID_VALUE);
  const struct simgpu_device* device = device_of(ordinal);
  static const struct {
    int attribute, value;
  } kValues[] = {
      {1, 1024},  {2, 1024}, {3, 1024},        {4, 64},      {5, 2147483647}, {6, 65535},   {7, 65535},     {8, 49152},
      {9, 65536}, {10, 32},  {11, 2147483647}, {12, 65536},  {13, 1980000},   {14, 512},    {15, 1},        {16, 132},
      {19, 1},    {31, 1},   {32, 1},          {35, 0},      {36, 2619000},   {37, 5120},   {38, 52428800}, {39, 2048},
      {40, 3},    {41, 1},   {78, 1},          {79, 1},      {80, 1},         {81, 233472}, {82, 65536},    {83, 1},
      {89, 1},    {90, 1},   {91, 1},          {97, 232448}, {102, 1},        {103, 1},     {115, 1},       {116, 1},
  };
  *value = 0;
  for (size_t i = 0; i < sizeof kValues / sizeof kValues[0]; ++i) {
    if (kValues[i].attribute == attribute) *value = kValues[i].value;
  }
  if (attribute == 33) *value = (int)device->bus;
  if (attribute == 34) *value = (int)device->slot;
  if (attribute == 50) *value = (int)device->domain;
  if (attribute == 75) *value = device->major;
  if (attribute == 76) *value = device->minor;
  if (attribute == 134) *value = device->numa;  // HOST_NUMA_ID
  return CUDA_SUCCESS;
}

CUDA CUresult cuDeviceCanAccessPeer(int* can, CUdevice device, CUdevice peer) {
  ENTER_DEVICE(device);
  ENTER_DEVICE(peer);
  *can = device != peer;
  return CUDA_SUCCESS;
}
CUDA CUresult cuDeviceGetP2PAttribute(int* value, int attribute, CUdevice from, CUdevice to) {
  ENTER_DEVICE(from);
  ENTER_DEVICE(to);
  *value = attribute == 2 && from != to;  // ACCESS_SUPPORTED
  return CUDA_SUCCESS;
}

// ---- contexts --------------------------------------------------------------------------------------------------------------

/// As the real driver does: a socket for the descriptors of memory that processes share, open until the process ends.
static void listen_for_descriptors(void) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  struct stat space;
  int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
  if (fd < 0) return;
  unsigned long number = stat("/proc/self/ns/pid", &space) == 0 ? (unsigned long)space.st_ino : 0;
  // An abstract name: its first byte is 0.
  int length = snprintf(address.sun_path + 1, sizeof address.sun_path - 1, "cuda-uvmfd-%lu-%d", number, (int)getpid());
  socklen_t size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)length + 1);
  if (bind(fd, (struct sockaddr*)&address, size) != 0 || listen(fd, 16) != 0) close(fd);
}

static CUresult make(struct context** result, CUdevice ordinal, unsigned flags, bool primary) {
  struct simgpu_state* state = simgpu_process.state;
  int device = simgpu_process.devices[ordinal];
  CUresult poison = atomic_load(&simgpu_process.poison[ordinal]);
  NEED(poison == CUDA_SUCCESS, poison);
  NEED(atomic_load(&state->devices[device].lost) == 0, CUDA_ERROR_DEVICE_UNAVAILABLE);
  NEED(simgpu_book(state, device, (int64_t)SIMGPU_CONTEXT_BYTES), CUDA_ERROR_OUT_OF_MEMORY);
  struct context* context = calloc(1, sizeof *context);
  if (context == NULL) {
    simgpu_book(state, device, -(int64_t)SIMGPU_CONTEXT_BYTES);
    return CUDA_ERROR_OUT_OF_MEMORY;
  }
  context->ordinal = ordinal;
  context->device = device;
  context->is_primary = primary;
  context->flags = flags;
  context->users = 1;
  context->id = atomic_fetch_add(&g_contexts, 1) + 1;
  context->uncorrected = atomic_load(&state->devices[device].uncorrected);
  context->limits[0] = 1024;
  context->limits[1] = 1U << 20U;
  context->limits[2] = 8U << 20U;
  context->null_stream.context = context;
  static pthread_once_t once = PTHREAD_ONCE_INIT;
  pthread_once(&once, listen_for_descriptors);
  *result = context;
  return CUDA_SUCCESS;
}

static void unmake(struct context* context) {
  simgpu_free_all(context);
  simgpu_book(simgpu_process.state, context->device, -(int64_t)SIMGPU_CONTEXT_BYTES);
  // Its memory stays: a handle that is used after this must fail, not crash. A primary one stays current, too.
  atomic_store(&context->ended, true);
}

static void push(struct context* context) {
  if (g_depth < STACK) g_stack[g_depth++] = simgpu_current;
  simgpu_current = context;
}

CUDA CUresult cuDevicePrimaryCtxRetain(struct context** context, CUdevice ordinal) {
  ENTER_DEVICE(ordinal);
  NEED(context != NULL, CUDA_ERROR_INVALID_VALUE);
  pthread_mutex_lock(&simgpu_process.lock);
  struct context** primary = &simgpu_process.primary[ordinal];
  CUresult result = CUDA_SUCCESS;
  if (*primary != NULL) {
    ++(*primary)->users;
  } else {
    result = make(primary, ordinal, 0, true);
  }
  *context = *primary;
  pthread_mutex_unlock(&simgpu_process.lock);
  return result;
}
CUDA CUresult cuDevicePrimaryCtxRelease_v2(CUdevice ordinal) {
  ENTER_DEVICE(ordinal);
  pthread_mutex_lock(&simgpu_process.lock);
  struct context* primary = simgpu_process.primary[ordinal];
  if (primary != NULL && --primary->users == 0) {
    simgpu_process.primary[ordinal] = NULL;
    unmake(primary);
  }
  pthread_mutex_unlock(&simgpu_process.lock);
  return primary != NULL ? CUDA_SUCCESS : CUDA_ERROR_INVALID_CONTEXT;
}
CUDA CUresult cuDevicePrimaryCtxRelease(CUdevice ordinal) { return cuDevicePrimaryCtxRelease_v2(ordinal); }
CUDA CUresult cuDevicePrimaryCtxReset_v2(CUdevice ordinal) {
  ENTER_DEVICE(ordinal);
  pthread_mutex_lock(&simgpu_process.lock);
  struct context* primary = simgpu_process.primary[ordinal];
  if (primary != NULL) {
    simgpu_process.primary[ordinal] = NULL;
    unmake(primary);
  }
  pthread_mutex_unlock(&simgpu_process.lock);
  return CUDA_SUCCESS;
}
CUDA CUresult cuDevicePrimaryCtxReset(CUdevice ordinal) { return cuDevicePrimaryCtxReset_v2(ordinal); }
CUDA CUresult cuDevicePrimaryCtxSetFlags_v2(CUdevice ordinal, unsigned flags) {
  (void)flags;
  ENTER_DEVICE(ordinal);
  return CUDA_SUCCESS;
}
CUDA CUresult cuDevicePrimaryCtxGetState(CUdevice ordinal, unsigned* flags, int* active) {
  ENTER_DEVICE(ordinal);
  if (flags != NULL) *flags = 0;
  if (active != NULL) *active = simgpu_process.primary[ordinal] != NULL;
  return CUDA_SUCCESS;
}

CUDA CUresult cuCtxCreate_v2(struct context** context, unsigned flags, CUdevice ordinal) {
  ENTER_DEVICE(ordinal);
  NEED(context != NULL, CUDA_ERROR_INVALID_VALUE);
  CUresult result = make(context, ordinal, flags, false);
  if (result == CUDA_SUCCESS) push(*context);
  return result;
}
CUDA CUresult cuCtxCreate_v3(struct context** context, void* affinity, int count, unsigned flags, CUdevice ordinal) {
  NEED(affinity == NULL && count == 0, CUDA_ERROR_NOT_SUPPORTED);
  return cuCtxCreate_v2(context, flags, ordinal);
}
CUDA CUresult cuCtxCreate_v4(struct context** context, void* parameters, unsigned flags, CUdevice ordinal) {
  (void)parameters;
  return cuCtxCreate_v2(context, flags, ordinal);
}
CUDA CUresult cuCtxCreate(struct context** context, unsigned flags, CUdevice ordinal) {
  return cuCtxCreate_v2(context, flags, ordinal);
}
CUDA CUresult cuCtxDestroy_v2(struct context* context) {
  ENTER(NEEDS_INIT);
  NEED(context != NULL && !context->is_primary && !atomic_load(&context->ended), CUDA_ERROR_INVALID_CONTEXT);
  unmake(context);
  if (simgpu_current == context) simgpu_current = g_depth > 0 ? g_stack[--g_depth] : NULL;
  return CUDA_SUCCESS;
}
CUDA CUresult cuCtxDestroy(struct context* context) { return cuCtxDestroy_v2(context); }
CUDA CUresult cuCtxPushCurrent_v2(struct context* context) {
  ENTER(NEEDS_INIT);
  NEED(context != NULL, CUDA_ERROR_INVALID_CONTEXT);
  push(context);
  return CUDA_SUCCESS;
}
CUDA CUresult cuCtxPushCurrent(struct context* context) { return cuCtxPushCurrent_v2(context); }
CUDA CUresult cuCtxPopCurrent_v2(struct context** context) {
  ENTER(NEEDS_INIT);
  NEED(simgpu_current != NULL, CUDA_ERROR_INVALID_CONTEXT);
  if (context != NULL) *context = simgpu_current;
  simgpu_current = g_depth > 0 ? g_stack[--g_depth] : NULL;
  return CUDA_SUCCESS;
}
CUDA CUresult cuCtxPopCurrent(struct context** context) { return cuCtxPopCurrent_v2(context); }
CUDA CUresult cuCtxSetCurrent(struct context* context) {
  ENTER(NEEDS_INIT);
  simgpu_current = context;
  return CUDA_SUCCESS;
}
CUDA CUresult cuCtxGetCurrent(struct context** context) {
  ENTER(NEEDS_INIT);
  NEED(context != NULL, CUDA_ERROR_INVALID_VALUE);
  *context = simgpu_current;
  return CUDA_SUCCESS;
}
CUDA CUresult cuCtxGetDevice(CUdevice* device) {
  ENTER(NEEDS_NAME);
  *device = simgpu_current->ordinal;
  return CUDA_SUCCESS;
}
CUDA CUresult cuCtxGetDevice_v2(CUdevice* device, struct context* context) {
  ENTER(NEEDS_INIT);
  if (context == NULL) context = simgpu_current;
  NEED(context != NULL, CUDA_ERROR_INVALID_CONTEXT);
  *device = context->ordinal;
  return CUDA_SUCCESS;
}
CUDA CUresult cuCtxGetFlags(unsigned* flags) {
  ENTER(NEEDS_NAME);
  *flags = simgpu_current->flags;
  return CUDA_SUCCESS;
}
CUDA CUresult cuCtxGetId(struct context* context, unsigned long long* id) {
  ENTER(NEEDS_INIT);
  if (context == NULL) context = simgpu_current;
  NEED(context != NULL, CUDA_ERROR_INVALID_CONTEXT);
  *id = context->id;
  return CUDA_SUCCESS;
}
CUDA CUresult cuCtxGetApiVersion(struct context* context, unsigned* version) {
  ENTER(context == NULL ? NEEDS_CONTEXT : NEEDS_INIT);
  *version = 3020;
  return CUDA_SUCCESS;
}
CUDA CUresult cuCtxGetStreamPriorityRange(int* least, int* greatest) {
  ENTER(NEEDS_CONTEXT);
  if (least != NULL) *least = 0;
  if (greatest != NULL) *greatest = -5;
  return CUDA_SUCCESS;
}
CUDA CUresult cuCtxSetLimit(int limit, size_t value) {
  ENTER(NEEDS_CONTEXT);
  NEED(limit >= 0 && limit < 16, CUDA_ERROR_INVALID_VALUE);
  simgpu_current->limits[limit] = value;
  return CUDA_SUCCESS;
}
CUDA CUresult cuCtxGetLimit(size_t* value, int limit) {
  ENTER(NEEDS_CONTEXT);
  NEED(value != NULL && limit >= 0 && limit < 16, CUDA_ERROR_INVALID_VALUE);
  *value = simgpu_current->limits[limit];
  return CUDA_SUCCESS;
}
CUDA CUresult cuCtxGetCacheConfig(int* config) {
  ENTER(NEEDS_CONTEXT);
  *config = 0;
  return CUDA_SUCCESS;
}
CUDA CUresult cuCtxSetCacheConfig(int config) {
  (void)config;
  ENTER(NEEDS_CONTEXT);
  return CUDA_SUCCESS;
}

CUDA CUresult cuCtxEnablePeerAccess(struct context* peer, unsigned flags) {
  ENTER(NEEDS_CONTEXT);
  NEED(peer != NULL && flags == 0, CUDA_ERROR_INVALID_VALUE);
  bool* enabled = &simgpu_process.peers[simgpu_current->ordinal][peer->ordinal];
  NEED(!*enabled, CUDA_ERROR_PEER_ACCESS_ALREADY_ENABLED);
  *enabled = true;
  return CUDA_SUCCESS;
}
CUDA CUresult cuCtxDisablePeerAccess(struct context* peer) {
  ENTER(NEEDS_CONTEXT);
  NEED(peer != NULL, CUDA_ERROR_INVALID_VALUE);
  bool* enabled = &simgpu_process.peers[simgpu_current->ordinal][peer->ordinal];
  NEED(*enabled, CUDA_ERROR_PEER_ACCESS_NOT_ENABLED);
  *enabled = false;
  return CUDA_SUCCESS;
}
