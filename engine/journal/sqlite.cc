#include "journal/sqlite.h"

#include <cstdio>

namespace holdfast::journal {

namespace {

Error database_error(sqlite3* db) {
  return Error{ErrorKind::StopRun, fmt::format("use the ledger: {}", sqlite3_errmsg(db)), 0};
}

}  // namespace

Statement& Statement::bind(std::int64_t value) {
  sqlite3_bind_int64(statement_.get(), next_parameter_++, value);
  return *this;
}

Statement& Statement::bind(double value) {
  sqlite3_bind_double(statement_.get(), next_parameter_++, value);
  return *this;
}

Statement& Statement::bind(std::string_view text) {
  sqlite3_bind_text64(statement_.get(), next_parameter_++, text.data(), text.size(), SQLITE_TRANSIENT, SQLITE_UTF8);
  return *this;
}

Status Statement::run() {
  Result<bool> row = step();
  reset();
  if (!row) return tl::unexpected<Error>(row.error());
  return {};
}

Result<bool> Statement::step() {
  int code = sqlite3_step(statement_.get());
  if (code == SQLITE_ROW) return true;
  if (code == SQLITE_DONE) {
    reset();
    return false;
  }
  Error problem = error();
  reset();
  return tl::unexpected<Error>(std::move(problem));
}

void Statement::reset() {
  sqlite3_reset(statement_.get());
  next_parameter_ = 1;
}

std::string Statement::text(int column) const {
  const auto* data = reinterpret_cast<const char*>(sqlite3_column_text(statement_.get(), column));
  return data == nullptr ? "" : std::string(data, static_cast<std::size_t>(sqlite3_column_bytes(statement_.get(), column)));
}

Error Statement::error() const { return database_error(sqlite3_db_handle(statement_.get())); }

Result<Database> Database::open(const std::string& path) {
  sqlite3* raw = nullptr;
  int code = sqlite3_open_v2(path.c_str(), &raw, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, nullptr);
  Database db(raw);
  if (code != SQLITE_OK) {
    return fail(ErrorKind::UserMistake, fmt::format("open the ledger {}: {}", path, sqlite3_errstr(code)));
  }
  return db;
}

Status Database::execute(const char* sql) {
  if (sqlite3_exec(db_.get(), sql, nullptr, nullptr, nullptr) != SQLITE_OK) {
    return tl::unexpected<Error>(database_error(db_.get()));
  }
  return {};
}

Result<Statement> Database::prepare(const char* sql) {
  sqlite3_stmt* raw = nullptr;
  if (sqlite3_prepare_v3(db_.get(), sql, -1, SQLITE_PREPARE_PERSISTENT, &raw, nullptr) != SQLITE_OK) {
    return tl::unexpected<Error>(database_error(db_.get()));
  }
  return Statement(raw);
}

Result<std::int64_t> Database::pragma(const char* name) {
  Result<Statement> statement = prepare(fmt::format("PRAGMA {}", name).c_str());
  if (!statement) return tl::unexpected<Error>(statement.error());
  Result<bool> row = statement->step();
  if (!row) return tl::unexpected<Error>(row.error());
  return *row ? statement->integer(0) : 0;
}

void move_database(const std::string& from, const std::string& to) {
  for (const char* suffix : {"", "-wal", "-shm"}) std::rename((from + suffix).c_str(), (to + suffix).c_str());
}

}  // namespace holdfast::journal
