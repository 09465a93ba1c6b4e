// The controller's side of the page: make it, write faults on it, read what has become of them. Used by Python (ctypes) and by
// the fault service. Functions that take `problem` write one sentence for the user into it when they fail.
#pragma once

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define HF_EXPORT __attribute__((visibility("default")))

struct hf_control;

/// A fault to be written. Everything that is not a choice of its own is 0 or NULL; -1 where that is said.
struct hf_wish {
  const char* name;           ///< For reports.
  const char* kind;           ///< error, delay, hang, corrupt.
  const char* reach;          ///< call, context, device. NULL: as the XID has it, otherwise call.
  const char* functions;      ///< Names, groups, `driver`, `runtime`, `nvml`, `prefix*`, between commas. NULL: all that use a
                              ///< device, or all that can be corrupted.
  const char* uuid;           ///< How the device's UUID begins; instead of `device`.
  int32_t pid, rank, device;  ///< -1: any.
  int32_t xid;                ///< 0: none.
  int32_t driver, runtime, nvml;  ///< Codes; 0: that API is let through, or as the XID has it.
  uint64_t after, times, delay_ns, wait_ns, seed;
  double probability;  ///< Above 0, at most 1.
};

/// Makes a file that is not there yet, with room for `rows` counters of threads (0: 4,096). NULL: see `problem`.
HF_EXPORT struct hf_control* hf_control_create(const char* path, uint32_t rows, char* problem, size_t size);
HF_EXPORT struct hf_control* hf_control_open(const char* path, char* problem, size_t size);
/// The file stays.
HF_EXPORT void hf_control_close(struct hf_control* control);

/// 0 if an empty page would take it.
HF_EXPORT int hf_control_check(const struct hf_wish* wish, char* problem, size_t size);
/// Writes a fault, armed or not. Returns its id, or -1.
HF_EXPORT int64_t hf_control_add(struct hf_control* control, const struct hf_wish* wish, int armed, char* problem, size_t size);
/// Switches it on or off: one atomic operation, seen by the next call. Off does not heal what it has broken. -1: there is no
/// such fault.
HF_EXPORT int hf_control_switch(struct hf_control* control, int64_t id, int on);
/// Switches it off, ends its hangs and what it does to the device; contexts that it has broken stay so until their processes
/// end.
HF_EXPORT int hf_control_heal(struct hf_control* control, int64_t id);
/// All of them, also those that are not in order any more: for the end of a page.
HF_EXPORT void hf_control_heal_all(struct hf_control* control);
/// Everything as JSON (protocol/faults.md). Returns the length that it needs, which may be more than `size`.
HF_EXPORT size_t hf_control_report(struct hf_control* control, char* text, size_t size);
/// The table of XIDs, as JSON.
HF_EXPORT size_t hf_control_xids(char* text, size_t size);
/// The functions that can be struck, with their API and group, as JSON.
HF_EXPORT size_t hf_control_functions(char* text, size_t size);

#ifdef __cplusplus
}
#endif
