// The page that faults are switched on, and on which the shim notes what it has seen: a file that all processes of a run map.
//
// Who writes what: a controller (control.c) writes faults, under a lock on the file, and sets and clears bits of `armed`; the
// shim reads both without a lock, and writes counters. A fault's `id` is 0 while it is being written, and a reader that finds
// another one afterwards has read nothing. Any process of the run can write anything here, so the shim takes no number from it
// for granted.
#pragma once

#include <stdatomic.h>
#include <stdint.h>

#define HF_MAGIC UINT64_C(0x73746c756166666c)
#define HF_VERSION 1
#define HF_VARIABLE "HOLDFAST_FAULTS"  ///< Names the file.

enum {
  HF_FAULTS = 64,           ///< Bits of `armed`.
  HF_FUNCTIONS_MOST = 512,  ///< Room for functions in sets and counters.
  HF_NAME = 64,
  HF_UUID = 48,
  HF_STACK = 2048,
  HF_DEVICES = 64,  ///< Devices of a process that are told apart.
};

enum hf_kind { HF_ERROR = 1, HF_DELAY, HF_HANG, HF_CORRUPT };

/// How far a fault reaches once it has struck.
enum hf_reach {
  HF_CALL,     ///< The call.
  HF_CONTEXT,  ///< Every later call of that process on that device, until the process ends. Healing does not change it.
  HF_DEVICE,   ///< Every later call of every process on that device, until the fault is healed; processes that it has struck
               ///< stay so.
};

/// The first call that a fault has struck.
struct hf_first {
  _Atomic uint32_t state;  ///< 0: none; 1: being written; 2: there.
  int32_t pid, tid, rank, device;
  uint32_t function;  ///< enum hf_function.
  uint64_t call;      ///< Its number among the calls of that process that the fault watches, from 1.
  uint64_t at;        ///< CLOCK_MONOTONIC, nanoseconds.
  char stack[HF_STACK];
};

struct hf_fault {
  _Atomic uint64_t id;  ///< Unique in this block, from 1.
  uint32_t kind, reach;
  char name[HF_NAME];
  uint64_t functions[HF_FUNCTIONS_MOST / 64];
  int32_t pid, rank, device;  ///< -1: any.
  char uuid[HF_UUID];         ///< Instead of `device`, if not empty: how the device's UUID begins.
  int32_t codes[3];           ///< By enum hf_api. 0: functions of that API are let through.
  int32_t xid;                ///< Or 0.
  uint64_t after;             ///< Calls of a process that are let through first.
  uint64_t times;             ///< Calls that are struck, in all processes; 0: no limit.
  uint64_t from;              ///< CLOCK_MONOTONIC, nanoseconds: not before.
  double probability;
  uint64_t seed;
  uint64_t nanoseconds;  ///< Of a delay.
  uint64_t healed;       ///< When; CLOCK_MONOTONIC, nanoseconds. 0: not yet.

  // Evidence.
  _Atomic uint64_t watched;   ///< Calls that could have been struck.
  _Atomic uint64_t struck;    ///< Calls that were, those on a poisoned context included.
  _Atomic uint64_t spent;     ///< Out of `times`.
  _Atomic uint64_t occurred;  ///< Times that it has struck anew: a poisoned context is not counted again.
  _Atomic uint32_t latched;   ///< HF_DEVICE, and it has struck.
  struct hf_first first;
};

/// Calls of one thread at a time, while one device was current.
struct hf_row {
  int32_t pid, rank, device;  ///< Device -1: none.
  uint32_t ready;             ///< 1 once the three above are written.
  uint64_t passed[HF_FUNCTIONS_MOST];
  uint64_t failed[HF_FUNCTIONS_MOST];
};

struct hf_block {
  uint64_t magic;
  uint32_t version, functions, rows, unused;
  uint64_t created;  ///< CLOCK_REALTIME, nanoseconds.
  _Atomic uint64_t next_id;
  _Atomic uint64_t armed;      ///< Bit i: faults[i] is looked at.
  _Atomic uint32_t wake;       ///< A futex: changed by whoever heals.
  _Atomic uint32_t rows_used;  ///< May be more than there are: then the last one is shared, and loses counts.
  _Atomic uint32_t attached;   ///< Processes, forks not counted.
  _Atomic uint32_t missed;     ///< Look-ups that were given a function without the shim in front of it.
  struct hf_fault faults[HF_FAULTS];
  struct hf_row row[];
};

static inline uint64_t hf_block_size(uint32_t rows) { return sizeof(struct hf_block) + (uint64_t)rows * sizeof(struct hf_row); }
