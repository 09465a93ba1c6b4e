#include "run/leavings.h"

#include <fmt/format.h>
#include <sys/shm.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <sstream>

#include "os/procfs.h"
#include "os/sockets.h"

namespace holdfast::run {

namespace {

constexpr const char* kShared = "/dev/shm/";
constexpr std::size_t kMaxPaths = 200;
// The loop must not stand still while somebody's gigabytes are removed.
constexpr int kMaxRemoved = 1000;

// Path to its letter, the one of tempfile first.
std::map<std::string, char> read_trail(const std::string& trail) {
  std::map<std::string, char> found;
  std::uint32_t used = 0;
  constexpr std::size_t kHeader = 8;
  if (trail.size() < kHeader) return found;
  std::memcpy(&used, trail.data(), sizeof used);
  std::size_t end = std::min<std::size_t>(trail.size(), kHeader + used);
  for (std::size_t at = kHeader; at < end && found.size() < kMaxPaths;) {
    std::size_t stop = std::min(trail.find('\0', at), end);
    if (stop > at + 1) {
      auto [entry, is_new] = found.emplace(trail.substr(at + 1, stop - at - 1), trail[at]);
      if (!is_new && trail[at] == 't') entry->second = 't';
    }
    at = stop + 1;
  }
  return found;
}

void remove(const std::string& path) {
  std::error_code error;
  std::vector<std::filesystem::path> all;
  for (auto it = std::filesystem::recursive_directory_iterator(path, error);
       !error && it != std::filesystem::recursive_directory_iterator() && all.size() < kMaxRemoved; it.increment(error)) {
    all.push_back(it->path());
  }
  for (auto it = all.rbegin(); it != all.rend(); ++it) std::filesystem::remove(*it, error);
  std::filesystem::remove(path, error);
}

void clear_path(const std::string& path, char kind, double began, std::vector<Leak>& found) {
  struct stat status{};
  // Not older than the test; file systems keep coarse time.
  if (::lstat(path.c_str(), &status) != 0 || static_cast<double>(status.st_ctime) < began - 1) return;
  bool shared = path.rfind(kShared, 0) == 0 && path.find('/', std::strlen(kShared)) == std::string::npos;
  bool directory = S_ISDIR(status.st_mode);
  if (kind == 's' && shared) {
    found.push_back({"shm", fmt::format("shared memory {}, {} bytes", path, status.st_size)});
    ::unlink(path.c_str());
  } else if (kind == 't' && status.st_uid == ::geteuid()) {
    found.push_back({"file", directory ? fmt::format("temporary directory {}", path)
                                       : fmt::format("temporary file {}, {} bytes", path, status.st_size)});
    remove(path);
  } else if (kind == 'o') {
    found.push_back({"file", directory ? fmt::format("directory {} (not removed)", path)
                                       : fmt::format("file {}, {} bytes (not removed)", path, status.st_size)});
  }
}

void clear_segments(pid_t pid, std::vector<Leak>& found) {
  std::ifstream file("/proc/sysvipc/shm");
  std::string line;
  std::getline(file, line);
  while (std::getline(file, line)) {
    long key = 0;
    long id = 0;
    std::string rights;
    long long size = 0;
    pid_t maker = 0;
    if (!(std::istringstream(line) >> key >> id >> rights >> size >> maker) || maker != pid) continue;
    found.push_back({"sysv", fmt::format("System V shared memory segment {}, {} bytes", id, size)});
    ::shmctl(static_cast<int>(id), IPC_RMID, nullptr);
  }
}

}  // namespace

Survivor describe_survivor(pid_t pid) { return Survivor{pid, os::command_line(pid), 0, os::listening_on(pid)}; }

std::vector<Leak> clear_leavings(const std::string& trail, pid_t pid, double began) {
  std::vector<Leak> found;
  for (const auto& [path, kind] : read_trail(trail)) clear_path(path, kind, began, found);
  if (pid > 0) clear_segments(pid, found);
  return found;
}

}  // namespace holdfast::run
