#include "serve/kernel_log.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "os/fd.h"

namespace holdfast::serve {

namespace {

constexpr const char* kKmsg = "/dev/kmsg";
constexpr const char* kJournal = "/run/systemd/journal/socket";

// Priority 3, an error. The prefix twice: journald takes the first one for the name of a subsystem, and monitors that read the
// journal look for the second.
Status write_kmsg(const std::string& line) {
  os::Fd file(::open(kKmsg, O_WRONLY | O_CLOEXEC));
  if (!file.valid()) return fail_errno(ErrorKind::UserMistake, std::string("open ") + kKmsg);
  std::string text = "<3>NVRM: " + line + "\n";
  if (::write(file.get(), text.data(), text.size()) < 0) {
    return fail_errno(ErrorKind::UserMistake, std::string("write to ") + kKmsg);
  }
  return {};
}

// The native protocol: https://systemd.io/JOURNAL_NATIVE_PROTOCOL
Status write_journal(const std::string& line) {
  os::Fd socket(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (!socket.valid()) return fail_errno(ErrorKind::UserMistake, "open a socket");
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::string(kJournal).copy(address.sun_path, sizeof address.sun_path - 1);
  std::string text = "PRIORITY=3\nSYSLOG_IDENTIFIER=kernel\nMESSAGE=" + line + "\n";
  if (::sendto(socket.get(), text.data(), text.size(), 0, reinterpret_cast<sockaddr*>(&address), sizeof address) < 0) {
    return fail_errno(ErrorKind::UserMistake, std::string("write to ") + kJournal);
  }
  return {};
}

Status append(const std::string& path, const std::string& line) {
  os::Fd file(::open(path.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644));
  if (!file.valid()) return fail_errno(ErrorKind::UserMistake, "open " + path);
  std::string text = line + "\n";
  if (::write(file.get(), text.data(), text.size()) < 0) return fail_errno(ErrorKind::UserMistake, "write to " + path);
  return {};
}

}  // namespace

Result<KernelLog> KernelLog::open(const std::string& wish) {
  if (wish == "auto") {
    if (::access(kKmsg, W_OK) == 0) return KernelLog("kmsg");
    return KernelLog(::access(kJournal, W_OK) == 0 ? "journald" : "none");
  }
  const char* path = wish == "kmsg" ? kKmsg : wish == "journald" ? kJournal : nullptr;
  if (path != nullptr && ::access(path, W_OK) != 0) return fail_errno(ErrorKind::UserMistake, std::string("write to ") + path);
  if (path == nullptr && wish != "none" && wish.find('/') == std::string::npos) {
    return fail(ErrorKind::UserMistake, "write kernel lines to '" + wish + "': give auto, kmsg, journald, none or a path");
  }
  return KernelLog(wish);
}

Status KernelLog::write(const std::string& line) {
  if (where_ == "none") return {};
  if (where_ == "kmsg") return write_kmsg(line);
  if (where_ == "journald") return write_journal(line);
  return append(where_, line);
}

}  // namespace holdfast::serve
