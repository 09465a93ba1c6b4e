// What the fault service has changed on this machine and how to undo it: one SQLite file, on disk before the change is made, so
// that `holdfast sweep` can put the machine back whoever was killed.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/result.h"
#include "journal/sqlite.h"

namespace holdfast::serve {

struct Change {
  std::int64_t id = 0;
  std::string fault;    ///< The id of the fault that it belongs to.
  std::string owner;    ///< Who has asked for it.
  std::string what;     ///< For people.
  nlohmann::json undo;  ///< One step, as undo() takes it (undo.h).
  double made = 0;      ///< Seconds since 1970.
  double expires = 0;   ///< The same: when it is undone in any case.
};

class UndoLog {
 public:
  static Result<UndoLog> open(const std::string& path);
  /// Writes down a change that is about to be made; on disk when this returns. Returns its id.
  Result<std::int64_t> note(const Change& change);
  /// It is undone, or cannot be: `outcome` says so.
  Status settle(std::int64_t id, const std::string& outcome);
  /// Changes that are not settled, the latest first.
  Result<std::vector<Change>> open_changes();

 private:
  explicit UndoLog(journal::Database db) : db_(std::move(db)) {}
  journal::Database db_;
};

}  // namespace holdfast::serve
