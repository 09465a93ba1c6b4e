// A small owner for SQLite handles: Database and Statement. Errors carry SQLite's own words.
#pragma once

#include <sqlite3.h>

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "base/result.h"

namespace holdfast::journal {

/// A prepared statement. bind() in order, then run() or step(); it resets itself for the next use.
class Statement {
 public:
  Statement() = default;
  explicit Statement(sqlite3_stmt* statement) : statement_(statement, &sqlite3_finalize) {}

  Statement& bind(std::int64_t value);
  Statement& bind(double value);
  Statement& bind(std::string_view text);
  /// For statements without rows.
  Status run();
  /// True while there is a row to read with the column functions; reset() when stopping early.
  Result<bool> step();
  void reset();
  [[nodiscard]] std::int64_t integer(int column) const { return sqlite3_column_int64(statement_.get(), column); }
  [[nodiscard]] double real(int column) const { return sqlite3_column_double(statement_.get(), column); }
  [[nodiscard]] std::string text(int column) const;

 private:
  [[nodiscard]] Error error() const;
  std::unique_ptr<sqlite3_stmt, int (*)(sqlite3_stmt*)> statement_{nullptr, &sqlite3_finalize};
  int next_parameter_ = 1;
};

class Database {
 public:
  Database() = default;
  static Result<Database> open(const std::string& path);
  Status execute(const char* sql);
  Result<Statement> prepare(const char* sql);
  Result<std::int64_t> pragma(const char* name);

 private:
  explicit Database(sqlite3* db) : db_(db, &sqlite3_close_v2) {}
  std::unique_ptr<sqlite3, int (*)(sqlite3*)> db_{nullptr, &sqlite3_close_v2};
};

/// Renames a database that nobody has open, with its log and its index of the log.
void move_database(const std::string& from, const std::string& to);

}  // namespace holdfast::journal
