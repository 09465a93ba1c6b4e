// Where the real functions are, and dlsym(), by which many clients look for them.
//
// The usual way of a shim, RTLD_NEXT, does not see a library that came in by dlopen(..., RTLD_LOCAL), or as a dependency of
// such a one. So the caller's own library is asked as well, then those that are loaded under the names that NVIDIA gives them.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <string.h>

#include "shim.h"

typedef void* (*dlsym_function)(void*, const char*);

// The only version of it that every glibc of the machine has, whatever it says by default:
// https://www.gnu.org/software/gnulibc.
#if defined(__x86_64__)
#define DLSYM_VERSION "GLIBC_2.2.5"
#else
#define DLSYM_VERSION "GLIBC_2.17"
#endif

static dlsym_function real_dlsym(void) {
  static _Atomic(dlsym_function) found;
  dlsym_function function = atomic_load_explicit(&found, memory_order_relaxed);
  if (function == NULL) {
    function = (dlsym_function)(uintptr_t)dlvsym(RTLD_NEXT, "dlsym", DLSYM_VERSION);
    atomic_store_explicit(&found, function, memory_order_relaxed);
  }
  return function;
}

static bool is_ours(const void* address) {
  return (const char*)address >= hf_entries_begin && (const char*)address < hf_entries_end;
}

/// By the library that `address` lies in, and what that one has loaded.
static const void* through_library_of(const void* address, const char* symbol) {
  Dl_info info;
  if (address == NULL || dladdr(address, &info) == 0 || info.dli_fname == NULL) return NULL;
  void* library = dlopen(info.dli_fname, RTLD_LAZY | RTLD_NOLOAD);
  if (library == NULL) return NULL;
  const void* found = real_dlsym()(library, symbol);
  dlclose(library);
  return found;
}

static const void* through_known_names(const char* symbol) {
  static const char* const kDriver[] = {"libcuda.so.1", "libcuda.so", NULL};
  static const char* const kRuntime[] = {"libcudart.so.13", "libcudart.so.12", "libcudart.so.11.0", "libcudart.so", NULL};
  static const char* const kNvml[] = {"libnvidia-ml.so.1", "libnvidia-ml.so", NULL};
  bool nvml = symbol[0] == 'n', runtime = strncmp(symbol, "cuda", 4) == 0 || symbol[0] == '_';
  for (const char* const* name = nvml ? kNvml : runtime ? kRuntime : kDriver; *name != NULL; ++name) {
    void* library = dlopen(*name, RTLD_LAZY | RTLD_NOLOAD);
    if (library == NULL) continue;
    const void* found = real_dlsym()(library, symbol);
    dlclose(library);
    if (found != NULL && !is_ours(found)) return found;
  }
  return NULL;
}

static const void* look_for(const char* symbol, const void* caller) {
  const void* found = real_dlsym()(RTLD_NEXT, symbol);
  if (found == NULL || is_ours(found)) found = through_library_of(caller, symbol);
  if (found == NULL || is_ours(found)) found = through_known_names(symbol);
  return found == NULL || is_ours(found) ? NULL : found;
}

/// The library of a real function stays: who closes it (the CUDA runtime does so where it can't start) must not leave us with
/// its address.
static void keep_library_of(const void* real) {
  enum { LIBRARIES = 16 };
  static _Atomic(const void*) kept[LIBRARIES];
  Dl_info info;
  if (dladdr(real, &info) == 0 || info.dli_fname == NULL) return;
  for (int i = 0; i < LIBRARIES; ++i) {
    const void* base = NULL;
    if (atomic_compare_exchange_strong(&kept[i], &base, info.dli_fbase)) break;
    if (base == info.dli_fbase) return;
  }
  dlopen(info.dli_fname, RTLD_LAZY | RTLD_NOLOAD | RTLD_NODELETE);
}

void hf_bind(uint32_t entry, const void* real) {
  keep_library_of(real);
  atomic_store_explicit(&hf_entry_real[entry], real, memory_order_release);
  if ((hf_traits_of(hf_entry_function[entry]) & (SPECIAL | SWITCHES)) == 0)
    __atomic_store_n(&hf_entry_fast[entry], real, __ATOMIC_RELEASE);
}

const void* hf_real(uint32_t entry, const void* caller) {
  const void* real = atomic_load_explicit(&hf_entry_real[entry], memory_order_acquire);
  if (real != NULL || entry >= hf_symbol_count) return real;
  real = look_for(hf_symbol(entry), caller);
  if (real != NULL) hf_bind(entry, real);
  return real;
}

const void* hf_real_named(const char* symbol) {
  int entry = hf_entry_of(symbol);
  return entry < 0 ? NULL : hf_real((uint32_t)entry, NULL);
}

/// Taken, and not yet ready: no address. A fork in that moment costs the child one entry, and nothing waits.
static const char busy;

/// The entry that hands on to `real`: the symbol's own, else a spare one, which is bound to it. -1: none is left. A symbol's
/// own entry is only ever what the linker would have found under that name: the driver itself may call it from what it hands
/// out in its own ways.
static int64_t entry_for(int own, uint32_t function, const void* real) {
  if (own >= 0 && hf_real((uint32_t)own, NULL) == real) return own;
  for (uint32_t i = hf_symbol_count; i < hf_symbol_count + HF_SPARE; ++i) {
    const void* bound = NULL;
    if (atomic_compare_exchange_strong(&hf_entry_real[i], &bound, &busy)) {
      hf_entry_function[i] = (uint16_t)function;
      hf_bind(i, real);
      return i;
    }
    if (bound == real && hf_entry_function[i] == function) return i;
  }
  return -1;
}

const void* hf_in_front_of(const char* symbol, const void* real, const void* caller) {
  int function = real != NULL ? hf_function_of(symbol) : -1;
  if (function < 0) return real;
  if (is_ours(real)) {
    // Found in the scope of the whole program, where we are the first. Without us there may have been nothing.
    uint32_t entry = (uint32_t)(((const char*)real - hf_entries_begin) / HF_ENTRY_SIZE);
    return hf_real(entry, caller) != NULL ? real : NULL;
  }
  int64_t entry = entry_for(hf_entry_of(symbol), (uint32_t)function, real);
  if (entry >= 0) return hf_entries_begin + entry * HF_ENTRY_SIZE;
  atomic_fetch_add_explicit(&hf_block->missed, 1, memory_order_relaxed);
  return real;
}

/// What dlsym() comes to. RTLD_NEXT is meant from where the caller is, so it must be the caller who asks.
__attribute__((visibility("hidden"), used)) struct hf_go hf_dlsym(void* handle, const char* symbol, const void* caller) {
  dlsym_function real = real_dlsym();
  if (handle == RTLD_NEXT || symbol == NULL || hf_function_of(symbol) < 0)
    return (struct hf_go){(const void*)(uintptr_t)real, 0};
  const void* found = real(handle, symbol);
  if (found != NULL) {
    found = hf_in_front_of(symbol, found, caller);
    // Our own looks may have failed before one did not.
    if (found != NULL) dlerror();
  }
  return (struct hf_go){NULL, (int64_t)(uintptr_t)found};
}
