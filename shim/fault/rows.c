// Counters: a row for each thread and device, so that counting is one addition to memory that no other thread writes.
#define _GNU_SOURCE
#include <pthread.h>

#include "shim.h"

enum { MINE = 1024 };

// This process's rows. One that a thread has left is taken by the next one with that device.
static struct {
  uint32_t row;
  int32_t device;
  _Atomic uint32_t state;  // 0: being made; 1: free; 2: taken.
} mine[MINE];
static _Atomic uint32_t mine_count;
static pthread_key_t key;

__thread uint64_t* hf_row;
static __thread uint32_t held;  // Its number in `mine`, + 1.

int hf_row_device(void) { return held != 0 && hf_row != NULL ? mine[held - 1].device : -1; }

static void give_back(void) {
  hf_row = NULL;
  if (held != 0) atomic_store(&mine[held - 1].state, 1);
  held = 0;
}

static void thread_ended(void* unused) {
  (void)unused;
  give_back();
}

void hf_rows_start(void) { pthread_key_create(&key, thread_ended); }

void hf_rows_forked(void) {
  hf_row = NULL;
  held = 0;
  atomic_store(&mine_count, 0);
}

static uint64_t* take(uint32_t number) {
  held = number + 1;
  pthread_setspecific(key, &held);  // Not NULL, so that thread_ended() is called.
  return hf_row = hf_block->row[mine[number].row].passed;
}

static struct hf_row* new_row(int device, uint32_t* index) {
  uint32_t rows = hf_block->rows;
  *index = atomic_fetch_add_explicit(&hf_block->rows_used, 1, memory_order_relaxed);
  if (*index >= rows) {
    // All of them share the last one, without a lock: what it counts is too little.
    atomic_store_explicit(&hf_block->rows_used, rows + 1, memory_order_relaxed);
    *index = rows - 1;
  }
  struct hf_row* row = &hf_block->row[*index];
  row->pid = hf_pid;
  row->rank = hf_rank;
  row->device = device;
  __atomic_store_n(&row->ready, 1, __ATOMIC_RELEASE);
  return row;
}

uint64_t* hf_row_for(int device) {
  if (held != 0 && hf_row != NULL && mine[held - 1].device == device) return hf_row;
  give_back();
  uint32_t count = atomic_load(&mine_count);
  for (uint32_t i = 0; i < count && i < MINE; ++i) {
    uint32_t is_free = 1;
    if (mine[i].device == device && atomic_compare_exchange_strong(&mine[i].state, &is_free, 2)) return take(i);
  }
  uint32_t number = atomic_load(&mine_count);
  do {
    if (number == MINE) break;
  } while (!atomic_compare_exchange_weak(&mine_count, &number, number + 1));
  if (number == MINE) {
    uint32_t last;
    new_row(device, &last);
    return hf_row = hf_block->row[hf_block->rows - 1].passed;
  }
  atomic_store(&mine[number].state, 0);
  new_row(device, &mine[number].row);
  mine[number].device = device;
  atomic_store(&mine[number].state, 2);
  return take(number);
}
