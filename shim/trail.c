// trail: notes what a test makes outside of its own directories: temporary files, and names in /dev/shm.
//
// An audit hook of Python's (PEP 578), installed with ctypes by python/holdfast/trail.py: which process has made a file is
// known at this moment only, /tmp does not tell it later. Forks of the process write to the same shared page, and the engine
// reads it when the process has died (protocol/slate.md). In C, and with the two most frequent events looked at first, since
// Python calls it some hundred times a test.
//
// It is blind to files that native code makes, and to those of programs that the test starts.
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
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
