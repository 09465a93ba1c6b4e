// Copies and fills. At once where there is no stream; in a stream's order after what runs there.
#include <string.h>

#include "cuda.h"

CUDA CUresult cuMemcpyHtoD_v2(CUdeviceptr to, const void* from, size_t size) {
  ENTER(NEEDS_CONTEXT);
  NEED(from != NULL && simgpu_is_device_memory(to, size), CUDA_ERROR_INVALID_VALUE);
  memcpy(simgpu_host(to), from, size);
  return CUDA_SUCCESS;
}
ALSO(cuMemcpyHtoD_v2, cuMemcpyHtoD);
CUDA CUresult cuMemcpyDtoH_v2(void* to, CUdeviceptr from, size_t size) {
  ENTER(NEEDS_CONTEXT);
  NEED(to != NULL && simgpu_is_device_memory(from, size), CUDA_ERROR_INVALID_VALUE);
  memcpy(to, simgpu_host(from), size);
  return CUDA_SUCCESS;
}
ALSO(cuMemcpyDtoH_v2, cuMemcpyDtoH);
CUDA CUresult cuMemcpyDtoD_v2(CUdeviceptr to, CUdeviceptr from, size_t size) {
  ENTER(NEEDS_CONTEXT);
  NEED(simgpu_is_device_memory(from, size) && simgpu_is_device_memory(to, size), CUDA_ERROR_INVALID_VALUE);
  memmove(simgpu_host(to), simgpu_host(from), size);
  return CUDA_SUCCESS;
}
ALSO(cuMemcpyDtoD_v2, cuMemcpyDtoD);
CUDA CUresult cuMemcpy(CUdeviceptr to, CUdeviceptr from, size_t size) {
  ENTER(NEEDS_CONTEXT);
  NEED(to != 0 && from != 0, CUDA_ERROR_INVALID_VALUE);
  memmove(simgpu_host(to), simgpu_host(from), size);
  return CUDA_SUCCESS;
}
CUDA CUresult cuMemcpyPeer(CUdeviceptr to, struct context* there, CUdeviceptr from, struct context* here, size_t size) {
  (void)there, (void)here;
  return cuMemcpyDtoD_v2(to, from, size);
}

// In the order of its stream: after what runs there.
static void await(struct stream* stream) {
  uint64_t until = simgpu_stream(stream)->busy_until;
  if (until > simgpu_now()) simgpu_wait_until(until);
}
CUDA CUresult cuMemcpyHtoDAsync_v2(CUdeviceptr to, const void* from, size_t size, struct stream* stream) {
  ENTER(NEEDS_CONTEXT);
  await(stream);
  return cuMemcpyHtoD_v2(to, from, size);
}
ALSO(cuMemcpyHtoDAsync_v2, cuMemcpyHtoDAsync);
CUDA CUresult cuMemcpyDtoHAsync_v2(void* to, CUdeviceptr from, size_t size, struct stream* stream) {
  ENTER(NEEDS_CONTEXT);
  await(stream);
  return cuMemcpyDtoH_v2(to, from, size);
}
ALSO(cuMemcpyDtoHAsync_v2, cuMemcpyDtoHAsync);
CUDA CUresult cuMemcpyDtoDAsync_v2(CUdeviceptr to, CUdeviceptr from, size_t size, struct stream* stream) {
  ENTER(NEEDS_CONTEXT);
  await(stream);
  return cuMemcpyDtoD_v2(to, from, size);
}
ALSO(cuMemcpyDtoDAsync_v2, cuMemcpyDtoDAsync);
CUDA CUresult cuMemcpyAsync(CUdeviceptr to, CUdeviceptr from, size_t size, struct stream* stream) {
  ENTER(NEEDS_CONTEXT);
  await(stream);
  return cuMemcpy(to, from, size);
}
CUDA CUresult cuMemcpyPeerAsync(CUdeviceptr to, struct context* there, CUdeviceptr from, struct context* here, size_t size,
                                struct stream* stream) {
  (void)there, (void)here;
  return cuMemcpyDtoDAsync_v2(to, from, size, stream);
}

#define FILL(name, type, second)                                                          \
  CUDA CUresult name##_v2(CUdeviceptr to, type value, size_t count) {                     \
    ENTER(NEEDS_CONTEXT);                                                                 \
    NEED(simgpu_is_device_memory(to, count * sizeof value), CUDA_ERROR_INVALID_VALUE);    \
    type* place = simgpu_host(to);                                                        \
    for (size_t i = 0; i < count; ++i) place[i] = value;                                  \
    return CUDA_SUCCESS;                                                                  \
  }                                                                                       \
  ALSO(name##_v2, name);                                                                  \
  CUDA CUresult second(CUdeviceptr to, type value, size_t count, struct stream* stream) { \
    ENTER(NEEDS_CONTEXT);                                                                 \
    await(stream);                                                                        \
    return name##_v2(to, value, count);                                                   \
  }
FILL(cuMemsetD8, unsigned char, cuMemsetD8Async)
FILL(cuMemsetD16, unsigned short, cuMemsetD16Async)
FILL(cuMemsetD32, unsigned int, cuMemsetD32Async)

struct copy_2d {
  size_t from_x, from_y;
  int from_type;
  const void* from_host;
  CUdeviceptr from_device;
  void* from_array;
  size_t from_pitch, to_x, to_y;
  int to_type;
  void* to_host;
  CUdeviceptr to_device;
  void* to_array;
  size_t to_pitch, width, height;
};
CUDA CUresult cuMemcpy2D_v2(const struct copy_2d* copy) {
  ENTER(NEEDS_CONTEXT);
  NEED(copy != NULL && copy->from_array == NULL && copy->to_array == NULL, CUDA_ERROR_INVALID_VALUE);
  const char* from = copy->from_type == 1 ? copy->from_host : simgpu_host(copy->from_device);
  char* to = copy->to_type == 1 ? copy->to_host : simgpu_host(copy->to_device);
  NEED(from != NULL && to != NULL, CUDA_ERROR_INVALID_VALUE);
  size_t from_pitch = copy->from_pitch != 0 ? copy->from_pitch : copy->width;
  size_t to_pitch = copy->to_pitch != 0 ? copy->to_pitch : copy->width;
  for (size_t y = 0; y < copy->height; ++y) {
    memmove(to + (copy->to_y + y) * to_pitch + copy->to_x, from + (copy->from_y + y) * from_pitch + copy->from_x, copy->width);
  }
  return CUDA_SUCCESS;
}
ALSO(cuMemcpy2D_v2, cuMemcpy2D);
