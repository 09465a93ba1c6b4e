// Streams and events. A stream is a point in time: until then it is busy. Everything else has happened when its call returns.
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cuda.h"

struct event {
  unsigned flags;
  bool recorded;
  uint64_t at;
};
static _Atomic unsigned long long g_streams = 2;

// 1 and 2 are the handles of the default stream, for all threads and for each.
struct stream* simgpu_stream(struct stream* given) { return (uintptr_t)given <= 2 ? &simgpu_current->null_stream : given; }

void simgpu_wait_until(uint64_t nanoseconds) {
  struct timespec at = {(time_t)(nanoseconds / 1000000000U), (long)(nanoseconds % 1000000000U)};
  while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL) == EINTR) {
  }
}

static CUresult wait_for(uint64_t until) {
  if (until > simgpu_now()) simgpu_wait_until(until);
  // What has become of the device meanwhile.
  return simgpu_enter("", NEEDS_CONTEXT);
}

CUDA CUresult cuStreamCreateWithPriority(struct stream** result, unsigned flags, int priority) {
  ENTER(NEEDS_CONTEXT);
  NEED(result != NULL, CUDA_ERROR_INVALID_VALUE);
  struct stream* stream = calloc(1, sizeof *stream);
  NEED(stream != NULL, CUDA_ERROR_OUT_OF_MEMORY);
  stream->context = simgpu_current;
  stream->flags = flags;
  stream->priority = priority > 0 ? 0 : priority < -5 ? -5 : priority;
  stream->id = atomic_fetch_add(&g_streams, 1) + 1;
  *result = stream;
  return CUDA_SUCCESS;
}
CUDA CUresult cuStreamCreate(struct stream** stream, unsigned flags) { return cuStreamCreateWithPriority(stream, flags, 0); }
CUDA CUresult cuStreamDestroy_v2(struct stream* stream) {
  ENTER(NEEDS_CONTEXT);
  NEED((uintptr_t)stream > 2, CUDA_ERROR_INVALID_HANDLE);
  free(stream);
  return CUDA_SUCCESS;
}
CUDA CUresult cuStreamDestroy(struct stream* stream) { return cuStreamDestroy_v2(stream); }
CUDA CUresult cuStreamSynchronize(struct stream* stream) {
  ENTER(NEEDS_CONTEXT);
  return wait_for(simgpu_stream(stream)->busy_until);
}
CUDA CUresult cuStreamQuery(struct stream* stream) {
  ENTER(NEEDS_CONTEXT);
  return simgpu_stream(stream)->busy_until > simgpu_now() ? CUDA_ERROR_NOT_READY : CUDA_SUCCESS;
}
CUDA CUresult cuStreamGetFlags(struct stream* stream, unsigned* flags) {
  ENTER(NEEDS_CONTEXT);
  *flags = simgpu_stream(stream)->flags;
  return CUDA_SUCCESS;
}
CUDA CUresult cuStreamGetPriority(struct stream* stream, int* priority) {
  ENTER(NEEDS_CONTEXT);
  *priority = simgpu_stream(stream)->priority;
  return CUDA_SUCCESS;
}
CUDA CUresult cuStreamGetId(struct stream* stream, unsigned long long* id) {
  ENTER(NEEDS_CONTEXT);
  *id = (uintptr_t)stream <= 2 ? 1 + (unsigned long long)(uintptr_t)stream : stream->id;
  return CUDA_SUCCESS;
}
CUDA CUresult cuStreamGetCtx(struct stream* stream, struct context** context) {
  ENTER(NEEDS_CONTEXT);
  *context = simgpu_stream(stream)->context;
  return CUDA_SUCCESS;
}
CUDA CUresult cuStreamGetCtx_v2(struct stream* stream, struct context** context, void** green) {
  if (green != NULL) *green = NULL;
  return cuStreamGetCtx(stream, context);
}
CUDA CUresult cuStreamGetDevice(struct stream* stream, CUdevice* device) {
  ENTER(NEEDS_CONTEXT);
  *device = simgpu_stream(stream)->context->ordinal;
  return CUDA_SUCCESS;
}
CUDA CUresult cuStreamIsCapturing(struct stream* stream, int* status) {
  (void)stream;
  ENTER(NEEDS_CONTEXT);
  *status = 0;
  return CUDA_SUCCESS;
}
CUDA CUresult cuStreamWaitEvent(struct stream* stream, struct event* event, unsigned flags) {
  (void)flags;
  ENTER(NEEDS_CONTEXT);
  NEED(event != NULL, CUDA_ERROR_INVALID_HANDLE);
  struct stream* waiting = simgpu_stream(stream);
  if (event->recorded && event->at > waiting->busy_until) waiting->busy_until = event->at;
  return CUDA_SUCCESS;
}
CUDA CUresult cuLaunchHostFunc(struct stream* stream, void (*function)(void*), void* argument) {
  ENTER(NEEDS_CONTEXT);
  NEED(function != NULL, CUDA_ERROR_INVALID_VALUE);
  CUresult waited = wait_for(simgpu_stream(stream)->busy_until);
  if (waited == CUDA_SUCCESS) function(argument);
  return waited;
}
CUDA CUresult cuStreamAddCallback(struct stream* stream, void (*function)(struct stream*, CUresult, void*), void* argument,
                                  unsigned flags) {
  (void)flags;
  ENTER(NEEDS_CONTEXT);
  CUresult waited = wait_for(simgpu_stream(stream)->busy_until);
  function(stream, waited, argument);
  return CUDA_SUCCESS;
}

