// libnvidia-ml.so.1 of the simulated driver: what nvidia-ml-py and inventories ask for. Names, structures and error numbers are
// those of NVML's public API; every device is a simgpu_device, and a handle is the address of one.
#define _GNU_SOURCE
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "control.h"
#include "state.h"

#define NVML SIMGPU_EXPORT

enum {
  NVML_OK = 0,
  NVML_UNINITIALIZED = 1,
  NVML_INVALID_ARGUMENT = 2,
  NVML_NOT_SUPPORTED = 3,
  NVML_NOT_FOUND = 6,
  NVML_INSUFFICIENT_SIZE = 7,
  NVML_DRIVER_NOT_LOADED = 9,
  NVML_TIMEOUT = 10,
  NVML_GPU_IS_LOST = 15,
};

typedef struct simgpu_device* Handle;

static _Atomic int g_users;

/// Common to all calls. With a device: also whether it is still there.
static int enter(const char* function, Handle device) {
  struct simgpu_state* state = simgpu_attach();
  if (state == NULL || atomic_load(&g_users) <= 0) return NVML_UNINITIALIZED;
  int index = -1;
  if (device != NULL) {
    if (device < state->devices || device >= state->devices + atomic_load(&state->count)) return NVML_INVALID_ARGUMENT;
    index = (int)(device - state->devices);
  }
  if (atomic_load(&state->armed) == 0) return NVML_OK;
  bool sticky = false;
  int struck = simgpu_strike(state, index, function, &sticky);
  if (struck != 0) return struck;
  if (device != NULL && atomic_load(&state->devices[device->parent >= 0 ? device->parent : index].lost) != 0)
    return NVML_GPU_IS_LOST;
  return NVML_OK;
}

#define ENTER(device)                       \
  do {                                      \
    int problem = enter(__func__, device);  \
    if (problem != NVML_OK) return problem; \
  } while (0)

static int copy_text(char* to, unsigned size, const char* text) {
  if (to == NULL) return NVML_INVALID_ARGUMENT;
  if (strlen(text) >= size) return NVML_INSUFFICIENT_SIZE;
  strcpy(to, text);
  return NVML_OK;
}

// ---- the system ------------------------------------------------------------------------------------------------------------

// A fork has to begin again, as with the real library.
static void forget_in_fork(void) { atomic_store(&g_users, 0); }
static void watch_forks(void) { pthread_atfork(NULL, NULL, forget_in_fork); }

NVML int nvmlInitWithFlags(unsigned flags) {
  static pthread_once_t once = PTHREAD_ONCE_INIT;
  pthread_once(&once, watch_forks);
  (void)flags;
  struct simgpu_state* state = simgpu_attach();
  if (state == NULL) return NVML_DRIVER_NOT_LOADED;
  bool sticky = false;
  int struck = atomic_load(&state->armed) != 0 ? simgpu_strike(state, -1, "nvmlInit", &sticky) : 0;
  if (struck == 0) atomic_fetch_add(&g_users, 1);
  return struck;
}
NVML int nvmlInit(void) { return nvmlInitWithFlags(0); }
NVML int nvmlInit_v2(void) { return nvmlInitWithFlags(0); }
NVML int nvmlShutdown(void) {
  if (atomic_load(&g_users) <= 0) return NVML_UNINITIALIZED;
  atomic_fetch_sub(&g_users, 1);
  return NVML_OK;
}

NVML const char* nvmlErrorString(int result) {
  switch (result) {
    case NVML_OK:
      return "Success";
    case NVML_UNINITIALIZED:
      return "Uninitialized";
    case NVML_INVALID_ARGUMENT:
      return "Invalid Argument";
    case NVML_NOT_SUPPORTED:
      return "Not Supported";
    case NVML_NOT_FOUND:
      return "Not Found";
    case NVML_INSUFFICIENT_SIZE:
      return "Insufficient Size";
    case NVML_DRIVER_NOT_LOADED:
      return "Driver Not Loaded";
    case NVML_TIMEOUT:
      return "Timeout";
    case NVML_GPU_IS_LOST:
      return "GPU is lost";
    default:
      return "Unknown Error";
  }
}

