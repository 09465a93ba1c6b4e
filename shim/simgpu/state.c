#define _GNU_SOURCE
#include "state.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "control.h"

static const uint64_t kMagic = UINT64_C(0x75706773646c6f68);
static const uint32_t kVersion = 2;

struct simgpu_state* simgpu_open(const char* path) {
  int fd = open(path, O_RDWR | O_CLOEXEC);
  if (fd < 0) return NULL;
  struct stat info;
  struct simgpu_state* state = NULL;
  if (fstat(fd, &info) == 0 && (size_t)info.st_size == sizeof *state) {
    state = mmap(NULL, sizeof *state, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (state == MAP_FAILED) state = NULL;
  }
  close(fd);
  if (state != NULL && (state->magic != kMagic || state->version != kVersion)) {
    munmap(state, sizeof *state);
    state = NULL;
  }
  return state;
}

static pthread_once_t g_once = PTHREAD_ONCE_INIT;
static struct simgpu_state* g_state;

static void attach_once(void) {
  const char* path = getenv("HOLDFAST_SIMGPU_STATE");
  if (path != NULL && path[0] != '\0') g_state = simgpu_open(path);
}

struct simgpu_state* simgpu_attach(void) {
  pthread_once(&g_once, attach_once);
  return g_state;
}

void simgpu_lock(struct simgpu_state* state) {
  // Its last owner was killed. All that is guarded by it is valid after each single store, so it can simply go on.
  if (pthread_mutex_lock(&state->lock) == EOWNERDEAD) pthread_mutex_consistent(&state->lock);
}

void simgpu_unlock(struct simgpu_state* state) { pthread_mutex_unlock(&state->lock); }

// ---- processes -------------------------------------------------------------------------------------------------------------

/// Field 22 of /proc/PID/stat; 0 where the process is no more. One that has ended and was not waited for has given all back.
static uint64_t start_of(int pid) {
  char path[32];
  char text[1024];
  snprintf(path, sizeof path, "/proc/%d/stat", pid);
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return 0;
  ssize_t length = read(fd, text, sizeof text - 1);
  close(fd);
  if (length <= 0) return 0;
  text[length] = '\0';
  const char* at = strrchr(text, ')');  // A name may contain spaces and brackets.
  char ending = '\0';
  unsigned long long started = 0;
  if (at == NULL) return 0;
  int read_so_far =
      sscanf(at + 2, "%c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %*d %*d %llu", &ending, &started);
  return read_so_far == 2 && ending != 'Z' && ending != 'X' ? started : 0;
}

/// Of a process of this name space; 0 where it is no more, or not ours to ask.
static uint64_t space_of(const char* pid) {
  char path[300];
  struct stat found;
  snprintf(path, sizeof path, "/proc/%s/ns/pid", pid);
  return stat(path, &found) == 0 ? (uint64_t)found.st_ino : 0;
}

/// A process never changes its own.
static uint64_t own_space(void) {
  static _Atomic uint64_t known;
  uint64_t space = atomic_load_explicit(&known, memory_order_relaxed);
  if (space == 0) atomic_store_explicit(&known, space = space_of("self"), memory_order_relaxed);
  return space;
}

enum { SPACES = 512 };

/// The name spaces of the processes that can be seen from here, besides our own. Inside of a container that is none.
static int other_spaces(uint64_t own, uint64_t* found) {
  int count = 0;
  DIR* proc = opendir("/proc");
  if (proc == NULL) return 0;
  for (struct dirent* entry = readdir(proc); entry != NULL && count < SPACES; entry = readdir(proc)) {
    if (entry->d_name[0] < '1' || entry->d_name[0] > '9') continue;
    uint64_t space = space_of(entry->d_name);
    if (space != 0 && space != own) found[count++] = space;
  }
  closedir(proc);
  return count;
}

/// Whether a process of another name space may be there still. Who sees no other name space cannot tell; a machine's own
/// processes see those of all its containers.
static bool may_be_there(uint64_t space, const uint64_t* spaces, int count) {
  for (int i = 0; i < count; ++i) {
    if (spaces[i] == space) return true;
  }
  return count == 0 || count == SPACES;
}

static void sweep_locked(struct simgpu_state* state) {
  uint64_t own = own_space();
  uint64_t spaces[SPACES];
  int count = -1;
  for (int i = 0; i < SIMGPU_PROCESSES; ++i) {
    struct simgpu_process* process = &state->processes[i];
    if (process->pid == 0) continue;
    if (process->space != own) {
      if (count < 0) count = other_spaces(own, spaces);
      if (may_be_there(process->space, spaces, count)) continue;
    } else if (start_of(process->pid) == process->started) {
      continue;
    }
    struct simgpu_device* device = &state->devices[process->device];
    process->pid = 0;
    if (atomic_load(&device->sticks) != 0) {
      atomic_fetch_add(&device->stuck, process->bytes);
    } else {
      atomic_fetch_sub(&device->used, process->bytes);
    }
  }
}

void simgpu_sweep(struct simgpu_state* state) {
  simgpu_lock(state);
  sweep_locked(state);
  simgpu_unlock(state);
}

static struct simgpu_process* entry_of(struct simgpu_state* state, int pid, uint64_t space, int device) {
  struct simgpu_process* unused = NULL;
  for (int i = 0; i < SIMGPU_PROCESSES; ++i) {
    struct simgpu_process* process = &state->processes[i];
    if (process->pid == pid && process->space == space && process->device == device) return process;
    if (process->pid == 0 && unused == NULL) unused = process;
  }
  return unused;
}

bool simgpu_book(struct simgpu_state* state, int device, int64_t bytes) {
  struct simgpu_device* entry = &state->devices[device];
  simgpu_lock(state);
  if (bytes > 0 && atomic_load(&entry->used) + (uint64_t)bytes > entry->total) sweep_locked(state);
  bool fits = bytes <= 0 || atomic_load(&entry->used) + (uint64_t)bytes <= entry->total;
  uint64_t space = own_space();
  struct simgpu_process* process = fits ? entry_of(state, getpid(), space, device) : NULL;
  if (process != NULL) {
    if (process->pid == 0) {
      process->device = device;
      process->started = start_of(getpid());
      process->space = space;
      process->bytes = 0;
      process->pid = getpid();
    }
    process->bytes += (uint64_t)bytes;
    atomic_fetch_add(&entry->used, (uint64_t)bytes);
    if (process->bytes == 0) process->pid = 0;
  }
  simgpu_unlock(state);
  return process != NULL;
}

// ---- faults ----------------------------------------------------------------------------------------------------------------

static double now(void) {
  struct timespec at;
  clock_gettime(CLOCK_REALTIME, &at);
  return (double)at.tv_sec + 1e-9 * (double)at.tv_nsec;
}

static void tell_locked(struct simgpu_state* state, int device, int xid, bool double_bit) {
  uint64_t number = atomic_load(&state->events_written);
  struct simgpu_event* event = &state->events[number % SIMGPU_EVENTS];
  event->device = device;
  event->xid = xid;
  event->double_bit = double_bit;
  event->at = now();
  atomic_store(&state->events_written, number + 1);
}

void simgpu_tell(struct simgpu_state* state, int device, int xid, bool double_bit) {
  simgpu_lock(state);
  tell_locked(state, device, xid, double_bit);
  simgpu_unlock(state);
}

static void pause_for(uint64_t nanoseconds) {
  struct timespec left = {(time_t)(nanoseconds / 1000000000U), (long)(nanoseconds % 1000000000U)};
  while (nanosleep(&left, &left) != 0 && errno == EINTR) {
  }
}

static bool concerns(const struct simgpu_fault* fault, int device, const char* function) {
  return fault->kind != 0 && (fault->device < 0 || device < 0 || fault->device == device) && fault->times != 0 &&
         strncmp(function, fault->function, strlen(fault->function)) == 0;
}

int simgpu_strike(struct simgpu_state* state, int device, const char* function, bool* sticky) {
  int result = 0;
  *sticky = false;
  uint64_t delay = 0;
  int hang = -1;
  simgpu_lock(state);
  for (int i = 0; i < SIMGPU_FAULTS && result == 0; ++i) {
    struct simgpu_fault* fault = &state->faults[i];
    if (!concerns(fault, device, function)) continue;
    if (fault->skip > 0) {
      --fault->skip;
      continue;
    }
    if (fault->times > 0) --fault->times;
    ++fault->struck;
    if (fault->xid != 0) tell_locked(state, fault->device < 0 ? device : fault->device, fault->xid, false);
    if (fault->kind == SIMGPU_FAULT_SLOW) delay += fault->nanoseconds;
    if (fault->kind == SIMGPU_FAULT_HANG) hang = i;
    if (fault->kind == SIMGPU_FAULT_ERROR || fault->kind == SIMGPU_FAULT_STICKY) {
      result = fault->code;
      *sticky = fault->kind == SIMGPU_FAULT_STICKY;
    }
  }
  simgpu_unlock(state);
  if (delay > 0) pause_for(delay);
  while (hang >= 0 && state->faults[hang].kind == SIMGPU_FAULT_HANG) pause_for(2000000);
  return result;
}

// ---- visible devices -------------------------------------------------------------------------------------------------------

static bool is_whole(const struct simgpu_state* state, int index) {
  if (state->devices[index].parent >= 0) return false;
  for (uint32_t i = 0; i < atomic_load(&state->count); ++i) {
    if (state->devices[i].parent == index) return false;
  }
  return true;
}

/// Entry of a list: a number among the devices (not instances), or the beginning of a UUID, if only one begins so.
static int named(const struct simgpu_state* state, int vendor, const char* text, size_t length) {
  int count = (int)atomic_load(&state->count);
  if (length == 0) return -1;
  if (text[0] >= '0' && text[0] <= '9') {
    char* end = NULL;
    long number = strtol(text, &end, 10);
    if (end != text + length) return -1;
    for (int i = 0; i < count; ++i) {
      if (state->devices[i].vendor != vendor || state->devices[i].parent >= 0 || number-- > 0) continue;
      if (is_whole(state, i)) return i;
      for (int j = 0; j < count; ++j) {
        if (state->devices[j].parent == i) return j;  // Of a device that is divided: the first instance.
      }
    }
    return -1;
  }
  int found = -1;
  for (int i = 0; i < count; ++i) {
    if (state->devices[i].vendor != vendor || length < 5 || strncmp(state->devices[i].uuid, text, length) != 0) continue;
    if (found >= 0) return -1;
    found = i;
  }
  return found;
}

int simgpu_visible(struct simgpu_state* state, int vendor, const char* list, int* found) {
  int count = 0;
  int all = (int)atomic_load(&state->count);
  if (list == NULL) {
    for (int i = 0; i < all; ++i) {
      if (state->devices[i].vendor == vendor && is_whole(state, i) && state->devices[i].parent < 0) found[count++] = i;
    }
    // A process sees one instance at most, and that only where no whole device is.
    for (int i = 0; i < all && count == 0; ++i) {
      if (state->devices[i].vendor == vendor && state->devices[i].parent >= 0) found[count++] = i;
    }
    return count;
  }
  for (const char* at = list; *at != '\0';) {
    size_t length = strcspn(at, ",");
    const char* next = at + length + (at[length] == ',' ? 1 : 0);
    while (length > 0 && *at == ' ') ++at, --length;
    while (length > 0 && at[length - 1] == ' ') --length;
    int index = named(state, vendor, at, length);
    if (index < 0 || count == SIMGPU_DEVICES) break;
    for (int i = 0; i < count; ++i) {
      if (found[i] == index) return SIMGPU_NAMED_TWICE;
    }
    found[count++] = index;
    at = next;
  }
  return count;
}

// ---- control: what `holdfast simgpu` does ----------------------------------------------------------------------------------

int holdfast_simgpu_create(const char* path) {
  int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  if (fd < 0) return errno;
  struct simgpu_state* state = MAP_FAILED;
  if (ftruncate(fd, sizeof *state) == 0) state = mmap(NULL, sizeof *state, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  int problem = errno;
  close(fd);
  if (state == MAP_FAILED) return problem;
  pthread_mutexattr_t attributes;
  pthread_mutexattr_init(&attributes);
  pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
  pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
  pthread_mutex_init(&state->lock, &attributes);
  pthread_mutexattr_destroy(&attributes);
  state->version = kVersion;
  state->magic = kMagic;
  munmap(state, sizeof *state);
  return 0;
}

int holdfast_simgpu_add(const char* path, const struct holdfast_simgpu_device* device) {
  struct simgpu_state* state = simgpu_open(path);
  if (state == NULL) return EINVAL;
  uint32_t index = atomic_load(&state->count);
  int problem = index < SIMGPU_DEVICES ? 0 : ENOSPC;
  if (problem == 0) {
    struct simgpu_device* entry = &state->devices[index];
    snprintf(entry->name, sizeof entry->name, "%s", device->name);
    snprintf(entry->uuid, sizeof entry->uuid, "%s", device->uuid);
    memcpy(entry->uuid_bytes, device->uuid_bytes, sizeof entry->uuid_bytes);
    entry->total = device->total;
    entry->vendor = device->vendor;
    entry->parent = device->parent;
    entry->slice = device->slice;
    entry->numa = device->numa;
    entry->major = device->major;
    entry->minor = device->minor;
    entry->domain = device->domain;
    entry->bus = device->bus;
    entry->slot = device->slot;
    atomic_store(&state->count, index + 1);
  }
  munmap(state, sizeof *state);
  return problem;
}

static uint32_t count_armed(const struct simgpu_state* state) {
  uint32_t armed = 0;
  for (int i = 0; i < SIMGPU_FAULTS; ++i) armed += state->faults[i].kind != 0;
  for (uint32_t i = 0; i < atomic_load(&state->count); ++i) armed += atomic_load(&state->devices[i].lost) != 0;
  return armed;
}

int holdfast_simgpu_arm(const char* path, const struct holdfast_simgpu_fault* wanted) {
  struct simgpu_state* state = simgpu_open(path);
  if (state == NULL) return EINVAL;
  int problem = ENOSPC;
  simgpu_lock(state);
  for (int i = 0; i < SIMGPU_FAULTS && problem != 0; ++i) {
    struct simgpu_fault* fault = &state->faults[i];
    if (fault->kind != 0) continue;
    fault->device = wanted->device;
    snprintf(fault->function, sizeof fault->function, "%s", wanted->function);
    fault->code = wanted->code;
    fault->xid = wanted->xid;
    fault->skip = wanted->skip;
    fault->times = wanted->times;
    fault->struck = 0;
    fault->nanoseconds = wanted->nanoseconds;
    fault->kind = wanted->kind;
    problem = 0;
  }
  atomic_store(&state->armed, count_armed(state));
  simgpu_unlock(state);
  munmap(state, sizeof *state);
  return problem;
}

int holdfast_simgpu_change(const char* path, int device, const char* what, int value) {
  struct simgpu_state* state = simgpu_open(path);
  if (state == NULL) return EINVAL;
  int problem = 0;
  if (device < 0 || device >= (int)atomic_load(&state->count)) {
    munmap(state, sizeof *state);
    return ENODEV;
  }
  struct simgpu_device* entry = &state->devices[device];
  simgpu_lock(state);
  sweep_locked(state);
  if (strcmp(what, "lost") == 0) {
    atomic_store(&entry->lost, 1);
    tell_locked(state, device, 79, false);
  } else if (strcmp(what, "ecc") == 0) {
    atomic_fetch_add(&entry->uncorrected, (uint64_t)value);
    tell_locked(state, device, 0, true);
    tell_locked(state, device, 48, false);
  } else if (strcmp(what, "ecc-corrected") == 0) {
    atomic_fetch_add(&entry->corrected, (uint64_t)value);
    tell_locked(state, device, 0, false);
  } else if (strcmp(what, "xid") == 0) {
    tell_locked(state, device, value, false);
  } else if (strcmp(what, "stuck") == 0) {
    atomic_store(&entry->sticks, 1);
  } else if (strcmp(what, "heal") == 0) {
    for (int i = 0; i < SIMGPU_FAULTS; ++i) {
      if (state->faults[i].device == device) state->faults[i].kind = 0;
    }
    atomic_store(&entry->lost, 0);
    atomic_store(&entry->sticks, 0);
    atomic_store(&entry->corrected, 0);
    atomic_store(&entry->uncorrected, 0);
    atomic_fetch_sub(&entry->used, atomic_exchange(&entry->stuck, 0));
  } else {
    problem = EINVAL;
  }
  atomic_store(&state->armed, count_armed(state));
  simgpu_unlock(state);
  munmap(state, sizeof *state);
  return problem;
}

long holdfast_simgpu_status(const char* path, char* text, size_t size) {
  struct simgpu_state* state = simgpu_open(path);
  if (state == NULL) return -1;
  simgpu_sweep(state);
  size_t length = 0;
#define PRINT(...) \
  length += (size_t)snprintf(length < size ? text + length : NULL, length < size ? size - length : 0, __VA_ARGS__)
  for (uint32_t i = 0; i < atomic_load(&state->count); ++i) {
    struct simgpu_device* device = &state->devices[i];
    PRINT("device\t%u\t%s\t%s\t%llu\t%llu\t%llu\t%u\t%u\t%llu\t%llu\t%d\t%d\t%d\n", i, device->name, device->uuid,
          (unsigned long long)device->total, (unsigned long long)atomic_load(&device->used),
          (unsigned long long)atomic_load(&device->stuck), atomic_load(&device->lost), atomic_load(&device->sticks),
          (unsigned long long)atomic_load(&device->corrected), (unsigned long long)atomic_load(&device->uncorrected),
          device->parent, device->numa, device->vendor);
  }
  simgpu_lock(state);
  for (int i = 0; i < SIMGPU_PROCESSES; ++i) {
    const struct simgpu_process* process = &state->processes[i];
    if (process->pid != 0) PRINT("process\t%d\t%d\t%llu\n", process->device, process->pid, (unsigned long long)process->bytes);
  }
  for (int i = 0; i < SIMGPU_FAULTS; ++i) {
    const struct simgpu_fault* fault = &state->faults[i];
    if (fault->kind == 0) continue;
    PRINT("fault\t%d\t%d\t%s\t%d\t%lld\t%lld\n", fault->device, fault->kind, fault->function, fault->code,
          (long long)fault->times, (long long)fault->struck);
  }
  uint64_t written = atomic_load(&state->events_written);
  for (uint64_t i = written > SIMGPU_EVENTS ? written - SIMGPU_EVENTS : 0; i < written; ++i) {
    const struct simgpu_event* event = &state->events[i % SIMGPU_EVENTS];
    PRINT("event\t%d\t%d\t%d\t%.3f\n", event->device, event->xid, event->double_bit, event->at);
  }
  simgpu_unlock(state);
#undef PRINT
  munmap(state, sizeof *state);
  return (long)length;
}
