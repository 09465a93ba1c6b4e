// The start: which page this process looks at; forks.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "page.h"
#include "seed.h"
#include "shim.h"

static const _Atomic uint64_t always = 1;
const _Atomic uint64_t* hf_gate = &always;  // Until we have a page, and from when a fault has struck.
struct hf_block* hf_block;
int32_t hf_pid, hf_rank = -1;

void hf_look_always(void) { __atomic_store_n(&hf_gate, &always, __ATOMIC_RELEASE); }

static int32_t rank_from_environment(void) {
  static const char* const kNames[] = {"HOLDFAST_RANK", "PMIX_RANK", "PMI_RANK", "OMPI_COMM_WORLD_RANK", "SLURM_PROCID"};
  for (size_t i = 0; i < sizeof kNames / sizeof kNames[0]; ++i) {
    const char* text = getenv(kNames[i]);
    char* end;
    long rank = text != NULL ? strtol(text, &end, 10) : -1;
    if (text != NULL && end != text && *end == '\0' && rank >= 0 && rank < INT32_MAX) return (int32_t)rank;
  }
  return -1;
}

/// NULL with errno; EPROTO: not such a page, or one of another version.
static struct hf_block* map_file(const char* path) {
  int fd = open(path, O_RDWR | O_CLOEXEC);
  if (fd < 0) return NULL;
  struct stat info;
  struct hf_block* block = NULL;
  errno = EPROTO;
  if (fstat(fd, &info) == 0 && (uint64_t)info.st_size >= sizeof(struct hf_block)) {
    void* at = mmap(NULL, (size_t)info.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    block = at != MAP_FAILED ? at : NULL;
  }
  if (block != NULL && !hf_block_is_sound(block, (uint64_t)info.st_size)) {
    munmap(block, (size_t)info.st_size);
    block = NULL;
    errno = EPROTO;
  }
  int problem = errno;
  close(fd);
  errno = problem;
  return block;
}

/// A page that nobody else sees: nothing is armed on it but what the environment asks for.
static struct hf_block* make_private(void) {
  enum { ROWS = 64 };
  void* at = mmap(NULL, hf_block_size(ROWS), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (at == MAP_FAILED) {
    static struct hf_block* least;  // Never NULL: there is no memory, and the program must not fail for us.
    static _Alignas(64) unsigned char room[sizeof(struct hf_block) + sizeof(struct hf_row)];
    least = (struct hf_block*)room;
    least->rows = 1;
    return least;
  }
  struct hf_block* block = at;
  block->rows = ROWS;
  block->functions = HF_FUNCTION_COUNT;
  return block;
}

static void in_child(void) {
  hf_pid = getpid();
  hf_rows_forked();
  hf_strikes_forked();
  hf_seed_forked();
}

static void use(struct hf_block* block) {
  atomic_fetch_add(&block->attached, 1);
  hf_block = block;
  __atomic_store_n(&hf_gate, &block->armed, __ATOMIC_RELEASE);
}

static void attach(void) {
  hf_pid = getpid();
  hf_rank = rank_from_environment();
  hf_rows_start();
  pthread_atfork(NULL, NULL, in_child);
  const char* path = getenv(HF_VARIABLE);
  struct hf_block* block = path != NULL && path[0] != '\0' ? map_file(path) : NULL;
  if (path != NULL && path[0] != '\0' && block == NULL) {
    fprintf(stderr, "holdfast: no faults in process %d: " HF_VARIABLE "=%s: %s\n", (int)hf_pid, path,
            errno == EPROTO ? "not a page for faults, or one of another version" : strerror(errno));
  }
  bool own = block == NULL;
  if (own) block = make_private();
  if (own) hf_seed_start(block);
  use(block);
}

void hf_attach_once(void) {
  static pthread_once_t once = PTHREAD_ONCE_INIT;
  if (__atomic_load_n(&hf_block, __ATOMIC_ACQUIRE) == NULL) pthread_once(&once, attach);
}

__attribute__((constructor(102))) static void start(void) { hf_attach_once(); }

/// For a process that was forked from one with the shim in it: takes another page, for its calls from now on. Threads that it
/// already has go on counting on the old one. Returns 0, or an error number (EPROTO: not such a page).
__attribute__((visibility("default"))) int holdfast_faults_attach(const char* path) {
  hf_attach_once();
  struct hf_block* block = map_file(path);
  if (block == NULL) return errno;
  hf_rank = rank_from_environment();
  hf_rows_forked();
  use(block);
  return 0;
}