NVML int nvmlSystemGetDriverVersion(char* version, unsigned length) {
  ENTER(NULL);
  return copy_text(version, length, "580.00.simgpu");
}
NVML int nvmlSystemGetNVMLVersion(char* version, unsigned length) {
  ENTER(NULL);
  return copy_text(version, length, "13.580.00.simgpu");
}
NVML int nvmlSystemGetCudaDriverVersion(int* version) {
  ENTER(NULL);
  if (version == NULL) return NVML_INVALID_ARGUMENT;
  *version = 13000;
  return NVML_OK;
}
NVML int nvmlSystemGetCudaDriverVersion_v2(int* version) { return nvmlSystemGetCudaDriverVersion(version); }

NVML int nvmlSystemGetProcessName(unsigned pid, char* name, unsigned length) {
  ENTER(NULL);
  char path[32];
  char text[256];
  snprintf(path, sizeof path, "/proc/%u/comm", pid);
  FILE* file = fopen(path, "re");
  if (file == NULL) return NVML_NOT_FOUND;
  bool read = fgets(text, sizeof text, file) != NULL;
  fclose(file);
  if (!read) return NVML_NOT_FOUND;
  text[strcspn(text, "\n")] = '\0';
  return copy_text(name, length, text);
}

// ---- which devices ---------------------------------------------------------------------------------------------------------

/// The n-th of those that are devices (parent < 0) or instances of `parent`.
static Handle nth(unsigned n, int parent) {
  struct simgpu_state* state = simgpu_attach();
  for (uint32_t i = 0; i < atomic_load(&state->count); ++i) {
    Handle device = &state->devices[i];
    if (device->vendor == SIMGPU_NVIDIA && device->parent == parent && n-- == 0) return device;
  }
  return NULL;
}

NVML int nvmlDeviceGetCount_v2(unsigned* count) {
  ENTER(NULL);
  if (count == NULL) return NVML_INVALID_ARGUMENT;
  for (*count = 0; nth(*count, -1) != NULL; ++*count) {
  }
  return NVML_OK;
}
NVML int nvmlDeviceGetCount(unsigned* count) { return nvmlDeviceGetCount_v2(count); }

static int found(Handle device, Handle* result, int otherwise) {
  if (result == NULL) return NVML_INVALID_ARGUMENT;
  *result = device;
  return device != NULL ? NVML_OK : otherwise;
}

NVML int nvmlDeviceGetHandleByIndex_v2(unsigned index, Handle* device) {
  ENTER(NULL);
  int result = found(nth(index, -1), device, NVML_INVALID_ARGUMENT);
  return result == NVML_OK ? enter(__func__, *device) : result;
}
NVML int nvmlDeviceGetHandleByIndex(unsigned index, Handle* device) { return nvmlDeviceGetHandleByIndex_v2(index, device); }

NVML int nvmlDeviceGetHandleByUUID(const char* uuid, Handle* device) {
  ENTER(NULL);
  struct simgpu_state* state = simgpu_attach();
  if (uuid == NULL) return NVML_INVALID_ARGUMENT;
  for (uint32_t i = 0; i < atomic_load(&state->count); ++i) {
    if (strcmp(state->devices[i].uuid, uuid) == 0) return found(&state->devices[i], device, NVML_NOT_FOUND);
  }
  return NVML_NOT_FOUND;
}

NVML int nvmlDeviceGetHandleByPciBusId_v2(const char* id, Handle* device) {
  ENTER(NULL);
  unsigned domain = 0;
  unsigned bus = 0;
  unsigned slot = 0;
  if (id == NULL || sscanf(id, "%x:%x:%x", &domain, &bus, &slot) != 3) return NVML_INVALID_ARGUMENT;
  for (unsigned i = 0; nth(i, -1) != NULL; ++i) {
    Handle one = nth(i, -1);
    if (one->domain == domain && one->bus == bus && one->slot == slot) return found(one, device, NVML_NOT_FOUND);
  }
  return NVML_NOT_FOUND;
}
NVML int nvmlDeviceGetHandleByPciBusId(const char* id, Handle* device) { return nvmlDeviceGetHandleByPciBusId_v2(id, device); }

