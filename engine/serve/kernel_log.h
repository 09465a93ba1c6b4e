// Where lines about XID faults go that monitors look for: the kernel's log where that may be written, otherwise the journal, or
// a file.
#pragma once

#include <string>

#include "base/result.h"

namespace holdfast::serve {

class KernelLog {
 public:
  /// `wish`: auto (kmsg, else journald, else none), kmsg, journald, none, or the path of a file. Fails where that cannot be
  /// had.
  static Result<KernelLog> open(const std::string& wish);
  /// A line of the driver: `NVRM: Xid (PCI:...): 79, ...`.
  Status write(const std::string& line);
  /// kmsg, journald, none, or the file's path: said in every answer.
  [[nodiscard]] const std::string& where() const { return where_; }

 private:
  explicit KernelLog(std::string where) : where_(std::move(where)) {}
  std::string where_;
};

}  // namespace holdfast::serve
