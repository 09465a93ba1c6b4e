// trail: notes what a test makes outside of its own directories: temporary files, and names in /dev/shm.
//
// An audit hook of Python's (PEP 578), installed with ctypes by python/holdfast/trail.py: which process has made a file is
// known at this moment only, /tmp does not tell it later. Forks of the process write to the same shared page, and the engine
// reads it when the process has died (protocol/slate.md). In C, and with the two most frequent events looked at first, since
// Python calls it some hundred times a test.
//
// It also looks, before and after a test, whether anything is there at all that Python should look at more closely
// (python/holdfast/leaks.py): Python code that runs for the first time in a fork costs half a millisecond of copied pages.
//
// It is blind to files that native code makes, and to those of programs that the test starts.
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

struct trail {
  _Atomic uint32_t used;  // Bytes of `entries`, or more than there are if some were lost.
  uint32_t reserved;
  char entries[];  // A letter and a path, ended by a zero, each.
};

// Python's functions, by address: this library is built without Python's headers, for all versions alike.
struct python {
  void* (*tuple_item)(void* tuple, ptrdiff_t index);  // A borrowed reference.
  const char* (*text)(void* object, ptrdiff_t* size);
  long (*number)(void* object);
  void (*forget_error)(void);
};

// Where it looks, and does not: the first letter of each says for what (trail_arm).
enum { kPlaces = 16, kPlaceSize = 512 };

static struct trail* trail;
static size_t room;
static struct python python;
static char places[kPlaces][kPlaceSize];
static int count;

static void note(char kind, const char* path) {
  size_t size = strlen(path) + 2;
  uint32_t at = atomic_fetch_add(&trail->used, (uint32_t)size);
  if (size > room || at > room - size) return;
  trail->entries[at] = kind;
  memcpy(trail->entries + at + 1, path, size - 1);
}

static int is_below(const char* path, char kind) {
  for (int i = 0; i < count; ++i) {
    size_t size = strlen(places[i] + 1);
    if (places[i][0] == kind && strncmp(path, places[i] + 1, size) == 0 && path[size] == '/') return 1;
  }
  return 0;
}

static const char* text_at(void* args, ptrdiff_t index) {
  ptrdiff_t size = 0;
  const char* text = python.text(python.tuple_item(args, index), &size);
  // Bytes, a descriptor, a name that is no text: not what people call a temporary file.
  if (text == NULL) python.forget_error();
  return text;
}

static void note_new(void* args) {
  const char* path = text_at(args, 0);
  if (path == NULL || !is_below(path, '+') || is_below(path, '-') || is_below(path, '~')) return;
  if (access(path, F_OK) != 0) note('o', path);
}

static void note_temporary(void* args) {
  const char* path = text_at(args, 0);
  if (path != NULL && path[0] == '/' && !is_below(path, '-')) note('t', path);
}

static void note_mapping(void* args) {
  long fd = python.number(python.tuple_item(args, 0));
  if (fd < 0) {
    python.forget_error();
    return;
  }
  char link[64];
  char target[512];
  snprintf(link, sizeof link, "/proc/self/fd/%ld", fd);
  ssize_t size = readlink(link, target, sizeof target - 1);
  if (size <= 0) return;
  target[size] = 0;
  if (strncmp(target, "/dev/shm/", 9) == 0 && strstr(target, " (deleted)") == NULL) note('s', target);
}

static int on_event(const char* event, void* args, void* user) {
  (void)user;
  if (event[0] == 'o' && strcmp(event, "open") == 0) {
    long flags = python.number(python.tuple_item(args, 2));
    if (flags == -1) python.forget_error();
    if (flags != -1 && (flags & O_CREAT) != 0) note_new(args);
  } else if (event[0] == 't' && (strcmp(event, "tempfile.mkstemp") == 0 || strcmp(event, "tempfile.mkdtemp") == 0)) {
    note_temporary(args);
  } else if (event[0] == 'm' && strcmp(event, "mmap.__new__") == 0) {
    note_mapping(args);
  } else if (event[0] == 'o' && strcmp(event, "os.mkdir") == 0) {
    note_new(args);
  }
  return 0;
}

// ---- the look before and after a test --------------------------------------------------------------------------------------

// What was there before: names in /dev/shm, each ended by a zero, for those who want to compare; and sums, for the quick look.
enum { kNames = 16384 };
static char names[kNames];
static size_t names_size;
static uint64_t names_sum, segments_sum;
static long threads, descriptors;

