#define _GNU_SOURCE
#include "wishes.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "shim.h"
#include "xids.h"

#define SAY(...) (snprintf(problem, size, __VA_ARGS__), false)

static int index_of(const char* word, const char* const* words, int count) {
  for (int i = 0; i < count; ++i) {
    if (strcmp(word, words[i]) == 0) return i;
  }
  return -1;
}

const char* const hf_kind_names[] = {"error", "delay", "hang", "corrupt"};
const char* const hf_reach_names[] = {"call", "context", "device"};
const char* const hf_api_names[] = {"driver", "runtime", "nvml"};
#define GROUP(group) #group,
const char* const hf_group_names[] = {HF_GROUPS(GROUP)};

static void put(struct hf_fault* fault, uint32_t function) {
  fault->functions[function / 64] |= UINT64_C(1) << (function % 64);
}

static bool is_corruptible(uint32_t function) {
#define ID(name) HF_ID_##name,
  static const uint16_t kThem[] = {HF_CORRUPTIBLE(ID)};
  for (size_t i = 0; i < sizeof kThem / sizeof kThem[0]; ++i) {
    if (kThem[i] == function) return true;
  }
  return false;
}

static bool is_meant(const char* word, size_t length, uint32_t function) {
  if (length > 0 && word[length - 1] == '*') return strncmp(hf_name_of(function), word, length - 1) == 0;
  const char* api = hf_api_names[hf_api_of(function)];
  if (strlen(api) == length && strncmp(api, word, length) == 0) return true;
  // Groups of the two CUDA APIs go by the same names; nvml_start is only written in full.
  const char* group = hf_group_names[hf_group_of(function)];
  if (strlen(group) == length && strncasecmp(group, word, length) == 0 && islower((unsigned char)word[0])) return true;
  char symbol[96];
  if (length >= sizeof symbol) return false;
  memcpy(symbol, word, length);
  symbol[length] = '\0';
  return hf_function_of(symbol) == (int)function;
}

/// Where a name is not known: those that begin like it.
static bool say_unknown(const char* word, size_t length, char* problem, size_t size) {
  const char* near = NULL;
  size_t best = 5;
  for (uint32_t i = 0; i < HF_FUNCTION_COUNT; ++i) {
    size_t same = 0;
    const char* name = hf_name_of(i);
    while (same < length && name[same] != '\0' && tolower((unsigned char)name[same]) == tolower((unsigned char)word[same]))
      ++same;
    if (same > best) {
      best = same;
      near = name;
    }
  }
  return SAY(
      "functions: '%.*s' is no function of CUDA or NVML that can be struck%s%s%s; `holdfast faults functions` lists them, with "
      "their groups",
      (int)length, word, near != NULL ? " (nearest: " : "", near != NULL ? near : "", near != NULL ? ")" : "");
}

static bool choose_functions(const struct hf_wish* wish, struct hf_fault* fault, char* problem, size_t size) {
  for (const char* word = wish->functions; word != NULL && *word != '\0';) {
    size_t length = strcspn(word, ","), found = 0;
    const char* next = word + length + (word[length] == ',');
    while (length > 0 && isspace((unsigned char)*word)) ++word, --length;
    while (length > 0 && isspace((unsigned char)word[length - 1])) --length;
    for (uint32_t i = 0; i < HF_FUNCTION_COUNT; ++i) {
      if (!is_meant(word, length, i) || (fault->kind == HF_CORRUPT && !is_corruptible(i))) continue;
      put(fault, i);
      ++found;
    }
    if (found == 0 && fault->kind == HF_CORRUPT)
      return SAY(
          "functions: '%.*s' has no copy that can be falsified; those are cuMemcpy, cudaMemcpy and their kind in one dimension",
          (int)length, word);
    if (found == 0) return say_unknown(word, length, problem, size);
    word = next;
  }
  if (wish->functions != NULL && wish->functions[0] != '\0') return true;
  for (uint32_t i = 0; i < HF_FUNCTION_COUNT; ++i) {
    if (fault->kind == HF_CORRUPT ? is_corruptible(i) : hf_uses_device(i)) put(fault, i);
  }
  return true;
}

