// Cgroup: a v2 control group of our own, if this machine lets us make one. Gives a kill that nothing escapes.
//
// Facts: a v2 hierarchy may be mounted at /sys/fs/cgroup or beside v1 controllers at /sys/fs/cgroup/unified. Children inherit
// the group at fork, so moving one zygote covers all its tests. Moving a process costs about 0.3 ms (a global lock), so
// nothing is moved per test. cgroup.kill (Linux 5.14) kills atomically, also against a fork bomb.
#pragma once

#include <sys/types.h>

#include <string>

namespace holdfast::os {

class Cgroup {
 public:
  Cgroup() = default;
  /// A new group below the group of this process, named after its pid, or an empty Cgroup where that is not allowed. Removes
  /// what engines that were killed have left there.
  static Cgroup create();
  /// A new group below this one.
  [[nodiscard]] Cgroup create_child(const std::string& name) const;
  Cgroup(Cgroup&& other) noexcept : path_(std::move(other.path_)) { other.path_.clear(); }
  Cgroup& operator=(Cgroup&& other) noexcept {
    std::swap(path_, other.path_);
    return *this;
  }
  Cgroup(const Cgroup&) = delete;
  Cgroup& operator=(const Cgroup&) = delete;
  /// Removes the group if nothing is in it any more.
  ~Cgroup();

  [[nodiscard]] bool usable() const { return !path_.empty(); }
  [[nodiscard]] const std::string& path() const { return path_; }
  [[nodiscard]] bool add(pid_t pid) const;
  /// SIGKILL to every process in the group and below. False where there is no group or no cgroup.kill.
  [[nodiscard]] bool kill_all() const;

 private:
  explicit Cgroup(std::string path) : path_(std::move(path)) {}
  std::string path_;
};

}  // namespace holdfast::os
