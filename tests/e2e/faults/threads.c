// Threads that make calls, and others after them: threads calls-each rounds.
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

int cuInit(unsigned);
int cuDevicePrimaryCtxRetain(void**, int);
int cuCtxSetCurrent(void*);
int cuCtxGetFlags(unsigned*);

static void* context;
static long calls;
static pthread_barrier_t all;

static void* work(void* unused) {
  (void)unused;
  unsigned flags;
  cuCtxSetCurrent(context);
  for (long i = 0; i < calls; ++i) cuCtxGetFlags(&flags);
  pthread_barrier_wait(&all);  // None ends while another one has yet to begin.
  return NULL;
}

int main(int argc, char** argv) {
  if (argc != 4 || cuInit(0) != 0 || cuDevicePrimaryCtxRetain(&context, 0) != 0) return 1;
  int threads = atoi(argv[1]);
  calls = atol(argv[2]);
  pthread_barrier_init(&all, NULL, (unsigned)threads);
  pthread_t* them = calloc((size_t)threads, sizeof *them);
  for (int round = 0; round < atoi(argv[3]); ++round) {
    for (int i = 0; i < threads; ++i) pthread_create(&them[i], NULL, work, NULL);
    for (int i = 0; i < threads; ++i) pthread_join(them[i], NULL);
  }
  free(them);
  return 0;
}
