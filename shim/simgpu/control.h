// What `holdfast simgpu` (python/holdfast/simgpu.py) calls by ctypes. Exported by the simulated NVML.
// All return 0 or an error number; ENODEV for a device that is not there, ENOSPC where a table is full.
#pragma once

#include <stddef.h>
#include <stdint.h>

#define SIMGPU_EXPORT __attribute__((visibility("default")))

struct holdfast_simgpu_device {
  const char* name;
  const char* uuid;
  const uint8_t* uuid_bytes;  ///< 16.
  uint64_t total;             ///< Bytes.
  int vendor, parent, slice, numa, major, minor;
  unsigned domain, bus, slot;
};

struct holdfast_simgpu_fault {
  int device, kind;
  const char* function;
  int code, xid;
  int64_t skip, times;
  uint64_t nanoseconds;
};

/// Makes the file; it must not exist.
SIMGPU_EXPORT int holdfast_simgpu_create(const char* path);
SIMGPU_EXPORT int holdfast_simgpu_add(const char* path, const struct holdfast_simgpu_device* device);
SIMGPU_EXPORT int holdfast_simgpu_arm(const char* path, const struct holdfast_simgpu_fault* fault);
/// `what`: lost, ecc, ecc-corrected, xid, stuck, heal.
SIMGPU_EXPORT int holdfast_simgpu_change(const char* path, int device, const char* what, int value);
/// Lines of fields between tabs. Returns the length that it needs, which may be more than `size`; negative without a state.
SIMGPU_EXPORT long holdfast_simgpu_status(const char* path, char* text, size_t size);
