// Inside of the simulated libcuda.so.1: types, and what every call does first.
//
// Names, structures and numbers are those of the CUDA driver API's public documentation. All work is done at the moment of the
// call, on the host; a stream only remembers until when its kernels are said to run (`spin`), so that events and waiting are as
// on a device.
#pragma once

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "control.h"
#include "state.h"

#define CUDA SIMGPU_EXPORT

enum {
  CUDA_SUCCESS = 0,
  CUDA_ERROR_INVALID_VALUE = 1,
  CUDA_ERROR_OUT_OF_MEMORY = 2,
  CUDA_ERROR_NOT_INITIALIZED = 3,
  CUDA_ERROR_DEVICE_UNAVAILABLE = 46,
  CUDA_ERROR_NO_DEVICE = 100,
  CUDA_ERROR_INVALID_DEVICE = 101,
  CUDA_ERROR_INVALID_IMAGE = 200,
  CUDA_ERROR_INVALID_CONTEXT = 201,
  CUDA_ERROR_ECC_UNCORRECTABLE = 214,
  CUDA_ERROR_INVALID_HANDLE = 400,
  CUDA_ERROR_NOT_FOUND = 500,
  CUDA_ERROR_NOT_READY = 600,
  CUDA_ERROR_ILLEGAL_ADDRESS = 700,
  CUDA_ERROR_PEER_ACCESS_ALREADY_ENABLED = 704,
  CUDA_ERROR_PEER_ACCESS_NOT_ENABLED = 705,
  CUDA_ERROR_CONTEXT_IS_DESTROYED = 709,
  CUDA_ERROR_ASSERT = 710,
  CUDA_ERROR_LAUNCH_FAILED = 719,
  CUDA_ERROR_NOT_SUPPORTED = 801,
  CUDA_ERROR_UNKNOWN = 999,
};

typedef int CUresult;
typedef int CUdevice;
typedef unsigned long long CUdeviceptr;

struct stream {
  struct context* context;
  unsigned flags;
  int priority;
  uint64_t busy_until;  ///< Nanoseconds of CLOCK_MONOTONIC.
  unsigned long long id;
};

struct context {
  int ordinal;  ///< Among the devices that this process sees.
  int device;   ///< In the state.
  _Atomic bool ended;
  int users;  ///< Of a primary one: how often it was retained.
  bool is_primary;
  unsigned flags;
  unsigned long long id;
  uint64_t uncorrected;  ///< ECC errors that there were when it was made.
  uint64_t limits[16];
  struct stream null_stream;
};

struct process {
  struct simgpu_state* state;
  _Atomic int pid;  ///< That has called cuInit; a fork of it must not go on using the driver.
  int count;
  int devices[SIMGPU_DEVICES];  ///< By ordinal.
  struct context* primary[SIMGPU_DEVICES];
  /// By ordinal: what every call in any context there returns from now on. As on a real device, neither a reset nor another
  /// context helps, only the end of the process.
  _Atomic int poison[SIMGPU_DEVICES];
  bool peers[SIMGPU_DEVICES][SIMGPU_DEVICES];
  pthread_mutex_t lock;
};
extern struct process simgpu_process;
extern _Thread_local struct context* simgpu_current;

/// NEEDS_NAME: a context, but it may have ended or be poisoned.
enum need { NEEDS_NOTHING, NEEDS_INIT, NEEDS_NAME, NEEDS_CONTEXT };
CUresult simgpu_enter(const char* function, enum need need);
/// For calls that name a device: whether that can be used at all.
CUresult simgpu_enter_device(const char* function, CUdevice ordinal);
/// From now on every call of this process in a context of that device fails so; `xid` is what the driver would write.
CUresult simgpu_poison(struct context* context, CUresult error, int xid);

#define ENTER(need)                                  \
  do {                                               \
    CUresult problem = simgpu_enter(__func__, need); \
    if (problem != CUDA_SUCCESS) return problem;     \
  } while (0)
#define ENTER_DEVICE(ordinal)                                  \
  do {                                                         \
    CUresult problem = simgpu_enter_device(__func__, ordinal); \
    if (problem != CUDA_SUCCESS) return problem;               \
  } while (0)
#define NEED(condition, error)        \
  do {                                \
    if (!(condition)) return (error); \
  } while (0)

uint64_t simgpu_now(void);
void simgpu_wait_until(uint64_t nanoseconds);
struct stream* simgpu_stream(struct stream* given);

/// Whether these bytes are memory that a kernel of the current context may touch.
bool simgpu_is_device_memory(CUdeviceptr address, uint64_t bytes);
/// Opens the file behind the memory: from then on a look at the descriptors of the process shows that the driver is in use.
bool simgpu_open_arena(void);
/// Memory of a device is memory of the host.
static inline void* simgpu_host(CUdeviceptr address) { return (void*)(uintptr_t)address; }
/// Takes back what a context that ends had.
void simgpu_free_all(const struct context* context);

/// The same function under a second name: most have a `_v2` since device pointers have 64 bits.
#define ALSO(name, second) CUDA __typeof__(name) second __attribute__((alias(#name)))
