#include "report/event_log.h"

#include <fcntl.h>
#include <unistd.h>

namespace holdfast::report {

Result<EventLog> EventLog::open(const std::string& path) {
  if (path.empty()) return EventLog("", os::Fd());
  os::Fd fd(::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));
  if (!fd.valid()) return fail_errno(ErrorKind::UserMistake, fmt::format("write the log {}", path));
  return EventLog(path, std::move(fd));
}

Status EventLog::record(const nlohmann::ordered_json& event) {
  if (!fd_.valid()) return {};
  std::string line = event.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
  // One write a line, so that a reader who follows the file never sees half of one.
  ssize_t n = ::write(fd_.get(), line.data(), line.size());
  if (n != static_cast<ssize_t>(line.size())) {
    if (n >= 0) errno = ENOSPC;
    return fail_errno(ErrorKind::StopRun, fmt::format("write the log {}", path_));
  }
  return {};
}

}  // namespace holdfast::report