static bool choose_codes(const struct hf_wish* wish, struct hf_fault* fault, char* problem, size_t size) {
  const struct hf_xid* xid = wish->xid != 0 ? hf_xid(wish->xid) : NULL;
  bool codes = wish->driver != 0 || wish->runtime != 0 || wish->nvml != 0;
  if (wish->xid != 0 && xid == NULL) {
    char known[256] = "";
    for (const struct hf_xid* entry = hf_xids; entry->xid != 0; ++entry) {
      snprintf(known + strlen(known), sizeof known - strlen(known), "%s%d", known[0] != '\0' ? ", " : "", entry->xid);
    }
    return SAY("xid: %d can't be imitated; those that can are %s", wish->xid, known);
  }
  if (fault->kind != HF_ERROR && (codes || xid != NULL)) return SAY("kind: a %s has no error code and no XID", wish->kind);
  if (fault->kind == HF_ERROR && !codes && xid == NULL)
    return SAY("kind: an error needs a code (driver, runtime, nvml) or an XID");
  if (codes && xid != NULL) return SAY("xid: XID %d says by itself what calls return; leave out the codes", wish->xid);
  if (wish->driver < 0 || wish->runtime < 0 || wish->nvml < 0) return SAY("a code is a number above 0");
  fault->xid = wish->xid;
  fault->codes[HF_DRIVER] = xid != NULL ? xid->driver : wish->driver;
  fault->codes[HF_RUNTIME] = xid != NULL ? xid->runtime : wish->runtime;
  fault->codes[HF_NVML] = xid != NULL ? xid->nvml : wish->nvml;
  if (wish->reach == NULL && xid != NULL) fault->reach = xid->reach;
  return true;
}

static bool choose_target(const struct hf_wish* wish, struct hf_fault* fault, char* problem, size_t size) {
  if (wish->device < -1 || wish->device >= HF_DEVICES)
    return SAY("device: %d; devices are numbered from 0 to %d, -1 is any", wish->device, HF_DEVICES - 1);
  if (wish->uuid != NULL && wish->uuid[0] != '\0') {
    if (wish->device >= 0) return SAY("device and uuid both name a device; leave one out");
    if (strlen(wish->uuid) >= HF_UUID) return SAY("uuid: '%.60s' is too long for one", wish->uuid);
    snprintf(fault->uuid, sizeof fault->uuid, "%s", wish->uuid);
  }
  if (wish->pid < -1 || wish->rank < -1) return SAY("pid and rank are at least 0, or -1 for any");
  fault->device = wish->device;
  fault->pid = wish->pid;
  fault->rank = wish->rank;
  return true;
}

bool hf_fault_from(const struct hf_wish* wish, struct hf_fault* fault, char* problem, size_t size) {
  memset(fault, 0, sizeof *fault);
  int kind = wish->kind != NULL ? index_of(wish->kind, hf_kind_names, 4) : -1;
  if (kind < 0) return SAY("kind: '%s' is none; error, delay, hang, corrupt", wish->kind != NULL ? wish->kind : "");
  fault->kind = (uint32_t)kind + 1;
  int reach = wish->reach != NULL ? index_of(wish->reach, hf_reach_names, 3) : 0;
  if (reach < 0) return SAY("reach: '%s' is none; call, context, device", wish->reach);
  fault->reach = (uint32_t)reach;
  if (fault->kind != HF_ERROR && reach != HF_CALL) return SAY("reach: only an error reaches further than the call");
  if (!(wish->probability > 0 && wish->probability <= 1))
    return SAY("probability: %g; give one above 0 and up to 1", wish->probability);
  if (fault->kind == HF_DELAY && wish->delay_ns == 0) return SAY("delay: how long? give its seconds");
  if (fault->kind != HF_DELAY && wish->delay_ns != 0) return SAY("delay: a %s has none", wish->kind);
  if (!choose_target(wish, fault, problem, size) || !choose_functions(wish, fault, problem, size) ||
      !choose_codes(wish, fault, problem, size))
    return false;
  snprintf(fault->name, sizeof fault->name, "%s", wish->name != NULL && wish->name[0] != '\0' ? wish->name : wish->kind);
  fault->after = wish->after;
  fault->times = wish->times;
  fault->probability = wish->probability;
  fault->seed = wish->seed;
  fault->nanoseconds = wish->delay_ns;
  return true;
}

static bool same_target(const struct hf_fault* a, const struct hf_fault* b) {
  bool device = strcmp(a->uuid, b->uuid) == 0 && (a->device == b->device || a->device < 0 || b->device < 0);
  return device && (a->rank == b->rank || a->rank < 0 || b->rank < 0) && (a->pid == b->pid || a->pid < 0 || b->pid < 0);
}

bool hf_fault_fits(const struct hf_block* block, const struct hf_fault* fault, char* problem, size_t size) {
  uint64_t armed = atomic_load(&block->armed);
  for (int i = 0; i < HF_FAULTS; ++i) {
    const struct hf_fault* other = &block->faults[i];
    if ((armed >> i & 1) == 0 || fault->reach != HF_DEVICE || other->reach != HF_DEVICE || !same_target(fault, other)) continue;
    if (memcmp(fault->codes, other->codes, sizeof fault->codes) == 0 && fault->xid == other->xid) continue;
    return SAY("'%.63s' breaks the same device in another way and is armed (fault %llu); heal it first", other->name,
               (unsigned long long)atomic_load(&other->id));
  }
  return true;
}
