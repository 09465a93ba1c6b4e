#define _GNU_SOURCE
#include "control.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "page.h"
#include "wishes.h"

static uint64_t clock_now(clockid_t which) {
  struct timespec time;
  clock_gettime(which, &time);
  return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

static struct hf_control* fail(int fd, const char* path, const char* what, char* problem, size_t size) {
  snprintf(problem, size, "%s: %s", path, what);
  if (fd >= 0) close(fd);
  return NULL;
}

static struct hf_control* map(int fd, const char* path, size_t bytes, char* problem, size_t size) {
  void* at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (at == MAP_FAILED) return fail(fd, path, strerror(errno), problem, size);
  struct hf_control* control = malloc(sizeof *control);
  if (control == NULL) {
    munmap(at, bytes);
    return fail(fd, path, strerror(ENOMEM), problem, size);
  }
  *control = (struct hf_control){fd, bytes, at};
  return control;
}

struct hf_control* hf_control_create(const char* path, uint32_t rows, char* problem, size_t size) {
  enum { ROWS = 4096, MOST_ROWS = 1 << 20 };
  if (rows == 0) rows = ROWS;
  if (rows > MOST_ROWS) return fail(-1, path, "that is too much room for counters", problem, size);
  int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  if (fd < 0) return fail(-1, path, strerror(errno), problem, size);
  size_t bytes = hf_block_size(rows);
  if (ftruncate(fd, (off_t)bytes) != 0) return fail(fd, path, strerror(errno), problem, size);
  struct hf_control* control = map(fd, path, bytes, problem, size);
  if (control == NULL) return NULL;
  struct hf_block* block = control->block;
  block->version = HF_VERSION;
  block->functions = HF_FUNCTION_COUNT;
  block->rows = rows;
  block->created = clock_now(CLOCK_REALTIME);
  atomic_store(&block->next_id, 1);
  __atomic_store_n(&block->magic, HF_MAGIC, __ATOMIC_RELEASE);
  return control;
}

struct hf_control* hf_control_open(const char* path, char* problem, size_t size) {
  int fd = open(path, O_RDWR | O_CLOEXEC);
  if (fd < 0) return fail(-1, path, strerror(errno), problem, size);
  struct stat info;
  if (fstat(fd, &info) != 0) return fail(fd, path, strerror(errno), problem, size);
  if ((uint64_t)info.st_size < sizeof(struct hf_block)) return fail(fd, path, "not a page for faults", problem, size);
  struct hf_control* control = map(fd, path, (size_t)info.st_size, problem, size);
  if (control == NULL) return NULL;
  if (!hf_block_is_sound(control->block, control->bytes)) {
    hf_control_close(control);
    return fail(-1, path, "not a page for faults, or one of another version of Holdfast", problem, size);
  }
  return control;
}

void hf_control_close(struct hf_control* control) {
  munmap(control->block, control->bytes);
  close(control->fd);
  free(control);
}

/// A place that was never used, else that of the fault that was healed first.
static int place_for(const struct hf_block* block) {
  uint64_t armed = atomic_load(&block->armed);
  int oldest = -1;
  for (int i = 0; i < HF_FAULTS; ++i) {
    uint64_t id = atomic_load(&block->faults[i].id);
    if (id == 0) return i;
    bool is_free = (armed >> i & 1) == 0 && block->faults[i].healed != 0;
    if (is_free && (oldest < 0 || block->faults[i].healed < block->faults[oldest].healed)) oldest = i;
  }
  return oldest;
}

static int64_t write_fault(struct hf_control* control, struct hf_fault* fault, int armed, char* problem, size_t size) {
  struct hf_block* block = control->block;
  int place = place_for(block);
  if (!hf_fault_fits(block, fault, problem, size)) return -1;
  if (place < 0) {
    snprintf(problem, size, "%d faults are there already, and none is healed; heal one first", HF_FAULTS);
    return -1;
  }
  struct hf_fault* to = &block->faults[place];
  // Readers take an id of 0, or one that changes under their eyes, for no fault.
  atomic_store(&to->id, 0);
  uint64_t id = atomic_fetch_add(&block->next_id, 1);
  size_t head = offsetof(struct hf_fault, kind);
  memcpy((char*)to + head, (const char*)fault + head, sizeof *to - head);
  atomic_store_explicit(&to->id, id, memory_order_release);
  if (armed) atomic_fetch_or(&block->armed, UINT64_C(1) << place);
  return (int64_t)id;
}

int hf_control_check(const struct hf_wish* wish, char* problem, size_t size) {
  struct hf_fault fault;
  return hf_fault_from(wish, &fault, problem, size) ? 0 : -1;
}

int64_t hf_control_add(struct hf_control* control, const struct hf_wish* wish, int armed, char* problem, size_t size) {
  struct hf_fault fault;
  if (!hf_fault_from(wish, &fault, problem, size)) return -1;
  if (wish->wait_ns != 0) fault.from = clock_now(CLOCK_MONOTONIC) + wish->wait_ns;
  // One writer at a time. The kernel takes the lock back from one that dies.
  if (flock(control->fd, LOCK_EX) != 0) {
    snprintf(problem, size, "cannot lock the page: %s", strerror(errno));
    return -1;
  }
  int64_t id = write_fault(control, &fault, armed, problem, size);
  flock(control->fd, LOCK_UN);
  return id;
}

static int place_of(const struct hf_block* block, int64_t id) {
  for (int i = 0; i < HF_FAULTS; ++i) {
    if (id > 0 && atomic_load(&block->faults[i].id) == (uint64_t)id) return i;
  }
  return -1;
}

static void wake_all(struct hf_block* block) {
  atomic_fetch_add(&block->wake, 1);
  syscall(SYS_futex, &block->wake, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

int hf_control_switch(struct hf_control* control, int64_t id, int on) {
  struct hf_block* block = control->block;
  int place = place_of(block, id);
  if (place < 0) return -1;
  uint64_t bit = UINT64_C(1) << place;
  if (on) {
    block->faults[place].healed = 0;
    atomic_fetch_or(&block->armed, bit);
  } else {
    atomic_fetch_and(&block->armed, ~bit);
    wake_all(block);
  }
  return 0;
}

int hf_control_heal(struct hf_control* control, int64_t id) {
  int place = place_of(control->block, id);
  if (place < 0) return -1;
  hf_control_switch(control, id, 0);
  atomic_store(&control->block->faults[place].latched, 0);
  control->block->faults[place].healed = clock_now(CLOCK_MONOTONIC);
  return 0;
}

void hf_control_heal_all(struct hf_control* control) {
  struct hf_block* block = control->block;
  atomic_store(&block->armed, 0);
  for (int i = 0; i < HF_FAULTS; ++i) {
    atomic_store(&block->faults[i].latched, 0);
    block->faults[i].healed = clock_now(CLOCK_MONOTONIC);
  }
  wake_all(block);
}
