#include "inventory/kernel_kills.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <array>

#include "os/group_dirs.h"

namespace holdfast::inventory {

namespace {

constexpr const char* kKilled = "Killed process ";

}  // namespace

pid_t victim_of(const std::string& text) {
  std::size_t at = text.find(kKilled);
  // "Out of memory: Killed process 12 (name) ...", "Memory cgroup out of memory: Killed process ..." (mm/oom_kill.c).
  if (at == std::string::npos || (text.find("ut of memory") > at && text.find("om_kill") > at)) return 0;
  return static_cast<pid_t>(std::strtol(text.c_str() + at + std::string(kKilled).size(), nullptr, 10));
}

KernelKills::KernelKills() : log_(::open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC)) {
  if (log_.valid()) ::lseek(log_.get(), 0, SEEK_END);
  for (const os::GroupDir& dir : os::group_dirs("memory")) {
    std::string file = dir.path + (dir.v2 ? "/memory.events" : "/memory.oom_control");
    if (::access(file.c_str(), R_OK) != 0) continue;
    counter_ = file;
    break;
  }
  known_ = counted();
}

std::string KernelKills::words_on(pid_t pid) {
  read_log();
  std::uint64_t now = counted();
  bool is_counted = now > known_;
  // One for each that asks: which of them it was, the counter does not say.
  if (is_counted) ++known_;
  if (auto found = words_.find(pid); found != words_.end()) return found->second;
  return is_counted ? "the control group of this run has counted a process killed for want of memory" : "";
}

void KernelKills::read_log() {
  std::array<char, 8192> record{};
  for (int i = 0; log_.valid() && i < 100'000; ++i) {
    ssize_t size = ::read(log_.get(), record.data(), record.size());
    if (size < 0 && errno == EPIPE) continue;  // What was next has been overwritten.
    if (size <= 0) return;
    // A prefix, a semicolon, the text, and lines of key and value (Documentation/ABI/testing/dev-kmsg).
    std::string text(record.data(), static_cast<std::size_t>(size));
    text = text.substr(text.find(';') + 1);
    text = text.substr(0, text.find('\n'));
    if (pid_t victim = victim_of(text); victim > 0) words_[victim] = "the kernel's log: " + text.substr(0, 200);
  }
}

std::uint64_t KernelKills::counted() const { return os::field(counter_, "oom_kill"); }

}  // namespace holdfast::inventory
