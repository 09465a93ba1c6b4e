// The part of PMIx's binary interface that a server of one node needs. The library is opened at run time, so that neither a
// build nor an installation needs it: sizes, numbers and keys are those of the PMIx standard 4 (openpmix 4.x and 5.x, which
// agree on them); tests/real/pmix_header.py compares them with an installed header.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace holdfast::mpi::pmix {

constexpr std::size_t kKey = 512;
constexpr std::size_t kName = 256;

using Code = int;
constexpr Code kSuccess = 0;
constexpr Code kDone = -157;  // PMIX_OPERATION_SUCCEEDED: the callback will not be called.
constexpr Code kNotFound = -46;

enum class Type : std::uint16_t {
  Bool = 1,
  String = 3,
  Info = 24,
  Uint16 = 13,
  Uint32 = 14,
  Array = 39,
  Rank = 40,
  Regex = 49
};

struct Process {
  std::array<char, kName> name;
  std::uint32_t rank;
};

struct Info;
struct Array {
  Type type;
  std::size_t size;
  Info* entries;
};

struct Value {
  Type type;
  union {
    Array* array;
    std::array<std::uint64_t, 3> room;
  } data;
};

struct Info {
  std::array<char, kKey> key;
  std::uint32_t flags;
  Value value;
};

static_assert(sizeof(Value) == 32 && offsetof(Value, data) == 8);
static_assert(sizeof(Info) == 552 && offsetof(Info, value) == 520);
static_assert(sizeof(Process) == 260 && sizeof(Array) == 24);

using OnDone = void (*)(Code code, void* data);
using OnFence = void (*)(Code code, const char* data, std::size_t size, void* then, void (*release)(void*), void* released);

/// Callbacks of the library, called in a thread of its own. The rest of the table, 23 entries and room for what later versions
/// add, stays null: not supported.
struct Module {
  Code (*client_connected)(const Process*, void* object, OnDone, void*);
  Code (*client_finalized)(const Process*, void* object, OnDone, void*);
  Code (*abort)(const Process*, void* object, int status, const char* words, Process*, std::size_t, OnDone, void*);
  Code (*fence)(const Process*, std::size_t, const Info*, std::size_t, char* data, std::size_t size, OnFence, void*);
  Code (*direct_modex)(const Process*, const Info*, std::size_t, OnFence, void*);
  std::array<void*, 59> others;
};
static_assert(sizeof(Module) >= 224);

/// PMIx_NAME each; all of them are in versions 4.2 and later.
struct Library {
  Code (*info_load)(Info*, const char* key, const void* data, Type);
  Code (*server_init)(Module*, Info*, std::size_t);
  Code (*register_nspace)(const char* name, int local, Info*, std::size_t, OnDone, void*);
  Code (*register_client)(const Process*, std::uint32_t uid, std::uint32_t gid, void* object, OnDone, void*);
  Code (*setup_fork)(const Process*, char*** environment);
  void (*deregister_nspace)(const char* name, OnDone, void*);
  Code (*generate_regex)(const char* input, char** regex);
  Code (*generate_ppn)(const char* input, char** ppn);
  const char* (*error_string)(Code);
};

}  // namespace holdfast::mpi::pmix
