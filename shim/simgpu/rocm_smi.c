// librocm_smi64.so of the simulated driver: what an inventory asks for. Names and numbers are those of ROCm SMI's public API.
#define _GNU_SOURCE
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "control.h"
#include "state.h"

#define RSMI SIMGPU_EXPORT
enum { RSMI_OK = 0, RSMI_INVALID = 1, RSMI_NOT_SUPPORTED = 2, RSMI_INIT = 8, RSMI_SMALL = 15, RSMI_BUSY = 16 };

static struct simgpu_device* nth(uint32_t n) {
  struct simgpu_state* state = simgpu_attach();
  for (uint32_t i = 0; state != NULL && i < atomic_load(&state->count); ++i) {
    if (state->devices[i].vendor == SIMGPU_AMD && n-- == 0) return &state->devices[i];
  }
  return NULL;
}
static int enter(const char* function, uint32_t index, struct simgpu_device** device) {
  struct simgpu_state* state = simgpu_attach();
  if (state == NULL) return RSMI_INIT;
  *device = nth(index);
  if (*device == NULL) return RSMI_INVALID;
  bool sticky = false;
  int at = (int)(*device - state->devices);
  int struck = atomic_load(&state->armed) != 0 ? simgpu_strike(state, at, function, &sticky) : 0;
  return struck != 0 ? struck : atomic_load(&(*device)->lost) != 0 ? RSMI_BUSY : RSMI_OK;
}
#define ENTER(index)                               \
  struct simgpu_device* device = NULL;             \
  do {                                             \
    int problem = enter(__func__, index, &device); \
    if (problem != RSMI_OK) return problem;        \
  } while (0)

RSMI int rsmi_init(uint64_t flags) {
  (void)flags;
  return simgpu_attach() != NULL ? RSMI_OK : RSMI_INIT;
}
RSMI int rsmi_shut_down(void) { return RSMI_OK; }
RSMI int rsmi_status_string(int status, const char** text) {
  *text = status == RSMI_OK ? "success" : status == RSMI_INVALID ? "invalid arguments" : "error";
  return RSMI_OK;
}
RSMI int rsmi_num_monitor_devices(uint32_t* count) {
  for (*count = 0; nth(*count) != NULL; ++*count) {
  }
  return RSMI_OK;
}
RSMI int rsmi_dev_name_get(uint32_t index, char* name, size_t length) {
  ENTER(index);
  snprintf(name, length, "%s", device->name);
  return RSMI_OK;
}
RSMI int rsmi_dev_unique_id_get(uint32_t index, uint64_t* id) {
  ENTER(index);
  memcpy(id, device->uuid_bytes, sizeof *id);
  return RSMI_OK;
}
RSMI int rsmi_dev_memory_total_get(uint32_t index, int type, uint64_t* bytes) {
  (void)type;
  ENTER(index);
  *bytes = device->total;
  return RSMI_OK;
}
RSMI int rsmi_dev_memory_usage_get(uint32_t index, int type, uint64_t* bytes) {
  (void)type;
  ENTER(index);
  simgpu_sweep(simgpu_attach());
  *bytes = atomic_load(&device->used);
  return RSMI_OK;
}
RSMI int rsmi_dev_pci_id_get(uint32_t index, uint64_t* id) {
  ENTER(index);
  *id = (uint64_t)device->domain << 32U | (uint64_t)device->bus << 8U | (uint64_t)device->slot << 3U;
  return RSMI_OK;
}
RSMI int rsmi_topo_numa_affinity_get(uint32_t index, int32_t* node) {
  ENTER(index);
  *node = device->numa;
  return RSMI_OK;
}
struct error_count {
  uint64_t corrected, uncorrected, deferred;
};
RSMI int rsmi_dev_ecc_count_get(uint32_t index, uint64_t block, struct error_count* count) {
  ENTER(index);
  (void)block;
  *count = (struct error_count){atomic_load(&device->corrected), atomic_load(&device->uncorrected), 0};
  return RSMI_OK;
}
