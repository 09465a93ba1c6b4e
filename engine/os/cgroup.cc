#include "os/cgroup.h"

#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <sstream>
#include <string_view>

#include "os/group_dirs.h"

namespace holdfast::os {

namespace {

constexpr std::string_view kPrefix = "holdfast-";

// The mount point of the v2 hierarchy, from the lines "MOUNTPOINT ... - cgroup2 ..." of mountinfo.
std::string find_v2_mount() {
  std::ifstream in("/proc/self/mountinfo");
  for (std::string line; std::getline(in, line);) {
    if (line.find(" - cgroup2 ") == std::string::npos) continue;
    std::istringstream words(line);
    std::string word;
    for (int i = 0; i < 5; ++i) words >> word;
    return word;
  }
  return "";
}

// Our own group in the v2 hierarchy: the line "0::/path".
std::string find_own_group() {
  std::ifstream in("/proc/self/cgroup");
  for (std::string line; std::getline(in, line);) {
    if (line.rfind("0::", 0) == 0) return line.substr(3);
  }
  return "";
}

// Groups of engines that were killed, and so could not remove them. Only empty ones can be removed at all.
void remove_stale(const std::string& parent) {
  std::error_code failed;
  for (const auto& entry : std::filesystem::directory_iterator(parent, failed)) {
    std::string name = entry.path().filename();
    if (name.rfind(kPrefix, 0) != 0) continue;
    pid_t pid = std::atoi(name.c_str() + kPrefix.size());
    if (pid <= 0 || ::kill(pid, 0) == 0) continue;
    std::error_code ignored;
    for (const auto& child : std::filesystem::directory_iterator(entry.path(), ignored)) {
      if (child.is_directory(ignored)) ::rmdir(child.path().c_str());
    }
    ::rmdir(entry.path().c_str());
  }
}

}  // namespace

Cgroup Cgroup::create() {
  std::string mount = find_v2_mount();
  std::string own = find_own_group();
  if (mount.empty() || own.empty()) return {};
  std::string parent = mount + (own == "/" ? "" : own) + "/";
  remove_stale(parent);
  std::string path = parent + std::string(kPrefix) + std::to_string(::getpid());
  if (::mkdir(path.c_str(), 0755) != 0) return {};
  Cgroup group(std::move(path));
  // Without cgroup.kill the group would be a directory to clean up and nothing more.
  if (::access((group.path_ + "/cgroup.kill").c_str(), W_OK) != 0) return {};
  return group;
}

Cgroup Cgroup::create_child(const std::string& name) const {
  if (path_.empty()) return {};
  std::string path = path_ + "/" + name;
  return ::mkdir(path.c_str(), 0755) == 0 ? Cgroup(std::move(path)) : Cgroup();
}

Cgroup::~Cgroup() {
  if (!path_.empty()) ::rmdir(path_.c_str());
}

bool Cgroup::add(pid_t pid) const { return usable() && write_file(path_ + "/cgroup.procs", std::to_string(pid)); }

bool Cgroup::kill_all() const { return usable() && write_file(path_ + "/cgroup.kill", "1"); }

}  // namespace holdfast::os