CUDA CUresult cuCtxSynchronize(void) {
  ENTER(NEEDS_CONTEXT);
  return wait_for(simgpu_current->null_stream.busy_until);
}
CUDA CUresult cuCtxSynchronize_v2(struct context* context) {
  ENTER(NEEDS_INIT);
  struct context* before = simgpu_current;
  if (context != NULL) simgpu_current = context;
  CUresult result = cuCtxSynchronize();
  simgpu_current = before;
  return result;
}

CUDA CUresult cuEventCreate(struct event** event, unsigned flags) {
  ENTER(NEEDS_CONTEXT);
  NEED(event != NULL, CUDA_ERROR_INVALID_VALUE);
  *event = calloc(1, sizeof **event);
  NEED(*event != NULL, CUDA_ERROR_OUT_OF_MEMORY);
  (*event)->flags = flags;
  return CUDA_SUCCESS;
}
CUDA CUresult cuEventRecordWithFlags(struct event* event, struct stream* stream, unsigned flags) {
  (void)flags;
  ENTER(NEEDS_CONTEXT);
  NEED(event != NULL, CUDA_ERROR_INVALID_HANDLE);
  uint64_t now = simgpu_now();
  uint64_t until = simgpu_stream(stream)->busy_until;
  event->at = until > now ? until : now;
  event->recorded = true;
  return CUDA_SUCCESS;
}
CUDA CUresult cuEventRecord(struct event* event, struct stream* stream) { return cuEventRecordWithFlags(event, stream, 0); }
CUDA CUresult cuEventQuery(struct event* event) {
  ENTER(NEEDS_CONTEXT);
  NEED(event != NULL, CUDA_ERROR_INVALID_HANDLE);
  return event->recorded && event->at > simgpu_now() ? CUDA_ERROR_NOT_READY : CUDA_SUCCESS;
}
CUDA CUresult cuEventSynchronize(struct event* event) {
  ENTER(NEEDS_CONTEXT);
  NEED(event != NULL, CUDA_ERROR_INVALID_HANDLE);
  return event->recorded ? wait_for(event->at) : CUDA_SUCCESS;
}
CUDA CUresult cuEventElapsedTime_v2(float* milliseconds, struct event* begin, struct event* end) {
  ENTER(NEEDS_CONTEXT);
  NEED(begin != NULL && end != NULL && begin->recorded && end->recorded && ((begin->flags | end->flags) & 2U) == 0,
       CUDA_ERROR_INVALID_HANDLE);
  uint64_t now = simgpu_now();
  if (begin->at > now || end->at > now) return CUDA_ERROR_NOT_READY;
  *milliseconds = (float)(((double)end->at - (double)begin->at) * 1e-6);
  return CUDA_SUCCESS;
}
CUDA CUresult cuEventElapsedTime(float* milliseconds, struct event* begin, struct event* end) {
  return cuEventElapsedTime_v2(milliseconds, begin, end);
}
CUDA CUresult cuEventDestroy_v2(struct event* event) {
  ENTER(NEEDS_CONTEXT);
  NEED(event != NULL, CUDA_ERROR_INVALID_HANDLE);
  free(event);
  return CUDA_SUCCESS;
}
CUDA CUresult cuEventDestroy(struct event* event) { return cuEventDestroy_v2(event); }
