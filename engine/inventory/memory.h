// How much memory tests may use, by the machine and by the limits of our control groups.
#pragma once

#include <cstdint>
#include <string>

namespace holdfast::inventory {

struct Memory {
  std::uint64_t limit = 0;      ///< Bytes that everything together may use: the machine's, or a group's limit if that is less.
  std::uint64_t available = 0;  ///< Bytes that can still be had without swapping.
};

/// Zeros where /proc does not tell.
Memory memory();
/// True when so little is left (under 5 %) that another test might make the kernel kill somebody.
inline bool is_short(const Memory& memory) { return memory.limit > 0 && memory.available < memory.limit / 20; }
/// A group's limit: "max" (v2) and v1's huge default give 0, for none.
std::uint64_t bytes_of_limit(const std::string& text);

}  // namespace holdfast::inventory
