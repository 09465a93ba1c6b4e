#include "serve/hold.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>

#include "os/fd.h"
#include "os/group_dirs.h"

namespace holdfast::serve {

namespace {

constexpr std::uint64_t kStep = std::uint64_t{16} << 20U;

int give_up(const char* what) {
  std::printf("%s: %s\n", what, std::strerror(errno));
  std::fflush(stdout);
  return 1;
}

/// False when stdin has ended, which is when the service has.
bool wait_for_byte() {
  char byte = 0;
  ssize_t got = 0;
  do {
    got = ::read(STDIN_FILENO, &byte, 1);
  } while (got < 0 && errno == EINTR);
  return got == 1;
}

int take_memory(const Hold& hold) {
  if (!os::write_file(hold.place, std::to_string(::getpid()))) return give_up("join the control group");
  // If the group is full, this process goes first: what is to feel the pressure lives on.
  os::write_file("/proc/self/oom_score_adj", "1000");
  void* at = ::mmap(nullptr, hold.bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (at == MAP_FAILED) return give_up("map the memory");
  std::memset(at, 0x5a, hold.bytes);
  return 0;
}

int take_disk(const Hold& hold) {
  os::Fd file(::open(hold.place.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
  if (!file.valid()) return give_up("make the file");
  for (std::uint64_t done = 0; done < hold.bytes; done += kStep) {
    auto length = static_cast<off_t>(std::min(kStep, hold.bytes - done));
    if (int problem = ::posix_fallocate(file.get(), static_cast<off_t>(done), length); problem != 0) {
      errno = problem;
      return give_up("fill the file");
    }
  }
  return 0;
}

}  // namespace

int hold(const Hold& hold) {
  if (!wait_for_byte()) return 0;
  int code = hold.what == "memory" ? take_memory(hold) : take_disk(hold);
  if (code != 0) return code;
  std::printf("ready\n");
  std::fflush(stdout);
  while (wait_for_byte()) {
  }
  return 0;
}

}  // namespace holdfast::serve
