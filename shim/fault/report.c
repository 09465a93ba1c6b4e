// What is on the page, as JSON.
#define _GNU_SOURCE
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "control.h"
#include "page.h"
#include "shim.h"
#include "wishes.h"
#include "xids.h"

struct text {
  char* at;
  size_t size, length;
};

__attribute__((format(printf, 2, 3))) static void say(struct text* text, const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  size_t room = text->length < text->size ? text->size - text->length : 0;
  int length = vsnprintf(room > 0 ? text->at + text->length : NULL, room, format, arguments);
  va_end(arguments);
  if (length > 0) text->length += (size_t)length;
}

/// A string that any process may have written: bounded, and only what JSON takes as it is.
static void say_string(struct text* text, const char* string, size_t most) {
  say(text, "\"");
  for (size_t i = 0; i < most && string[i] != '\0'; ++i) {
    unsigned char c = (unsigned char)string[i];
    if (c == '"' || c == '\\') {
      say(text, "\\%c", c);
    } else if (c < 0x20 || c >= 0x7f) {
      say(text, "\\u%04x", c);
    } else {
      say(text, "%c", c);
    }
  }
  say(text, "\"");
}

static const char* word(uint32_t number, const char* const* words, uint32_t count) {
  return number < count ? words[number] : "?";
}

static void say_first(struct text* text, const struct hf_first* first) {
  if (atomic_load_explicit(&first->state, memory_order_acquire) != 2) {
    say(text, "null");
    return;
  }
  say(text, "{\"pid\":%d,\"tid\":%d,\"rank\":%d,\"device\":%d,\"function\":\"%s\",\"call\":%llu,\"at_ns\":%llu,\"stack\":",
      first->pid, first->tid, first->rank, first->device, hf_name_of(first->function), (unsigned long long)first->call,
      (unsigned long long)first->at);
  say_string(text, first->stack, HF_STACK);
  say(text, "}");
}

static void say_fault(struct text* text, const struct hf_fault* fault, uint64_t id, bool armed) {
  say(text, "{\"id\":%llu,\"name\":", (unsigned long long)id);
  say_string(text, fault->name, HF_NAME);
  say(text, ",\"kind\":\"%s\",\"reach\":\"%s\",\"armed\":%s,\"healed\":%s,\"device\":%d,\"uuid\":",
      word(fault->kind - 1, hf_kind_names, 4), word(fault->reach, hf_reach_names, 3), armed ? "true" : "false",
      fault->healed != 0 ? "true" : "false", fault->device);
  say_string(text, fault->uuid, HF_UUID);
  say(text, ",\"pid\":%d,\"rank\":%d,\"xid\":%d,\"codes\":[%d,%d,%d]", fault->pid, fault->rank, fault->xid, fault->codes[0],
      fault->codes[1], fault->codes[2]);
  say(text, ",\"watched\":%llu,\"struck\":%llu,\"occurred\":%llu,\"first\":", (unsigned long long)atomic_load(&fault->watched),
      (unsigned long long)atomic_load(&fault->struck), (unsigned long long)atomic_load(&fault->occurred));
  say_first(text, &fault->first);
  say(text, "}");
}

static void say_row(struct text* text, const struct hf_row* row, bool* first) {
  if (__atomic_load_n(&row->ready, __ATOMIC_ACQUIRE) == 0) return;
  say(text, "%s{\"pid\":%d,\"rank\":%d,\"device\":%d,\"calls\":{", *first ? "" : ",", row->pid, row->rank, row->device);
  *first = false;
  bool none = true;
  for (uint32_t i = 0; i < HF_FUNCTION_COUNT; ++i) {
    uint64_t passed = __atomic_load_n(&row->passed[i], __ATOMIC_RELAXED),
             failed = __atomic_load_n(&row->failed[i], __ATOMIC_RELAXED);
    if (passed == 0 && failed == 0) continue;
    say(text, "%s\"%s\":[%llu,%llu]", none ? "" : ",", hf_name_of(i), (unsigned long long)passed, (unsigned long long)failed);
    none = false;
  }
  say(text, "}}");
}

size_t hf_control_report(struct hf_control* control, char* at, size_t size) {
  const struct hf_block* block = control->block;
  struct text text = {at, size, 0};
  uint64_t armed = atomic_load(&block->armed);
  // What the page says of its own size may have been overwritten: the file's size is what counts.
  uint32_t room = (uint32_t)((control->bytes - sizeof *block) / sizeof(struct hf_row)), used = atomic_load(&block->rows_used);
  say(&text, "{\"attached\":%u,\"missed\":%u,\"counts_lost\":%s,\"faults\":[", atomic_load(&block->attached),
      atomic_load(&block->missed), used > room ? "true" : "false");
  bool first = true;
  for (int i = 0; i < HF_FAULTS; ++i) {
    uint64_t id = atomic_load_explicit(&block->faults[i].id, memory_order_acquire);
    if (id == 0) continue;
    if (!first) say(&text, ",");
    first = false;
    say_fault(&text, &block->faults[i], id, (armed >> i & 1) != 0);
  }
  say(&text, "],\"rows\":[");
  first = true;
  for (uint32_t i = 0; i < room && i < used; ++i) say_row(&text, &block->row[i], &first);
  say(&text, "]}");
  return text.length;
}

size_t hf_control_xids(char* at, size_t size) {
  struct text text = {at, size, 0};
  say(&text, "[");
  for (const struct hf_xid* xid = hf_xids; xid->xid != 0; ++xid) {
    say(&text, "%s{\"xid\":%d,\"driver\":%d,\"runtime\":%d,\"nvml\":%d,\"reach\":\"%s\",\"ecc\":%s,\"remedy\":\"%s\",\"name\":",
        xid == hf_xids ? "" : ",", xid->xid, xid->driver, xid->runtime, xid->nvml, hf_reach_names[xid->reach],
        xid->ecc ? "true" : "false", xid->remedy);
    say_string(&text, xid->name, 256);
    say(&text, ",\"meaning\":");
    say_string(&text, xid->meaning, 512);
    say(&text, ",\"text\":");
    say_string(&text, xid->text, 512);
    say(&text, "}");
  }
  say(&text, "]");
  return text.length;
}

size_t hf_control_functions(char* at, size_t size) {
  struct text text = {at, size, 0};
  say(&text, "[");
  for (uint32_t i = 0; i < HF_FUNCTION_COUNT; ++i) {
    say(&text, "%s[\"%s\",\"%s\",\"", i == 0 ? "" : ",", hf_name_of(i), hf_api_names[hf_api_of(i)]);
    for (const char* c = hf_group_names[hf_group_of(i)]; *c != '\0'; ++c) say(&text, "%c", *c | 0x20);
    say(&text, "\"]");
  }
  say(&text, "]");
  return text.length;
}
