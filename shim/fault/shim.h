// What the files of the shim share. Everything here is hidden: the shim exports nothing but the functions that it stands in
// front of.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "block.h"
#include "functions.h"

enum {
  HF_SPARE =
      1024,  ///< Entries for functions that are found at run time: other copies of a library, later versions of a function.
};

/// What an entry tells its caller: jump to `real` with everything as it was, or (NULL) return `result`.
struct hf_go {
  const void* real;
  int64_t result;
};

typedef int64_t (*hf_function_of_six)(uint64_t, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t);

// entries.c: the functions themselves. An entry is one symbol, or a spare.
extern const char hf_entries_begin[], hf_entries_end[];
enum { HF_ENTRY_SIZE = 16 };

// tables.c
extern const uint32_t hf_symbol_count;        ///< Entries with a name; the spare ones follow.
extern uint16_t hf_entry_function[];          ///< By entry: enum hf_function.
extern const void* hf_entry_fast[];           ///< By entry: where to jump without a look, or NULL.
extern _Atomic(const void*) hf_entry_real[];  ///< By entry: the real function, once known.
const char* hf_symbol(uint32_t entry);
int hf_entry_of(const char* symbol);     ///< -1: not one of ours.
int hf_function_of(const char* symbol);  ///< The same by the name without its suffix, so later versions too. -1: none.
enum hf_api hf_api_of(uint32_t function);
enum hf_group hf_group_of(uint32_t function);
unsigned hf_traits_of(uint32_t function);
const char* hf_name_of(uint32_t function);
/// Fails when the device or the context is broken.
bool hf_uses_device(uint32_t function);

// real.c: where the real functions are.
const void* hf_real(uint32_t entry, const void* caller);
const void* hf_real_named(const char* symbol);  ///< As hf_real(), for our own calls. NULL: not there.
void hf_bind(uint32_t entry, const void* real);
const void* hf_in_front_of(const char* symbol, const void* real, const void* caller);

// attach.c
extern struct hf_block* hf_block;  ///< Never NULL once anything of ours runs.
extern int32_t hf_pid, hf_rank;
void hf_attach_once(void);
void hf_look_always(void);  ///< From now on, this process takes the long way.

// entries.c looks at these on every call.
extern const _Atomic uint64_t* hf_gate;  ///< Not 0: there is something to look at.
extern __thread uint64_t* hf_row;        ///< hf_row::passed of this thread; NULL: not chosen.

// rows.c
uint64_t* hf_row_for(int device);  ///< Chooses.
int hf_row_device(void);           ///< Of the row that is chosen; -1: none is.
void hf_rows_start(void);
void hf_rows_forked(void);

// devices.c
int hf_current_device(void);  ///< -1: none, or it can't be known.
int hf_call_device(uint32_t function, const uint64_t* arguments, int current);
int hf_handle_device(const void* handle);  ///< NVML's handle, as a number of this process.
bool hf_handle_is(const struct hf_fault* fault, const void* handle);

/// A call that somebody has to decide about.
struct hf_call {
  uint32_t entry, function;
  int device;  ///< That it is about, as this process counts; -1: none, or unknown.
  const uint64_t* arguments;
};
bool hf_device_is(const struct hf_fault* fault, const struct hf_call* call);

// strike.c: what becomes of a call.
struct hf_blow {
  int code;       ///< Not 0: the call fails with it.
  bool corrupt;   ///< What it copies is to be falsified.
  uint64_t draw;  ///< Random, the same in every run.
};
struct hf_blow hf_strike(const struct hf_call* call);
/// What the context of a device is poisoned with, or 0.
int hf_poison(int device, enum hf_api api);
void hf_strikes_forked(void);

// specials.c, nvml_view.c, copies.c: calls with more to them than to go on or to fail. `real` is not NULL.
struct hf_go hf_special(const struct hf_call* call, const void* real, struct hf_blow blow);
/// What a call that fails leaves behind.
void hf_failed(const struct hf_call* call, int code);
bool hf_nvml_special(const struct hf_call* call, const void* real, int64_t* result);
int64_t hf_corrupted_copy(const struct hf_call* call, const void* real, uint64_t draw);

static inline int64_t hf_call_six(const void* real, const uint64_t* a) {
  return (int)((hf_function_of_six)(uintptr_t)real)(a[0], a[1], a[2], a[3], a[4], a[5]);
}
