#include "os/group_dirs.h"

#include <fcntl.h>
#include <unistd.h>

#include <fstream>

#include "os/fd.h"

namespace holdfast::os {

namespace {

void add_with_parents(std::vector<GroupDir>& dirs, const std::string& mount, std::string group, bool v2) {
  for (int depth = 0; depth < 64; ++depth) {
    dirs.push_back({mount + group, v2});
    if (group.empty() || group == "/") break;
    group.erase(group.rfind('/'));
  }
}

}  // namespace

std::string read_line(const std::string& path) {
  std::ifstream in(path);
  std::string line;
  std::getline(in, line);
  return line;
}

std::uint64_t field(const std::string& path, const std::string& name) {
  std::ifstream in(path);
  std::string word;
  std::uint64_t value = 0;
  while (in >> word >> value) {
    if (word == name) return value;
  }
  return 0;
}

bool write_file(const std::string& path, const std::string& text) {
  Fd fd(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
  return fd.valid() && ::write(fd.get(), text.data(), text.size()) == static_cast<ssize_t>(text.size());
}

std::vector<GroupDir> group_dirs(const std::string& controller, const std::string& process) {
  std::vector<GroupDir> dirs;
  std::ifstream in("/proc/" + process + "/cgroup");
  for (std::string line; std::getline(in, line);) {
    std::size_t first = line.find(':');
    std::size_t second = line.find(':', first + 1);
    if (second == std::string::npos) continue;
    std::string controllers = line.substr(first + 1, second - first - 1);
    std::string group = line.substr(second + 1);
    if (controllers.empty()) add_with_parents(dirs, "/sys/fs/cgroup", group, true);
    if (("," + controllers + ",").find("," + controller + ",") != std::string::npos) {
      add_with_parents(dirs, "/sys/fs/cgroup/" + controllers, group, false);
    }
  }
  return dirs;
}

}  // namespace holdfast::os
