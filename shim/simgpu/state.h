// What all processes on the simulated driver share: the devices, who uses how much of their memory, their faults and events.
//
// One file (HOLDFAST_SIMGPU_STATE), mapped by every process. A process can be killed at any moment, also while it holds the
// lock, so the lock is a robust one, and what a dead process had is given back by whoever looks next (simgpu_sweep).
#pragma once

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

enum { SIMGPU_DEVICES = 64, SIMGPU_PROCESSES = 1024, SIMGPU_FAULTS = 64, SIMGPU_EVENTS = 256 };

/// Bytes that a context takes by itself, as a real one does.
#define SIMGPU_CONTEXT_BYTES (UINT64_C(256) << 20)
/// Memory is handed out in pages of this size.
#define SIMGPU_PAGE (UINT64_C(2) << 20)

enum simgpu_vendor { SIMGPU_NVIDIA = 0, SIMGPU_AMD = 1 };

enum simgpu_fault_kind {
  SIMGPU_FAULT_ERROR = 1,   ///< The call returns `code`, once.
  SIMGPU_FAULT_STICKY = 2,  ///< The context is poisoned with `code`: every later call in it fails, too.
  SIMGPU_FAULT_SLOW = 3,    ///< The call takes `nanoseconds` longer.
  SIMGPU_FAULT_HANG = 4,    ///< The call does not return before the fault is taken away.
};

/// A device, or (parent >= 0) a MIG instance of one.
struct simgpu_device {
  char name[64];
  char uuid[64];  ///< "GPU-" or "MIG-", and the usual groups of hexadecimal digits.
  uint8_t uuid_bytes[16];
  uint64_t total;  ///< Bytes.
  int vendor, parent, slice;
  int numa;  ///< -1 for none.
  int major, minor;
  unsigned domain, bus, slot;
  _Atomic uint64_t used;    ///< Bytes: contexts, allocations, and what is stuck.
  _Atomic uint64_t stuck;   ///< Bytes that dead processes have not given back (fault `stuck`).
  _Atomic uint32_t sticks;  ///< That fault is on.
  _Atomic uint32_t lost;    ///< It has fallen off the bus.
  _Atomic uint64_t corrected, uncorrected;
};

struct simgpu_process {
  int pid;  ///< 0 for a free entry.
  int device;
  uint64_t started;  ///< Field 22 of /proc/PID/stat: the same number can be another process later.
  uint64_t space;    ///< The inode of /proc/PID/ns/pid: the number means nothing elsewhere. Containers have one each.
  uint64_t bytes;
};

struct simgpu_fault {
  int kind;  ///< 0 for a free entry.
  int device;
  char function[48];  ///< "" for all; otherwise how the function's name begins ("cuMemAlloc", "nvml").
  int code;
  int xid;         ///< 0, or the XID that it writes when it strikes.
  int64_t skip;    ///< Calls that it lets pass first.
  int64_t times;   ///< Calls that it then strikes; negative for all.
  int64_t struck;  ///< Evidence.
  uint64_t nanoseconds;
};

struct simgpu_event {
  int device;
  int xid;  ///< 0 for an ECC error.
  int double_bit;
  double at;  ///< Seconds since 1970.
};

struct simgpu_state {
  uint64_t magic;
  uint32_t version, size;
  pthread_mutex_t lock;
  _Atomic uint32_t count;
  _Atomic uint32_t armed;  ///< Faults there are, or devices lost: what every call looks at.
  _Atomic uint64_t events_written;
  struct simgpu_device devices[SIMGPU_DEVICES];
  struct simgpu_process processes[SIMGPU_PROCESSES];
  struct simgpu_fault faults[SIMGPU_FAULTS];
  struct simgpu_event events[SIMGPU_EVENTS];
};

/// The state of HOLDFAST_SIMGPU_STATE, mapped once; null if there is none.
struct simgpu_state* simgpu_attach(void);
struct simgpu_state* simgpu_open(const char* path);

void simgpu_lock(struct simgpu_state* state);
void simgpu_unlock(struct simgpu_state* state);

/// Gives back what processes had that are no more.
void simgpu_sweep(struct simgpu_state* state);

/// Books bytes of a device for this process, or (negative) gives them back. False where there is not so much.
bool simgpu_book(struct simgpu_state* state, int device, int64_t bytes);

void simgpu_tell(struct simgpu_state* state, int device, int xid, bool double_bit);

/// What a call meets that a fault strikes: 0 for nothing, otherwise its code; `sticky` says of which kind. Sleeps for those
/// that are slow or hang. Only to be called where `armed` says that there is something.
int simgpu_strike(struct simgpu_state* state, int device, const char* function, bool* sticky);

/// The devices that a list like CUDA_VISIBLE_DEVICES leaves over, in its order: indices of `devices`. Returns how many; `list`
/// may be null. As the real driver does, it stops at the first entry that is none, and refuses a list that names one twice.
enum { SIMGPU_NAMED_TWICE = -1 };
int simgpu_visible(struct simgpu_state* state, int vendor, const char* list, int* found);