struct entry {  // What getdents64(2) fills in.
  uint64_t inode;
  int64_t offset;
  unsigned short size;
  unsigned char type;
  char name[];
};

static uint64_t hash(const char* text) {
  uint64_t value = 1469598103934665603ULL;  // FNV-1a.
  for (; *text != 0; ++text) value = (value ^ (unsigned char)*text) * 1099511628211ULL;
  return value;
}

// The sum of the hashes of all names in a directory; `keep`: the names are kept too, as far as there is room.
static uint64_t sum_of(const char* path, int keep) {
  char buffer[4096] __attribute__((aligned(8)));
  uint64_t sum = 0;
  int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return 0;
  if (keep) names_size = 0;
  for (long n; (n = syscall(SYS_getdents64, fd, buffer, sizeof buffer)) > 0;) {
    for (long at = 0; at < n;) {
      const struct entry* entry = (const struct entry*)(buffer + at);
      size_t size = strlen(entry->name) + 1;
      sum += hash(entry->name);
      if (keep && names_size + size <= kNames) {
        memcpy(names + names_size, entry->name, size);
        names_size += size;
      }
      at += entry->size;
    }
  }
  close(fd);
  return sum;
}

// Of the System V segments that this process has made: the fifth field of a line is the maker (sysvipc(7)).
static uint64_t sum_of_segments(void) {
  char text[8192];
  int fd = open("/proc/sysvipc/shm", O_RDONLY | O_CLOEXEC);
  if (fd < 0) return 0;
  ssize_t size = read(fd, text, sizeof text - 1);
  close(fd);
  uint64_t sum = 0;
  if (size <= 0) return 0;
  text[size] = 0;
  for (char* line = strchr(text, '\n'); line != NULL && line[1] != 0; line = strchr(line + 1, '\n')) {
    long key, id, bytes, maker;
    char rights[16];
    if (sscanf(line + 1, "%ld %ld %15s %ld %ld", &key, &id, rights, &bytes, &maker) == 5 && maker == getpid())
      sum += (uint64_t)id + 1;
  }
  return sum;
}

// Entries of a directory of /proc. Linux 6.2 and later tell the number of descriptors as its size.
static long count_of(const char* path, int by_links) {
  struct stat status;
  if (stat(path, &status) != 0) return 0;
  if (by_links) return (long)status.st_nlink;
  if (status.st_size > 0) return (long)status.st_size;
  return (long)(sum_of(path, 0) & 0x7fffffff);
}

/// What threads and descriptors there are now is not the next test's doing.
__attribute__((visibility("default"))) void trail_learn(void) {
  threads = count_of("/proc/self/task", 1);
  descriptors = count_of("/proc/self/fd", 0);
}

/// A test begins.
__attribute__((visibility("default"))) void trail_begin(void) {
  names_sum = sum_of("/dev/shm", 1);
  segments_sum = sum_of_segments();
}

/// Whether a test may have left something: threads 1, descriptors 2, names in /dev/shm 4, files 8, segments 16.
__attribute__((visibility("default"))) int trail_end(void) {
  int found = 0;
  if (count_of("/proc/self/task", 1) != threads) found |= 1;
  if (count_of("/proc/self/fd", 0) != descriptors) found |= 2;
  if (sum_of("/dev/shm", 0) != names_sum) found |= 4;
  if (trail != NULL && trail->used != 0) found |= 8;
  if (sum_of_segments() != segments_sum) found |= 16;
  return found;
}

/// The names that were in /dev/shm when the test began; `size` bytes.
__attribute__((visibility("default"))) const char* trail_names(size_t* size) {
  *size = names_size;
  return names;
}

/// Notes on `page` of `size` bytes, which must stay mapped, from now on. `places`: directories with a letter before each: '+'
/// below them new files are noted, but not '~' below those; '-' below those nothing is. `add` is PySys_AddAuditHook, or NULL
/// where the hook has been added before (it cannot be taken away). Returns 0, or -1 where Python refuses.
__attribute__((visibility("default"))) int trail_arm(void* page, size_t size, const struct python* functions,
                                                     const char* const* given,
                                                     int (*add)(int (*)(const char*, void*, void*), void*)) {
  trail = page;
  room = size - offsetof(struct trail, entries);
  python = *functions;
  count = 0;
  for (; *given != NULL && count < kPlaces; ++given) {
    if (strlen(*given) < kPlaceSize) strcpy(places[count++], *given);
  }
  return add == NULL ? 0 : add(on_event, NULL);
}
