// The functions by number and by name.
#include <string.h>

#include "shim.h"

#define ONE(symbol, name) +1
#define COUNT(name, api, group, traits, variants) HF_##variants(ONE, name)
enum { SYMBOLS = HF_FUNCTIONS(COUNT) };
const uint32_t hf_symbol_count = SYMBOLS;

#define FUNCTION_OF(symbol, name) HF_ID_##name,
#define FUNCTIONS_OF(name, api, group, traits, variants) HF_##variants(FUNCTION_OF, name)
uint16_t hf_entry_function[SYMBOLS + HF_SPARE] = {HF_FUNCTIONS(FUNCTIONS_OF)};
const void* hf_entry_fast[SYMBOLS + HF_SPARE];
_Atomic(const void*) hf_entry_real[SYMBOLS + HF_SPARE];

#define TEXT_OF(symbol, name) #symbol,
#define TEXTS_OF(name, api, group, traits, variants) HF_##variants(TEXT_OF, name)
static const char* const kSymbols[SYMBOLS] = {HF_FUNCTIONS(TEXTS_OF)};

static const struct {
  const char* name;
  uint8_t api, group, traits;
} kFunctions[] = {
#define ROW(name, api, group, traits, variants) {#name, HF_##api, HF_GROUP_##group, traits},
    HF_FUNCTIONS(ROW)};
_Static_assert((int)HF_FUNCTION_COUNT <= (int)HF_FUNCTIONS_MOST, "a function has no room in sets and counters");
_Static_assert(SYMBOLS + HF_SPARE < UINT16_MAX, "entries are numbered in 16 bits");

// Open addressing over the symbols; filled at the start, then only read.
enum { BUCKETS = 4096 };
static uint16_t buckets[BUCKETS];  // Entry + 1.

static uint32_t hash(const char* text, size_t length) {
  uint32_t sum = 2166136261u;  // FNV-1a.
  for (size_t i = 0; i < length; ++i) sum = (sum ^ (unsigned char)text[i]) * 16777619u;
  return sum % BUCKETS;
}

__attribute__((constructor(101))) static void fill_buckets(void) {
  for (uint32_t i = 0; i < SYMBOLS; ++i) {
    uint32_t at = hash(kSymbols[i], strlen(kSymbols[i]));
    while (buckets[at] != 0) at = (at + 1) % BUCKETS;
    buckets[at] = (uint16_t)(i + 1);
  }
}

static int find(const char* text, size_t length) {
  if (buckets[hash(kSymbols[0], strlen(kSymbols[0]))] == 0) fill_buckets();  // Another library's constructor was faster.
  for (uint32_t at = hash(text, length); buckets[at] != 0; at = (at + 1) % BUCKETS) {
    const char* symbol = kSymbols[buckets[at] - 1];
    if (strncmp(symbol, text, length) == 0 && symbol[length] == '\0') return buckets[at] - 1;
  }
  return -1;
}

const char* hf_symbol(uint32_t entry) { return entry < SYMBOLS ? kSymbols[entry] : NULL; }
int hf_entry_of(const char* symbol) { return find(symbol, strlen(symbol)); }

int hf_function_of(const char* symbol) {
  size_t length = strlen(symbol);
  int entry = find(symbol, length);
  if (entry >= 0) return hf_entry_function[entry];
  if (length > 5 && (strcmp(symbol + length - 5, "_ptsz") == 0 || strcmp(symbol + length - 5, "_ptds") == 0)) length -= 5;
  size_t digits = length;
  while (digits > 0 && symbol[digits - 1] >= '0' && symbol[digits - 1] <= '9') --digits;
  if (digits < length && digits > 2 && strncmp(symbol + digits - 2, "_v", 2) == 0) length = digits - 2;
  entry = find(symbol, length);
  return entry >= 0 ? hf_entry_function[entry] : -1;
}

enum hf_api hf_api_of(uint32_t function) { return kFunctions[function].api; }
enum hf_group hf_group_of(uint32_t function) { return kFunctions[function].group; }
unsigned hf_traits_of(uint32_t function) { return kFunctions[function].traits; }
const char* hf_name_of(uint32_t function) { return function < HF_FUNCTION_COUNT ? kFunctions[function].name : "?"; }
bool hf_uses_device(uint32_t function) { return kFunctions[function].group <= HF_GROUP_IPC; }
