// MemoryGroup: a control group for one test that has declared its memory. The kernel kills in it alone when the test takes
// more, and counts that it did: proof, where a SIGKILL by itself would prove nothing.
//
// Facts: pages that a fork shares with its parent stay charged to the parent's group, so the limit is for what the test itself
// takes. v1 has its own memory hierarchy; in v2 the controller must be enabled in the parent, which the kernel refuses while
// processes live directly in that (cgroups(7), "no internal processes"), so often only a service manager's delegated group
// allows it.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>

namespace holdfast::os {

class MemoryGroup {
 public:
  MemoryGroup() = default;
  /// A group below our own, limited to `bytes`; an unusable one where that is not allowed.
  static MemoryGroup create(const std::string& name, std::uint64_t bytes);
  MemoryGroup(MemoryGroup&& other) noexcept { *this = std::move(other); }
  MemoryGroup& operator=(MemoryGroup&& other) noexcept {
    std::swap(path_, other.path_);
    std::swap(v2_, other.v2_);
    return *this;
  }
  MemoryGroup(const MemoryGroup&) = delete;
  MemoryGroup& operator=(const MemoryGroup&) = delete;
  /// Removes the group if nothing lives in it any more.
  ~MemoryGroup();

  [[nodiscard]] bool usable() const { return !path_.empty(); }
  [[nodiscard]] bool add(pid_t pid) const;
  /// How many processes of the group the kernel has killed for want of memory.
  [[nodiscard]] int kills() const;
  /// The most bytes that were in use at once.
  [[nodiscard]] std::uint64_t peak() const;

 private:
  std::string path_;
  bool v2_ = false;
};

}  // namespace holdfast::os