NVML int nvmlDeviceGetIndex(Handle device, unsigned* index) {
  ENTER(device);
  if (index == NULL) return NVML_INVALID_ARGUMENT;
  for (*index = 0; nth(*index, device->parent) != device; ++*index) {
  }
  return NVML_OK;
}
NVML int nvmlDeviceGetMinorNumber(Handle device, unsigned* number) {
  ENTER(device);
  return nvmlDeviceGetIndex(device, number);
}
NVML int nvmlDeviceGetName(Handle device, char* name, unsigned length) {
  ENTER(device);
  return copy_text(name, length, device->name);
}
NVML int nvmlDeviceGetUUID(Handle device, char* uuid, unsigned length) {
  ENTER(device);
  return copy_text(uuid, length, device->uuid);
}
NVML int nvmlDeviceGetBrand(Handle device, int* brand) {
  ENTER(device);
  *brand = 2;  // Tesla.
  return NVML_OK;
}

struct pci_info {
  char legacy_id[16];
  unsigned domain, bus, device, device_id, subsystem_id;
  char id[32];
};
NVML int nvmlDeviceGetPciInfo_v3(Handle device, struct pci_info* info) {
  ENTER(device);
  if (info == NULL) return NVML_INVALID_ARGUMENT;
  memset(info, 0, sizeof *info);
  info->domain = device->domain;
  info->bus = device->bus;
  info->device = device->slot;
  snprintf(info->legacy_id, sizeof info->legacy_id, "%04X:%02X:%02X.0", device->domain & 0xffffU, device->bus & 0xffU,
           device->slot & 0xffU);
  snprintf(info->id, sizeof info->id, "%08X:%02X:%02X.0", device->domain, device->bus, device->slot);
  return NVML_OK;
}
NVML int nvmlDeviceGetPciInfo_v2(Handle device, struct pci_info* info) { return nvmlDeviceGetPciInfo_v3(device, info); }
NVML int nvmlDeviceGetPciInfo(Handle device, struct pci_info* info) { return nvmlDeviceGetPciInfo_v3(device, info); }

NVML int nvmlDeviceGetCudaComputeCapability(Handle device, int* major, int* minor) {
  ENTER(device);
  if (major == NULL || minor == NULL) return NVML_INVALID_ARGUMENT;
  *major = device->major;
  *minor = device->minor;
  return NVML_OK;
}
NVML int nvmlDeviceGetNumaNodeId(Handle device, unsigned* node) {
  ENTER(device);
  if (device->numa < 0) return NVML_NOT_SUPPORTED;
  *node = (unsigned)device->numa;
  return NVML_OK;
}

// ---- MIG -------------------------------------------------------------------------------------------------------------------

static int index_of(Handle device) { return (int)(device - simgpu_attach()->devices); }

NVML int nvmlDeviceGetMigMode(Handle device, unsigned* current, unsigned* pending) {
  ENTER(device);
  if (device->major < 8) return NVML_NOT_SUPPORTED;
  *current = *pending = nth(0, index_of(device)) != NULL;
  return NVML_OK;
}
NVML int nvmlDeviceGetMaxMigDeviceCount(Handle device, unsigned* count) {
  ENTER(device);
  *count = device->major < 8 ? 0 : 7;
  return NVML_OK;
}
NVML int nvmlDeviceGetMigDeviceHandleByIndex(Handle device, unsigned index, Handle* instance) {
  ENTER(device);
  return found(nth(index, index_of(device)), instance, NVML_NOT_FOUND);
}
NVML int nvmlDeviceGetDeviceHandleFromMigDeviceHandle(Handle instance, Handle* device) {
  ENTER(instance);
  if (instance->parent < 0) return NVML_INVALID_ARGUMENT;
  return found(&simgpu_attach()->devices[instance->parent], device, NVML_NOT_FOUND);
}
NVML int nvmlDeviceIsMigDeviceHandle(Handle device, unsigned* is_mig) {
  ENTER(device);
  *is_mig = device->parent >= 0;
  return NVML_OK;
}
NVML int nvmlDeviceGetGpuInstanceId(Handle device, unsigned* id) {
  ENTER(device);
  *id = (unsigned)device->slice;
  return device->parent >= 0 ? NVML_OK : NVML_NOT_SUPPORTED;
}
NVML int nvmlDeviceGetComputeInstanceId(Handle device, unsigned* id) {
  ENTER(device);
  *id = 0;
  return device->parent >= 0 ? NVML_OK : NVML_NOT_SUPPORTED;
}

