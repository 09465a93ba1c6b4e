#include "inventory/memory.h"

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <sstream>

#include "os/group_dirs.h"

namespace holdfast::inventory {

namespace {

Memory of_machine() {
  Memory memory;
  std::ifstream in("/proc/meminfo");
  for (std::string line; std::getline(in, line);) {
    std::istringstream words(line);
    std::string name;
    std::uint64_t kib = 0;
    words >> name >> kib;
    if (name == "MemTotal:") memory.limit = kib << 10U;
    if (name == "MemAvailable:") memory.available = kib << 10U;
  }
  return memory;
}

// Page cache counts as used in a group, but the kernel gives it up before it kills.
std::uint64_t used_in(const os::GroupDir& dir) {
  std::uint64_t used = bytes_of_limit(os::read_line(dir.path + (dir.v2 ? "/memory.current" : "/memory.usage_in_bytes")));
  std::ifstream in(dir.path + "/memory.stat");
  for (std::string line; std::getline(in, line);) {
    std::istringstream words(line);
    std::string name;
    std::uint64_t bytes = 0;
    words >> name >> bytes;
    if (name == (dir.v2 ? "inactive_file" : "total_inactive_file")) return used - std::min(used, bytes);
  }
  return used;
}

}  // namespace

std::uint64_t bytes_of_limit(const std::string& text) {
  constexpr std::uint64_t kNone = std::uint64_t{1} << 60U;
  std::uint64_t bytes = std::strtoull(text.c_str(), nullptr, 10);
  return bytes >= kNone ? 0 : bytes;
}

Memory memory() {
  Memory result = of_machine();
  for (const os::GroupDir& dir : os::group_dirs("memory")) {
    std::uint64_t limit = bytes_of_limit(os::read_line(dir.path + (dir.v2 ? "/memory.max" : "/memory.limit_in_bytes")));
    if (limit == 0) continue;
    std::uint64_t used = used_in(dir);
    result.limit = std::min(result.limit, limit);
    result.available = std::min(result.available, limit - std::min(limit, used));
  }
  return result;
}

}  // namespace holdfast::inventory
