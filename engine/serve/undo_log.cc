#include "serve/undo_log.h"

#include <fmt/format.h>

namespace holdfast::serve {

namespace {
constexpr int kVersion = 1;
constexpr const char* kSchema = R"sql(
  CREATE TABLE change (
    id INTEGER PRIMARY KEY,
    fault TEXT NOT NULL,
    owner TEXT NOT NULL,
    what TEXT NOT NULL,
    undo TEXT NOT NULL,      -- JSON
    made REAL NOT NULL,      -- seconds since 1970
    expires REAL NOT NULL,
    outcome TEXT             -- NULL: still to be undone
  ) STRICT;
  CREATE INDEX open_changes ON change (id) WHERE outcome IS NULL;
)sql";
}  // namespace

Result<UndoLog> UndoLog::open(const std::string& path) {
  Result<journal::Database> db = journal::Database::open(path);
  if (!db) return tl::unexpected(db.error());
  // FULL: a change may only be made once its undo is on the disk.
  HOLDFAST_TRY(db->execute("PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;"));
  Result<std::int64_t> version = db->pragma("user_version");
  if (!version) return tl::unexpected(version.error());
  if (*version > kVersion) {
    return fail(ErrorKind::UserMistake, fmt::format("read {}: a later version of Holdfast has written it", path));
  }
  if (*version == 0) {
    HOLDFAST_TRY(db->execute("BEGIN IMMEDIATE"));
    HOLDFAST_TRY(db->execute(kSchema));
    HOLDFAST_TRY(db->execute(fmt::format("PRAGMA user_version={}; COMMIT", kVersion).c_str()));
  }
  return UndoLog(std::move(*db));
}

Result<std::int64_t> UndoLog::note(const Change& change) {
  Result<journal::Statement> insert =
      db_.prepare("INSERT INTO change (fault, owner, what, undo, made, expires) VALUES (?, ?, ?, ?, ?, ?) RETURNING id");
  if (!insert) return tl::unexpected(insert.error());
  std::string undo = change.undo.dump();
  insert->bind(change.fault).bind(change.owner).bind(change.what).bind(undo).bind(change.made).bind(change.expires);
  Result<bool> row = insert->step();
  if (!row) return tl::unexpected(row.error());
  std::int64_t id = insert->integer(0);
  // The statement ends, and with it the transaction: only now it is on the disk.
  if (Result<bool> end = insert->step(); !end) return tl::unexpected(end.error());
  insert->reset();
  return id;
}

Status UndoLog::settle(std::int64_t id, const std::string& outcome) {
  Result<journal::Statement> update = db_.prepare("UPDATE change SET outcome = ? WHERE id = ?");
  if (!update) return tl::unexpected(update.error());
  return update->bind(outcome).bind(id).run();
}

Result<std::vector<Change>> UndoLog::open_changes() {
  Result<journal::Statement> select =
      db_.prepare("SELECT id, fault, owner, what, undo, made, expires FROM change WHERE outcome IS NULL ORDER BY id DESC");
  if (!select) return tl::unexpected(select.error());
  std::vector<Change> changes;
  while (true) {
    Result<bool> row = select->step();
    if (!row) return tl::unexpected(row.error());
    if (!*row) return changes;
    changes.push_back({select->integer(0), select->text(1), select->text(2), select->text(3),
                       nlohmann::json::parse(select->text(4), nullptr, false), select->real(5), select->real(6)});
  }
}

}  // namespace holdfast::serve
