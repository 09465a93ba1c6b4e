// Memory of the devices, which is host memory: pages of one file without a name, so that another process can be given a part of
// it (IPC handles) and addresses can be mapped to it (the virtual memory functions). Only what is touched takes real memory.
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "cuda.h"

enum kind { DEVICE, PINNED, REGISTERED, MANAGED, RESERVED, MAPPED, OPENED };

struct region {
  CUdeviceptr base;
  uint64_t size;    ///< As asked for.
  uint64_t booked;  ///< Of the device.
  enum kind kind;
  struct context* context;
  struct pool* pool;
};
struct pool {
  int ordinal;
  uint64_t used, most, threshold;
};
/// Physical memory of the virtual memory functions.
struct physical {
  uint64_t offset, size;
  int ordinal, users;  ///< It itself, until it is released, and each mapping.
};

static const uint64_t kArena = UINT64_C(4) << 40;  // Of addresses: far more than all memory that is handed out.
static pthread_mutex_t g_lock = PTHREAD_MUTEX_INITIALIZER;
static struct region* g_regions;  // In the order of their addresses.
static size_t g_count, g_room;
static int g_file = -1;
static char* g_arena;
static struct pool g_default_pools[SIMGPU_DEVICES];
static struct physical** g_physical;  // What it holds of the arena is not a region, for it has no address.
static size_t g_physical_count;

static uint64_t rounded(uint64_t size, uint64_t unit) { return (size + unit - 1) / unit * unit; }

bool simgpu_open_arena(void) {
  if (g_arena != NULL) return true;
  g_file = memfd_create("simgpu", MFD_CLOEXEC);
  if (g_file < 0 || ftruncate(g_file, (off_t)kArena) != 0) return false;
  void* arena = mmap(NULL, kArena, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, g_file, 0);
  if (arena == MAP_FAILED) return false;
  // A device's memory is not in a core file, and not in a fork.
  madvise(arena, kArena, MADV_DONTDUMP);
  madvise(arena, kArena, MADV_DONTFORK);
  g_arena = arena;
  return true;
}

/// The first region that ends after `address`.
static size_t at_or_after(CUdeviceptr address) {
  size_t low = 0;
  size_t high = g_count;
  while (low < high) {
    size_t middle = (low + high) / 2;
    if (g_regions[middle].base + g_regions[middle].size <= address) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return low;
}

static struct region* region_of(CUdeviceptr address) {
  size_t i = at_or_after(address);
  return i < g_count && g_regions[i].base <= address ? &g_regions[i] : NULL;
}

static bool add(struct region region) {
  if (g_count == g_room) {
    size_t room = g_room == 0 ? 64 : 2 * g_room;
    struct region* grown = realloc(g_regions, room * sizeof *grown);
    if (grown == NULL) return false;
    g_regions = grown;
    g_room = room;
  }
  size_t i = at_or_after(region.base);
  memmove(g_regions + i + 1, g_regions + i, (g_count - i) * sizeof *g_regions);
  g_regions[i] = region;
  ++g_count;
  return true;
}

static void remove_region(struct region* region) {
  size_t i = (size_t)(region - g_regions);
  memmove(g_regions + i, g_regions + i + 1, (g_count - i - 1) * sizeof *g_regions);
  --g_count;
}

static bool collides(uint64_t offset, uint64_t size, uint64_t* after) {
  CUdeviceptr base = (CUdeviceptr)(uintptr_t)g_arena + offset;
  size_t i = at_or_after(base);
  if (i < g_count && g_regions[i].base < base + size) {
    *after = g_regions[i].base + g_regions[i].size - (CUdeviceptr)(uintptr_t)g_arena;
    return true;
  }
  for (size_t j = 0; j < g_physical_count; ++j) {
    const struct physical* physical = g_physical[j];
    if (physical->offset >= offset + size || offset >= physical->offset + physical->size) continue;
    *after = physical->offset + physical->size;
    return true;
  }
  return false;
}

/// A place in the arena; kArena if there is none.
static uint64_t find_gap(uint64_t size, uint64_t unit) {
  uint64_t offset = 0;
  uint64_t after = 0;
  while (offset + size <= kArena && collides(offset, size, &after)) offset = rounded(after, unit);
  return offset + size <= kArena ? offset : kArena;
}

static void empty(uint64_t offset, uint64_t size) {
  fallocate(g_file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)offset, (off_t)size);
}