// ---- memory and processes --------------------------------------------------------------------------------------------------

struct memory {
  unsigned long long total, free, used;
};
NVML int nvmlDeviceGetMemoryInfo(Handle device, struct memory* memory) {
  ENTER(device);
  if (memory == NULL) return NVML_INVALID_ARGUMENT;
  simgpu_sweep(simgpu_attach());
  memory->total = device->total;
  memory->used = atomic_load(&device->used);
  memory->free = memory->total - memory->used;
  return NVML_OK;
}
struct memory_v2 {
  unsigned version;
  unsigned long long total, reserved, free, used;
};
NVML int nvmlDeviceGetMemoryInfo_v2(Handle device, struct memory_v2* memory) {
  struct memory plain;
  int result = nvmlDeviceGetMemoryInfo(device, &plain);
  if (result != NVML_OK) return result;
  memory->total = plain.total;
  memory->reserved = 0;
  memory->free = plain.free;
  memory->used = plain.used;
  return NVML_OK;
}

struct process_info {
  unsigned pid;
  unsigned long long bytes;
  unsigned gpu_instance, compute_instance;
};
NVML int nvmlDeviceGetComputeRunningProcesses_v3(Handle device, unsigned* count, struct process_info* infos) {
  ENTER(device);
  if (count == NULL) return NVML_INVALID_ARGUMENT;
  struct simgpu_state* state = simgpu_attach();
  simgpu_sweep(state);
  unsigned room = infos == NULL ? 0 : *count;
  unsigned total = 0;
  simgpu_lock(state);
  for (int i = 0; i < SIMGPU_PROCESSES; ++i) {
    const struct simgpu_process* process = &state->processes[i];
    if (process->pid == 0 || process->device != index_of(device)) continue;
    if (total < room) {
      bool part = device->parent >= 0;
      infos[total] =
          (struct process_info){(unsigned)process->pid, process->bytes, part ? (unsigned)device->slice : ~0U, part ? 0 : ~0U};
    }
    ++total;
  }
  simgpu_unlock(state);
  *count = total;
  return total > room ? NVML_INSUFFICIENT_SIZE : NVML_OK;
}
NVML int nvmlDeviceGetComputeRunningProcesses_v2(Handle device, unsigned* count, struct process_info* infos) {
  return nvmlDeviceGetComputeRunningProcesses_v3(device, count, infos);
}
NVML int nvmlDeviceGetGraphicsRunningProcesses_v3(Handle device, unsigned* count, struct process_info* infos) {
  ENTER(device);
  (void)infos;
  *count = 0;
  return NVML_OK;
}

// ---- health ----------------------------------------------------------------------------------------------------------------

