// CUDA_FAULT_INJECTION_ENABLED=0|1 and CUDA_XID_TYPE (79), and a marker file whose first byte, `1` or not, overrides the former
// at any time: /host-fault/cuda_fault_enabled, or if there is none /tmp/cuda_fault_enabled. No call opens it: a thread waits
// for changes of the folders (inotify), and looks twice a second in case that a folder comes to be.
#define _GNU_SOURCE
#include "seed.h"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/inotify.h>
#include <unistd.h>

#include "functions.h"
#include "shim.h"
#include "xids.h"

static struct hf_block* watched_block;
static _Atomic uint32_t watching;
static bool at_first;
static const char* const kFolders[] = {"/host-fault", "/tmp"};

static void switch_to(bool on) {
  if (on) {
    atomic_fetch_or(&watched_block->armed, 1);
  } else {
    atomic_fetch_and(&watched_block->armed, ~UINT64_C(1));
  }
}

/// -1: there is no marker.
static int read_marker(void) {
  for (size_t i = 0; i < sizeof kFolders / sizeof kFolders[0]; ++i) {
    char path[64], byte = '0';
    snprintf(path, sizeof path, "%s/cuda_fault_enabled", kFolders[i]);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) continue;
    ssize_t got = read(fd, &byte, 1);
    close(fd);
    return got == 1 && byte == '1';
  }
  return -1;
}

static void look(void) {
  int marker = read_marker();
  switch_to(marker >= 0 ? marker == 1 : at_first);
}

static void* watch(void* unused) {
  (void)unused;
  int changes = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
  for (;;) {
    for (size_t i = 0; changes >= 0 && i < sizeof kFolders / sizeof kFolders[0]; ++i) {
      inotify_add_watch(changes, kFolders[i], IN_CLOSE_WRITE | IN_MOVED_TO | IN_DELETE);
    }
    look();
    struct pollfd wait = {changes, POLLIN, 0};
    poll(&wait, 1, 500);
    char events[4096];
    while (changes >= 0 && read(changes, events, sizeof events) > 0) {
    }
  }
  return NULL;
}

void hf_seed_start(struct hf_block* block) {
  const char* enabled = getenv("CUDA_FAULT_INJECTION_ENABLED");
  if (enabled == NULL) return;
  const char* wish = getenv("CUDA_XID_TYPE");
  const struct hf_xid* xid = hf_xid(wish != NULL ? atoi(wish) : 79);
  if (xid == NULL) {
    fprintf(stderr, "holdfast: CUDA_XID_TYPE=%s is not an XID that can be imitated; 79 is taken\n", wish);
    xid = hf_xid(79);
  }
  struct hf_fault* fault = &block->faults[0];
  fault->kind = HF_ERROR;
  fault->reach = xid->reach;
  snprintf(fault->name, sizeof fault->name, "XID %d (CUDA_XID_TYPE)", xid->xid);
  fault->pid = fault->rank = fault->device = -1;
  const char* device = getenv("CUDA_FAULT_GPU_ID");
  if (device != NULL && device[0] >= '0' && device[0] <= '9') fault->device = atoi(device);
  for (uint32_t i = 0; i < HF_FUNCTION_COUNT; ++i) {
    if (hf_uses_device(i) || hf_group_of(i) == HF_GROUP_DEVICE) fault->functions[i / 64] |= UINT64_C(1) << (i % 64);
  }
  fault->codes[HF_DRIVER] = xid->driver;
  fault->codes[HF_RUNTIME] = xid->runtime;
  fault->codes[HF_NVML] = xid->nvml;
  fault->xid = xid->xid;
  fault->probability = 1;
  atomic_store(&fault->id, 1);
  watched_block = block;
  at_first = strcmp(enabled, "1") == 0 || strcasecmp(enabled, "true") == 0;
  look();
}

void hf_seed_watch(void) {
  uint32_t none = 0;
  if (watched_block == NULL || atomic_load_explicit(&watching, memory_order_relaxed) != 0 ||
      !atomic_compare_exchange_strong(&watching, &none, 1))
    return;
  // The thread takes no signal that is meant for the program.
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  pthread_t thread;
  if (pthread_create(&thread, NULL, watch, NULL) == 0) pthread_detach(thread);
  pthread_sigmask(SIG_SETMASK, &before, NULL);
}

void hf_seed_forked(void) { atomic_store(&watching, 0); }