static CUresult allocate(CUdeviceptr* result, uint64_t size, enum kind kind, struct pool* pool) {
  NEED(result != NULL && size > 0, CUDA_ERROR_INVALID_VALUE);
  struct context* context = simgpu_current;
  // Small ones share a page, as on a real device.
  uint64_t unit = size < SIMGPU_PAGE / 2 ? 512 : SIMGPU_PAGE;
  uint64_t booked = kind == PINNED ? 0 : rounded(size, unit);
  NEED(size <= kArena, CUDA_ERROR_OUT_OF_MEMORY);
  NEED(booked == 0 || simgpu_book(simgpu_process.state, context->device, (int64_t)booked), CUDA_ERROR_OUT_OF_MEMORY);
  pthread_mutex_lock(&g_lock);
  uint64_t offset = simgpu_open_arena() ? find_gap(rounded(size, 512), unit) : kArena;
  CUdeviceptr base = (CUdeviceptr)(uintptr_t)g_arena + offset;
  bool done = offset < kArena && add((struct region){base, size, booked, kind, context, pool});
  if (done && pool != NULL) {
    pool->used += booked;
    if (pool->used > pool->most) pool->most = pool->used;
  }
  pthread_mutex_unlock(&g_lock);
  if (!done && booked > 0) simgpu_book(simgpu_process.state, context->device, -(int64_t)booked);
  if (done) *result = base;
  return done ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
}

static void give_back(struct region region) {
  if (region.kind == OPENED) {
    CUdeviceptr begin = region.base & ~UINT64_C(4095);
    munmap((void*)(uintptr_t)begin, region.base + region.size - begin);
  } else if (region.kind != REGISTERED) {
    empty(region.base - (CUdeviceptr)(uintptr_t)g_arena, region.size);
  }
  if (region.pool != NULL) region.pool->used -= region.booked;
  if (region.booked > 0) simgpu_book(simgpu_process.state, region.context->device, -(int64_t)region.booked);
}