NVML int nvmlDeviceGetEccMode(Handle device, unsigned* current, unsigned* pending) {
  ENTER(device);
  *current = *pending = 1;
  return NVML_OK;
}
/// `type` 0: corrected, 1: uncorrected. There is one counter for "since the driver was loaded" and "ever".
NVML int nvmlDeviceGetTotalEccErrors(Handle device, int type, int counter, unsigned long long* count) {
  ENTER(device);
  (void)counter;
  *count = atomic_load(type == 0 ? &device->corrected : &device->uncorrected);
  return NVML_OK;
}
NVML int nvmlDeviceGetMemoryErrorCounter(Handle device, int type, int counter, int location, unsigned long long* count) {
  ENTER(device);
  if (location != 2) {  // Device memory.
    *count = 0;
    return NVML_OK;
  }
  return nvmlDeviceGetTotalEccErrors(device, type, counter, count);
}
NVML int nvmlDeviceGetRemappedRows(Handle device, unsigned* corrected, unsigned* uncorrected, unsigned* pending,
                                   unsigned* failed) {
  ENTER(device);
  *corrected = *uncorrected = *pending = *failed = 0;
  return NVML_OK;
}
struct utilization {
  unsigned gpu, memory;
};
NVML int nvmlDeviceGetUtilizationRates(Handle device, struct utilization* rates) {
  ENTER(device);
  rates->gpu = 0;
  rates->memory = (unsigned)(100 * atomic_load(&device->used) / device->total);
  return NVML_OK;
}
NVML int nvmlDeviceGetTemperature(Handle device, int sensor, unsigned* degrees) {
  ENTER(device);
  (void)sensor;
  *degrees = 40;
  return NVML_OK;
}
NVML int nvmlDeviceGetPowerUsage(Handle device, unsigned* milliwatts) {
  ENTER(device);
  *milliwatts = 70000;
  return NVML_OK;
}
NVML int nvmlDeviceGetPersistenceMode(Handle device, unsigned* mode) {
  ENTER(device);
  *mode = 1;
  return NVML_OK;
}
NVML int nvmlDeviceGetComputeMode(Handle device, int* mode) {
  ENTER(device);
  *mode = 0;
  return NVML_OK;
}

// ---- events ----------------------------------------------------------------------------------------------------------------

enum { EVENT_SINGLE_BIT = 1, EVENT_DOUBLE_BIT = 2, EVENT_XID = 8 };

struct event_set {
  uint64_t seen;
  unsigned long long types[SIMGPU_DEVICES];
};
struct event_data {
  Handle device;
  unsigned long long type, data;
  unsigned gpu_instance, compute_instance;
};

NVML int nvmlDeviceGetSupportedEventTypes(Handle device, unsigned long long* types) {
  ENTER(device);
  *types = EVENT_SINGLE_BIT | EVENT_DOUBLE_BIT | EVENT_XID;
  return NVML_OK;
}
NVML int nvmlEventSetCreate(struct event_set** set) {
  ENTER(NULL);
  *set = calloc(1, sizeof **set);
  if (*set != NULL) (*set)->seen = atomic_load(&simgpu_attach()->events_written);
  return *set != NULL ? NVML_OK : NVML_INSUFFICIENT_SIZE;
}
NVML int nvmlEventSetFree(struct event_set* set) {
  free(set);
  return NVML_OK;
}
NVML int nvmlDeviceRegisterEvents(Handle device, unsigned long long types, struct event_set* set) {
  ENTER(device);
  if (device->parent >= 0) return NVML_NOT_SUPPORTED;
  set->types[index_of(device)] |= types;
  return NVML_OK;
}

static bool next_event(struct event_set* set, struct event_data* data) {
  struct simgpu_state* state = simgpu_attach();
  simgpu_lock(state);
  uint64_t written = atomic_load(&state->events_written);
  if (written - set->seen > SIMGPU_EVENTS) set->seen = written - SIMGPU_EVENTS;
  bool is_new = false;
  while (!is_new && set->seen < written) {
    const struct simgpu_event* event = &state->events[set->seen++ % SIMGPU_EVENTS];
    int device = state->devices[event->device].parent >= 0 ? state->devices[event->device].parent : event->device;
    unsigned long long type = event->xid != 0 ? EVENT_XID : event->double_bit ? EVENT_DOUBLE_BIT : EVENT_SINGLE_BIT;
    if ((set->types[device] & type) == 0) continue;
    *data = (struct event_data){&state->devices[device], type, (unsigned long long)event->xid, ~0U, ~0U};
    is_new = true;
  }
  simgpu_unlock(state);
  return is_new;
}

NVML int nvmlEventSetWait_v2(struct event_set* set, struct event_data* data, unsigned milliseconds) {
  ENTER(NULL);
  for (unsigned waited = 0;; ++waited) {
    if (next_event(set, data)) return NVML_OK;
    if (waited >= milliseconds) return NVML_TIMEOUT;
    nanosleep(&(struct timespec){0, 1000000}, NULL);
  }
}
NVML int nvmlEventSetWait(struct event_set* set, struct event_data* data, unsigned milliseconds) {
  return nvmlEventSetWait_v2(set, data, milliseconds);
}
