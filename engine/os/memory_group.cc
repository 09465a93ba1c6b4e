#include "os/memory_group.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>

#include "os/group_dirs.h"

namespace holdfast::os {

MemoryGroup MemoryGroup::create(const std::string& name, std::uint64_t bytes) {
  MemoryGroup group;
  for (bool v2 : {false, true}) {
    std::vector<GroupDir> dirs = group_dirs("memory");  // The first of a hierarchy is our own.
    auto own = std::find_if(dirs.begin(), dirs.end(), [v2](const GroupDir& dir) { return dir.v2 == v2; });
    if (own == dirs.end() || ::access(own->path.c_str(), W_OK) != 0) continue;
    const std::string& parent = own->path;
    if (v2 && !write_file(parent + "/cgroup.subtree_control", "+memory")) continue;
    std::string path = parent;
    path.append("/").append(name);
    if (::mkdir(path.c_str(), 0755) != 0) continue;
    std::string limit = std::to_string(bytes);
    if (write_file(path + (v2 ? "/memory.max" : "/memory.limit_in_bytes"), limit)) {
      // Swap would let it go on, slowly. The file is missing where swap is not accounted for.
      write_file(path + (v2 ? "/memory.swap.max" : "/memory.memsw.limit_in_bytes"), v2 ? "0" : limit);
      group.path_ = path;
      group.v2_ = v2;
      return group;
    }
    ::rmdir(path.c_str());
  }
  return group;
}

MemoryGroup::~MemoryGroup() {
  if (usable()) ::rmdir(path_.c_str());
}

bool MemoryGroup::add(pid_t pid) const { return usable() && write_file(path_ + "/cgroup.procs", std::to_string(pid)); }

int MemoryGroup::kills() const {
  if (!usable()) return 0;
  return static_cast<int>(field(path_ + (v2_ ? "/memory.events" : "/memory.oom_control"), "oom_kill"));
}

std::uint64_t MemoryGroup::peak() const {
  std::ifstream in(path_ + (v2_ ? "/memory.peak" : "/memory.max_usage_in_bytes"));
  std::uint64_t bytes = 0;
  return usable() && in >> bytes ? bytes : 0;
}

}  // namespace holdfast::os
