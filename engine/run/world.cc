#include "run/world.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>

namespace holdfast::run {

namespace {

constexpr const char* kShared = "/dev/shm";
constexpr const char* kPrefix = "holdfast-world-";

// Open, and nobody else's; invalid otherwise.
os::Fd lock_folder(const std::string& path) {
  os::Fd fd(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (fd.valid() && ::flock(fd.get(), LOCK_EX | LOCK_NB) == 0) return fd;
  return os::Fd();
}

}  // namespace

void make_folder(World& world) {
  std::string folder = std::string(kShared) + "/" + kPrefix + world.name;
  if (::mkdir(folder.c_str(), 0700) != 0) return;
  world.folder = folder;
  world.lock = lock_folder(folder);
}

void remove_folder(World& world) {
  std::error_code ignored;
  if (!world.folder.empty()) std::filesystem::remove_all(world.folder, ignored);
  world.folder.clear();
  world.lock.reset();
}

void sweep_folders() {
  std::error_code ignored;
  for (const auto& entry : std::filesystem::directory_iterator(kShared, ignored)) {
    if (entry.path().filename().string().rfind(kPrefix, 0) != 0) continue;
    struct stat about{};
    if (::lstat(entry.path().c_str(), &about) != 0 || about.st_uid != ::getuid()) continue;
    if (os::Fd mine = lock_folder(entry.path().string()); mine.valid()) std::filesystem::remove_all(entry.path(), ignored);
  }
}

}  // namespace holdfast::run