static CUresult release(CUdeviceptr address, enum kind kind, enum kind or_kind) {
  pthread_mutex_lock(&g_lock);
  struct region* region = region_of(address);
  bool good = region != NULL && region->base == address && (region->kind == kind || region->kind == or_kind);
  struct region freed = good ? *region : (struct region){0};
  if (good) remove_region(region);
  if (good) give_back(freed);
  pthread_mutex_unlock(&g_lock);
  return good ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

void simgpu_free_all(const struct context* context) {
  pthread_mutex_lock(&g_lock);
  for (size_t i = g_count; i > 0; --i) {
    struct region region = g_regions[i - 1];
    if (region.context != context || region.kind == RESERVED || region.kind == MAPPED) continue;
    remove_region(&g_regions[i - 1]);
    give_back(region);
  }
  pthread_mutex_unlock(&g_lock);
}

bool simgpu_is_device_memory(CUdeviceptr address, uint64_t bytes) {
  pthread_mutex_lock(&g_lock);
  const struct region* region = region_of(address);
  bool good = region != NULL && region->kind != RESERVED && bytes <= region->base + region->size - address;
  pthread_mutex_unlock(&g_lock);
  return good;
}

// ---- plain allocations -----------------------------------------------------------------------------------------------------

CUDA CUresult cuMemGetInfo_v2(size_t* unused, size_t* total) {
  ENTER(NEEDS_CONTEXT);
  struct simgpu_device* device = &simgpu_process.state->devices[simgpu_current->device];
  if (total != NULL) *total = device->total;
  if (unused != NULL) {
    simgpu_sweep(simgpu_process.state);
    *unused = device->total - atomic_load(&device->used);
  }
  return CUDA_SUCCESS;
}
ALSO(cuMemGetInfo_v2, cuMemGetInfo);
CUDA CUresult cuMemAlloc_v2(CUdeviceptr* result, size_t size) {
  ENTER(NEEDS_CONTEXT);
  return allocate(result, size, DEVICE, NULL);
}
ALSO(cuMemAlloc_v2, cuMemAlloc);
CUDA CUresult cuMemAllocPitch_v2(CUdeviceptr* result, size_t* pitch, size_t width, size_t height, unsigned element) {
  (void)element;
  ENTER(NEEDS_CONTEXT);
  *pitch = rounded(width, 512);
  return allocate(result, *pitch * height, DEVICE, NULL);
}
ALSO(cuMemAllocPitch_v2, cuMemAllocPitch);
CUDA CUresult cuMemAllocManaged(CUdeviceptr* result, size_t size, unsigned flags) {
  (void)flags;
  ENTER(NEEDS_CONTEXT);
  return allocate(result, size, MANAGED, NULL);
}
CUDA CUresult cuMemFree_v2(CUdeviceptr address) {
  ENTER(NEEDS_CONTEXT);
  return address == 0 ? CUDA_SUCCESS : release(address, DEVICE, MANAGED);
}
ALSO(cuMemFree_v2, cuMemFree);
CUDA CUresult cuMemGetAddressRange_v2(CUdeviceptr* base, size_t* size, CUdeviceptr address) {
  ENTER(NEEDS_CONTEXT);
  pthread_mutex_lock(&g_lock);
  const struct region* region = region_of(address);
  if (region != NULL && base != NULL) *base = region->base;
  if (region != NULL && size != NULL) *size = region->size;
  pthread_mutex_unlock(&g_lock);
  return region != NULL ? CUDA_SUCCESS : CUDA_ERROR_NOT_FOUND;
}
ALSO(cuMemGetAddressRange_v2, cuMemGetAddressRange);

CUDA CUresult cuMemHostAlloc(void** result, size_t size, unsigned flags) {
  (void)flags;
  ENTER(NEEDS_CONTEXT);
  CUdeviceptr address = 0;
  CUresult problem = allocate(&address, size, PINNED, NULL);
  if (problem == CUDA_SUCCESS) *result = (void*)(uintptr_t)address;
  return problem;
}
CUDA CUresult cuMemAllocHost_v2(void** result, size_t size) { return cuMemHostAlloc(result, size, 0); }
ALSO(cuMemAllocHost_v2, cuMemAllocHost);
CUDA CUresult cuMemFreeHost(void* address) {
  ENTER(NEEDS_CONTEXT);
  return release((CUdeviceptr)(uintptr_t)address, PINNED, PINNED);
}
CUDA CUresult cuMemHostRegister_v2(void* address, size_t size, unsigned flags) {
  (void)flags;
  ENTER(NEEDS_CONTEXT);
  NEED(address != NULL && size > 0, CUDA_ERROR_INVALID_VALUE);
  pthread_mutex_lock(&g_lock);
  CUdeviceptr base = (CUdeviceptr)(uintptr_t)address;
  bool done = region_of(base) == NULL && add((struct region){base, size, 0, REGISTERED, simgpu_current, NULL});
  pthread_mutex_unlock(&g_lock);
  return done ? CUDA_SUCCESS : 712;  // Already registered.
}
ALSO(cuMemHostRegister_v2, cuMemHostRegister);
CUDA CUresult cuMemHostUnregister(void* address) {
  ENTER(NEEDS_CONTEXT);
  return release((CUdeviceptr)(uintptr_t)address, REGISTERED, REGISTERED) == CUDA_SUCCESS ? CUDA_SUCCESS : 713;
}
CUDA CUresult cuMemHostGetDevicePointer_v2(CUdeviceptr* result, void* address, unsigned flags) {
  (void)flags;
  ENTER(NEEDS_CONTEXT);
  *result = (CUdeviceptr)(uintptr_t)address;
  return simgpu_is_device_memory(*result, 1) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}
ALSO(cuMemHostGetDevicePointer_v2, cuMemHostGetDevicePointer);
CUDA CUresult cuMemHostGetFlags(unsigned* flags, void* address) {
  (void)address;
  ENTER(NEEDS_CONTEXT);
  *flags = 2;  // DEVICEMAP
  return CUDA_SUCCESS;
}

// ---- in the order of a stream, from pools ----------------------------------------------------------------------------------

CUDA CUresult cuDeviceGetDefaultMemPool(struct pool** pool, CUdevice ordinal) {
  ENTER_DEVICE(ordinal);
  g_default_pools[ordinal].ordinal = ordinal;
  *pool = &g_default_pools[ordinal];
  return CUDA_SUCCESS;
}
CUDA CUresult cuDeviceGetMemPool(struct pool** pool, CUdevice ordinal) { return cuDeviceGetDefaultMemPool(pool, ordinal); }
CUDA CUresult cuDeviceSetMemPool(CUdevice ordinal, struct pool* pool) {
  (void)pool;
  ENTER_DEVICE(ordinal);
  return CUDA_SUCCESS;
}
struct location {
  int type, id;
};
struct pool_properties {
  int allocation, handles;
  struct location location;
};
CUDA CUresult cuMemPoolCreate(struct pool** pool, const struct pool_properties* properties) {
  ENTER(NEEDS_INIT);
  NEED(properties != NULL && properties->location.id < simgpu_process.count, CUDA_ERROR_INVALID_VALUE);
  *pool = calloc(1, sizeof **pool);
  NEED(*pool != NULL, CUDA_ERROR_OUT_OF_MEMORY);
  (*pool)->ordinal = properties->location.id;
  return CUDA_SUCCESS;
}
CUDA CUresult cuMemPoolDestroy(struct pool* pool) {
  ENTER(NEEDS_INIT);
  bool is_default = pool >= g_default_pools && pool < g_default_pools + SIMGPU_DEVICES;
  NEED(pool != NULL && !is_default, CUDA_ERROR_INVALID_VALUE);
  pthread_mutex_lock(&g_lock);
  for (size_t i = 0; i < g_count; ++i) {
    if (g_regions[i].pool == pool) g_regions[i].pool = NULL;
  }
  pthread_mutex_unlock(&g_lock);
  free(pool);
  return CUDA_SUCCESS;
}
CUDA CUresult cuMemPoolTrimTo(struct pool* pool, size_t keep) {
  (void)pool, (void)keep;
  ENTER(NEEDS_INIT);
  return CUDA_SUCCESS;
}
enum { POOL_THRESHOLD = 4, POOL_RESERVED = 5, POOL_RESERVED_MOST = 6, POOL_USED = 7, POOL_USED_MOST = 8 };
CUDA CUresult cuMemPoolGetAttribute(struct pool* pool, int attribute, void* value) {
  ENTER(NEEDS_INIT);
  NEED(pool != NULL && value != NULL && attribute >= 1 && attribute <= POOL_USED_MOST, CUDA_ERROR_INVALID_VALUE);
  uint64_t* number = value;
  if (attribute < POOL_THRESHOLD) *(int*)value = 1;
  if (attribute == POOL_THRESHOLD) *number = pool->threshold;
  if (attribute == POOL_RESERVED || attribute == POOL_USED) *number = pool->used;
  if (attribute == POOL_RESERVED_MOST || attribute == POOL_USED_MOST) *number = pool->most;
  return CUDA_SUCCESS;
}
CUDA CUresult cuMemPoolSetAttribute(struct pool* pool, int attribute, void* value) {
  ENTER(NEEDS_INIT);
  NEED(pool != NULL && value != NULL && attribute >= 1 && attribute <= POOL_USED_MOST, CUDA_ERROR_INVALID_VALUE);
  if (attribute == POOL_THRESHOLD) pool->threshold = *(uint64_t*)value;
  if (attribute == POOL_RESERVED_MOST || attribute == POOL_USED_MOST) pool->most = pool->used;
  return CUDA_SUCCESS;
}
struct access {
  struct location location;
  int flags;
};
CUDA CUresult cuMemPoolSetAccess(struct pool* pool, const struct access* access, size_t count) {
  (void)pool, (void)access, (void)count;
  ENTER(NEEDS_INIT);
  return CUDA_SUCCESS;
}
CUDA CUresult cuMemPoolGetAccess(int* flags, struct pool* pool, struct location* location) {
  ENTER(NEEDS_INIT);
  *flags = pool->ordinal == location->id ? 3 : 0;
  return CUDA_SUCCESS;
}
CUDA CUresult cuMemAllocFromPoolAsync(CUdeviceptr* result, size_t size, struct pool* pool, struct stream* stream) {
  (void)stream;
  ENTER(NEEDS_CONTEXT);
  return allocate(result, size, DEVICE, pool);
}
CUDA CUresult cuMemAllocAsync(CUdeviceptr* result, size_t size, struct stream* stream) {
  (void)stream;
  ENTER(NEEDS_CONTEXT);
  return allocate(result, size, DEVICE, &g_default_pools[simgpu_current->ordinal]);
}
CUDA CUresult cuMemFreeAsync(CUdeviceptr address, struct stream* stream) {
  (void)stream;
  ENTER(NEEDS_CONTEXT);
  return release(address, DEVICE, MANAGED);
}

// ---- virtual memory --------------------------------------------------------------------------------------------------------

struct allocation {
  int type, handles;
  struct location location;
};
CUDA CUresult cuMemGetAllocationGranularity(size_t* size, const struct allocation* allocation, int option) {
  (void)allocation, (void)option;
  ENTER(NEEDS_INIT);
  *size = SIMGPU_PAGE;
  return CUDA_SUCCESS;
}
CUDA CUresult cuMemAddressReserve(CUdeviceptr* result, size_t size, size_t alignment, CUdeviceptr wish,
                                  unsigned long long flags) {
  (void)flags;
  ENTER(NEEDS_INIT);
  NEED(result != NULL && size > 0 && size % SIMGPU_PAGE == 0, CUDA_ERROR_INVALID_VALUE);
  uint64_t unit = alignment > SIMGPU_PAGE ? alignment : SIMGPU_PAGE;
  char* place = mmap((void*)(uintptr_t)wish, size + unit, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  NEED(place != MAP_FAILED, CUDA_ERROR_OUT_OF_MEMORY);
  // Aligned; what is in front of it and behind goes back.
  char* base = (char*)(uintptr_t)rounded((uintptr_t)place, unit);
  if (base > place) munmap(place, (size_t)(base - place));
  munmap(base + size, unit - (size_t)(base - place));
  pthread_mutex_lock(&g_lock);
  bool done = add((struct region){(CUdeviceptr)(uintptr_t)base, size, 0, RESERVED, NULL, NULL});
  pthread_mutex_unlock(&g_lock);
  *result = (CUdeviceptr)(uintptr_t)base;
  return done ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
}
CUDA CUresult cuMemAddressFree(CUdeviceptr address, size_t size) {
  ENTER(NEEDS_INIT);
  pthread_mutex_lock(&g_lock);
  struct region* region = region_of(address);
  bool good = region != NULL && region->kind == RESERVED && region->base == address && region->size == size;
  if (good) remove_region(region);
  pthread_mutex_unlock(&g_lock);
  NEED(good, CUDA_ERROR_INVALID_VALUE);
  munmap((void*)(uintptr_t)address, size);
  return CUDA_SUCCESS;
}
CUDA CUresult cuMemCreate(struct physical** handle, size_t size, const struct allocation* allocation,
                          unsigned long long flags) {
  (void)flags;
  ENTER(NEEDS_INIT);
  NEED(handle != NULL && allocation != NULL && size > 0 && size % SIMGPU_PAGE == 0, CUDA_ERROR_INVALID_VALUE);
  int ordinal = allocation->location.id;
  NEED(ordinal >= 0 && ordinal < simgpu_process.count, CUDA_ERROR_INVALID_DEVICE);
  int device = simgpu_process.devices[ordinal];
  NEED(simgpu_book(simgpu_process.state, device, (int64_t)size), CUDA_ERROR_OUT_OF_MEMORY);
  struct physical* physical = calloc(1, sizeof *physical);
  pthread_mutex_lock(&g_lock);
  struct physical** grown = realloc(g_physical, (g_physical_count + 1) * sizeof *grown);
  if (grown != NULL) g_physical = grown;
  uint64_t offset = physical != NULL && grown != NULL && simgpu_open_arena() ? find_gap(size, SIMGPU_PAGE) : kArena;
  if (offset < kArena) {
    *physical = (struct physical){offset, size, ordinal, 1};
    g_physical[g_physical_count++] = physical;
    *handle = physical;
  }
  pthread_mutex_unlock(&g_lock);
  if (offset < kArena) return CUDA_SUCCESS;
  free(physical);
  simgpu_book(simgpu_process.state, device, -(int64_t)size);
  return CUDA_ERROR_OUT_OF_MEMORY;
}

/// One user less; nobody holds g_lock but the caller.
static void drop(struct physical* physical) {
  if (--physical->users > 0) return;
  for (size_t i = 0; i < g_physical_count; ++i) {
    if (g_physical[i] == physical) g_physical[i] = g_physical[--g_physical_count];
  }
  empty(physical->offset, physical->size);
  simgpu_book(simgpu_process.state, simgpu_process.devices[physical->ordinal], -(int64_t)physical->size);
  free(physical);
}
static bool is_known(const struct physical* physical) {
  for (size_t i = 0; i < g_physical_count; ++i) {
    if (g_physical[i] == physical) return true;
  }
  return false;
}

CUDA CUresult cuMemRelease(struct physical* handle) {
  ENTER(NEEDS_INIT);
  pthread_mutex_lock(&g_lock);
  bool good = is_known(handle);
  if (good) drop(handle);
  pthread_mutex_unlock(&g_lock);
  return good ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}
// A reserved region becomes a mapped one; a part of it is cut out first.
CUDA CUresult cuMemMap(CUdeviceptr address, size_t size, size_t offset, struct physical* handle, unsigned long long flags) {
  (void)flags;
  ENTER(NEEDS_INIT);
  NEED(offset == 0, CUDA_ERROR_NOT_SUPPORTED);
  pthread_mutex_lock(&g_lock);
  struct region* region = region_of(address);
  bool good = is_known(handle) && size == handle->size && region != NULL && region->kind == RESERVED &&
              address + size <= region->base + region->size;
  if (good) {
    struct region whole = *region;
    remove_region(region);
    good = add((struct region){address, size, (uint64_t)(uintptr_t)handle, MAPPED, NULL, NULL});
    uint64_t before = address - whole.base;
    uint64_t after = whole.base + whole.size - address - size;
    if (before > 0) good = good && add((struct region){whole.base, before, 0, RESERVED, NULL, NULL});
    if (after > 0) good = good && add((struct region){address + size, after, 0, RESERVED, NULL, NULL});
    void* there = (void*)(uintptr_t)address;
    good = good && mmap(there, size, PROT_NONE, MAP_SHARED | MAP_FIXED, g_file, (off_t)handle->offset) == there;
    if (good) ++handle->users;
  }
  pthread_mutex_unlock(&g_lock);
  return good ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}
CUDA CUresult cuMemUnmap(CUdeviceptr address, size_t size) {
  ENTER(NEEDS_INIT);
  pthread_mutex_lock(&g_lock);
  struct region* region = region_of(address);
  bool good = region != NULL && region->kind == MAPPED && region->base == address && region->size == size;
  if (good) {
    drop((struct physical*)(uintptr_t)region->booked);
    region->kind = RESERVED;
    region->booked = 0;
    mmap((void*)(uintptr_t)address, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
    // What was reserved together is one again, so that it can be freed.
    size_t i = (size_t)(region - g_regions);
    for (; i > 0 && g_regions[i - 1].kind == RESERVED && g_regions[i - 1].base + g_regions[i - 1].size == g_regions[i].base;
         --i) {
      g_regions[i - 1].size += g_regions[i].size;
      remove_region(&g_regions[i]);
    }
    while (i + 1 < g_count && g_regions[i + 1].kind == RESERVED &&
           g_regions[i].base + g_regions[i].size == g_regions[i + 1].base) {
      g_regions[i].size += g_regions[i + 1].size;
      remove_region(&g_regions[i + 1]);
    }
  }
  pthread_mutex_unlock(&g_lock);
  return good ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}
CUDA CUresult cuMemSetAccess(CUdeviceptr address, size_t size, const struct access* access, size_t count) {
  ENTER(NEEDS_INIT);
  NEED(access != NULL && count > 0, CUDA_ERROR_INVALID_VALUE);
  int protection = access->flags == 3 ? PROT_READ | PROT_WRITE : access->flags == 1 ? PROT_READ : PROT_NONE;
  return mprotect((void*)(uintptr_t)address, size, protection) == 0 ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}
CUDA CUresult cuMemGetAccess(unsigned long long* flags, const struct location* location, CUdeviceptr address) {
  (void)location;
  ENTER(NEEDS_INIT);
  *flags = simgpu_is_device_memory(address, 1) ? 3 : 0;
  return CUDA_SUCCESS;
}

// ---- other processes -------------------------------------------------------------------------------------------------------

struct ipc_handle {
  int pid, file, device;
  uint64_t offset, size;
  char unused[64 - 32];
};
_Static_assert(sizeof(struct ipc_handle) == 64, "CUipcMemHandle");
CUDA CUresult cuIpcGetMemHandle(struct ipc_handle* handle, CUdeviceptr address) {
  ENTER(NEEDS_CONTEXT);
  pthread_mutex_lock(&g_lock);
  const struct region* region = region_of(address);
  bool good = handle != NULL && region != NULL && region->kind == DEVICE;
  if (good) {
    *handle = (struct ipc_handle){
        (int)getpid(), g_file, region->context->device, region->base - (CUdeviceptr)(uintptr_t)g_arena, region->size, {0}};
  }
  pthread_mutex_unlock(&g_lock);
  return good ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}
CUDA CUresult cuIpcOpenMemHandle_v2(CUdeviceptr* result, struct ipc_handle handle, unsigned flags) {
  (void)flags;
  ENTER(NEEDS_CONTEXT);
  NEED(handle.pid != getpid(), CUDA_ERROR_INVALID_CONTEXT);  // Not in the process that it comes from.
  char path[64];
  snprintf(path, sizeof path, "/proc/%d/fd/%d", handle.pid, handle.file);
  int file = open(path, O_RDWR | O_CLOEXEC);
  NEED(file >= 0, CUDA_ERROR_INVALID_VALUE);
  uint64_t begin = handle.offset & ~UINT64_C(4095);
  void* mapped = mmap(NULL, handle.offset + handle.size - begin, PROT_READ | PROT_WRITE, MAP_SHARED, file, (off_t)begin);
  close(file);
  NEED(mapped != MAP_FAILED, CUDA_ERROR_INVALID_VALUE);
  *result = (CUdeviceptr)(uintptr_t)mapped + handle.offset - begin;
  pthread_mutex_lock(&g_lock);
  bool done = add((struct region){*result, handle.size, 0, OPENED, simgpu_current, NULL});
  pthread_mutex_unlock(&g_lock);
  return done ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
}
ALSO(cuIpcOpenMemHandle_v2, cuIpcOpenMemHandle);
CUDA CUresult cuIpcCloseMemHandle(CUdeviceptr address) {
  ENTER(NEEDS_CONTEXT);
  return release(address, OPENED, OPENED);
}

// ---- what a pointer is -----------------------------------------------------------------------------------------------------

enum { HOST_MEMORY = 1, DEVICE_MEMORY = 2 };
CUDA CUresult cuPointerGetAttribute(void* value, int attribute, CUdeviceptr address) {
  ENTER(NEEDS_INIT);
  pthread_mutex_lock(&g_lock);
  const struct region* found = region_of(address);
  struct region region = found != NULL ? *found : (struct region){0};
  pthread_mutex_unlock(&g_lock);
  NEED(value != NULL && (found != NULL || attribute == 8), CUDA_ERROR_INVALID_VALUE);
  bool is_host = region.kind == PINNED || region.kind == REGISTERED;
  switch (attribute) {
    case 1:
      *(struct context**)value = region.context;
      return CUDA_SUCCESS;
    case 2:
      *(unsigned*)value = is_host ? HOST_MEMORY : DEVICE_MEMORY;
      return CUDA_SUCCESS;
    case 3:
      *(CUdeviceptr*)value = address;
      return CUDA_SUCCESS;
    case 4:
      *(void**)value = simgpu_host(address);
      return is_host || region.kind == MANAGED ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
    case 7:
      *(unsigned long long*)value = region.base;
      return CUDA_SUCCESS;
    case 8:
      *(unsigned*)value = found != NULL && region.kind == MANAGED;
      return CUDA_SUCCESS;
    case 9:
      *(int*)value = region.context != NULL ? region.context->ordinal : 0;
      return CUDA_SUCCESS;
    case 11:
      *(CUdeviceptr*)value = region.base;
      return CUDA_SUCCESS;
    case 12:
      *(size_t*)value = region.size;
      return CUDA_SUCCESS;
    case 13:
      *(unsigned*)value = 1;
      return CUDA_SUCCESS;
    default:
      return CUDA_ERROR_INVALID_VALUE;
  }
}
// Of an address that is none of ours it says so, by zeros, and does not fail.
CUDA CUresult cuPointerGetAttributes(unsigned count, int* attributes, void** values, CUdeviceptr address) {
  ENTER(NEEDS_INIT);
  static const size_t kSizes[] = {[1] = 8, [2] = 4, [3] = 8, [4] = 8, [7] = 8, [8] = 4, [9] = 4, [11] = 8, [12] = 8, [13] = 4};
  for (unsigned i = 0; i < count; ++i) {
    int attribute = attributes[i];
    if (cuPointerGetAttribute(values[i], attribute, address) == CUDA_SUCCESS) continue;
    if (attribute > 0 && attribute < (int)(sizeof kSizes / sizeof kSizes[0])) memset(values[i], 0, kSizes[attribute]);
    if (attribute == 9) *(int*)values[i] = -2;
  }
  return CUDA_SUCCESS;
}
