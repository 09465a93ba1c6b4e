#include "journal/ledger.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <array>
#include <unordered_set>

#include "os/sys.h"

namespace holdfast::journal {

namespace {

// synchronous=NORMAL in WAL mode: a commit is one write() to the log, so it survives the death of every process of ours.
// Only a crash of the machine itself can lose the last commits (never the file's integrity).
constexpr const char* kLedgerSchema = R"sql(
PRAGMA journal_mode=WAL;
PRAGMA synchronous=NORMAL;
PRAGMA wal_autocheckpoint=8000;
BEGIN;
CREATE TABLE IF NOT EXISTS run(key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS tests(
  idx INTEGER PRIMARY KEY, id TEXT NOT NULL, verdict TEXT, notes TEXT, duration REAL, attempts INTEGER NOT NULL DEFAULT 0) STRICT;
CREATE TABLE IF NOT EXISTS attempts(
  test INTEGER NOT NULL, number INTEGER NOT NULL, slot INTEGER NOT NULL, started REAL NOT NULL, ended REAL, verdict TEXT,
  cause TEXT, detail TEXT, reports TEXT) STRICT;
CREATE INDEX IF NOT EXISTS attempts_of_test ON attempts(test);
CREATE TABLE IF NOT EXISTS events(at REAL NOT NULL, kind TEXT NOT NULL, detail TEXT NOT NULL) STRICT;
COMMIT;
)sql";

// Extra tests (modules that died in import) are numbered from here, so that they never collide with collected ones.
constexpr std::int64_t kExtraBase = std::int64_t{1} << 40;

enum class FileKind { Absent, Empty, Sqlite, Foreign };

FileKind look_at(const std::string& path) {
  os::Fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd.valid()) return errno == ENOENT ? FileKind::Absent : FileKind::Foreign;
  std::array<char, 16> head{};
  ssize_t n = ::read(fd.get(), head.data(), head.size());
  if (n == 0) return FileKind::Empty;
  return n == 16 && std::string_view(head.data(), 15) == "SQLite format 3" ? FileKind::Sqlite : FileKind::Foreign;
}

Result<os::Fd> lock_file(const std::string& path) {
  // A lock file of its own: flock on the database would clash with nothing today, but SQLite owns that file.
  std::string name = path + ".lock";
  os::Fd fd(::open(name.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644));
  if (!fd.valid()) return fail_errno(ErrorKind::UserMistake, fmt::format("write the ledger {}", path));
  if (::flock(fd.get(), LOCK_EX | LOCK_NB) != 0) {
    return fail(ErrorKind::UserMistake,
                fmt::format("use the ledger {}: another run is writing it (wait for it, or give another --hf-journal)", path));
  }
  return fd;
}

Status check_ours(const std::string& path) {
  Result<Database> db = Database::open(path);
  if (!db) return tl::unexpected<Error>(db.error());
  Result<std::int64_t> application = db->pragma("application_id");
  if (!application || *application != kApplicationId) {
    return fail(ErrorKind::UserMistake, fmt::format("use {} as a ledger: it is another program's SQLite file", path));
  }
  Result<std::int64_t> version = db->pragma("user_version");
  if (!version || *version != kLedgerVersion) {
    return fail(ErrorKind::UserMistake, fmt::format("use the ledger {}: it has format version {}, this Holdfast reads {}", path,
                                                    version ? *version : -1, kLedgerVersion));
  }
  return {};
}

}  // namespace

Result<std::unique_ptr<Ledger>> Ledger::open(const std::string& path, bool resume) {
  bool in_memory = path == kInMemory;
  FileKind kind = in_memory ? FileKind::Absent : look_at(path);
  if (kind == FileKind::Foreign) {
    return fail(ErrorKind::UserMistake, fmt::format("use {} as a ledger: it is not one, and is left alone", path));
  }
  if (resume && kind != FileKind::Sqlite) {
    return fail(ErrorKind::UserMistake, fmt::format("resume from {}: there is no ledger in it", path));
  }
  Result<os::Fd> lock = in_memory ? os::Fd() : lock_file(path);
  if (!lock) return tl::unexpected<Error>(lock.error());
  if (kind == FileKind::Sqlite) {
    HOLDFAST_TRY(check_ours(path));
    if (!resume) move_database(path, path + ".1");
  }
  Result<Database> db = Database::open(path);
  if (!db) return tl::unexpected<Error>(db.error());
  std::unique_ptr<Ledger> ledger(new Ledger());
  ledger->lock_ = std::move(*lock);
  ledger->db_ = std::move(*db);
  ledger->resumed_ = resume;
  if (Status status = ledger->prepare(!resume); !status) {
    Error error = status.error();
    error.kind = ErrorKind::UserMistake;  // Nothing has run yet: the place is wrong, or full.
    error.what += fmt::format(" ({})", path);
    return tl::unexpected<Error>(std::move(error));
  }
  return ledger;
}

Status Ledger::prepare(bool fresh) {
  if (fresh) {
    HOLDFAST_TRY(
        db_.execute(fmt::format("PRAGMA application_id={}; PRAGMA user_version={};", kApplicationId, kLedgerVersion).c_str()));
  }
  HOLDFAST_TRY(db_.execute(kLedgerSchema));
  struct {
    Statement* statement;
    const char* sql;
  } const statements[] = {
      {&insert_test_, "INSERT INTO tests(idx, id) VALUES(?, ?)"},
      {&insert_attempt_, "INSERT INTO attempts(test, number, slot, started) VALUES(?, ?, ?, ?)"},
      {&finish_attempt_,
       "UPDATE attempts SET ended=?, verdict=?, cause=?, detail=?, reports=? WHERE rowid="
       "(SELECT max(rowid) FROM attempts WHERE test=? AND ended IS NULL)"},
      {&finish_test_, "UPDATE tests SET verdict=?, notes=?, duration=?, attempts=? WHERE idx=? AND verdict IS NULL"},
      {&abandon_, "UPDATE attempts SET ended=?, cause=? WHERE test=? AND ended IS NULL"},
      {&insert_event_, "INSERT INTO events(at, kind, detail) VALUES(?, ?, ?)"},
  };
  for (const auto& [statement, sql] : statements) {
    Result<Statement> prepared = db_.prepare(sql);
    if (!prepared) return tl::unexpected<Error>(prepared.error());
    *statement = std::move(*prepared);
  }
  return {};
}

Status Ledger::set_value(const std::string& key, const std::string& value) {
  Result<Statement> statement = db_.prepare("INSERT OR REPLACE INTO run(key, value) VALUES(?, ?)");
  if (!statement) return tl::unexpected<Error>(statement.error());
  return statement->bind(std::string_view(key)).bind(std::string_view(value)).run();
}

Result<std::string> Ledger::value(const std::string& key) {
  Result<Statement> statement = db_.prepare("SELECT value FROM run WHERE key=?");
  if (!statement) return tl::unexpected<Error>(statement.error());
  statement->bind(std::string_view(key));
  Result<bool> row = statement->step();
  if (!row) return tl::unexpected<Error>(row.error());
  return *row ? statement->text(0) : std::string();
}

Status Ledger::note_tests(const std::vector<std::string>& ids) {
  if (resumed_) return {};  // They are there already, and are compared as a whole.
  HOLDFAST_TRY(join());
  for (; noted_ < ids.size(); ++noted_) {
    HOLDFAST_TRY(insert_test_.bind(static_cast<std::int64_t>(noted_)).bind(std::string_view(ids[noted_])).run());
  }
  return {};
}

Status Ledger::forget_tests() {
  if (noted_ == 0) return {};
  noted_ = 0;
  return db_.execute(fmt::format("DELETE FROM tests WHERE idx < {}", kExtraBase).c_str());
}

Status Ledger::add_tests(const std::vector<std::string>& ids) {
  Result<Statement> count = db_.prepare("SELECT count(*) FROM tests WHERE idx < ?");
  if (!count) return tl::unexpected<Error>(count.error());
  Result<bool> row = count->bind(kExtraBase).step();
  if (!row) return tl::unexpected<Error>(row.error());
  // A first run that died while collecting has recorded no tests: it is resumed as a fresh one.
  bool known = resumed_ && count->integer(0) > 0;
  count->reset();
  if (known) return check_same_suite(ids);
  resumed_ = false;
  HOLDFAST_TRY(note_tests(ids));
  added_ = true;
  return commit();
}

Status Ledger::check_same_suite(const std::vector<std::string>& ids) {
  Result<Statement> statement = db_.prepare("SELECT idx, id FROM tests WHERE idx < ? ORDER BY idx");
  if (!statement) return tl::unexpected<Error>(statement.error());
  statement->bind(kExtraBase);
  std::size_t seen = 0;
  for (;;) {
    Result<bool> row = statement->step();
    if (!row) return tl::unexpected<Error>(row.error());
    if (!*row) break;
    std::string id = statement->text(1);
    if (seen >= ids.size() || ids[seen] != id) {
      std::string other =
          seen < ids.size() ? fmt::format("{} now stands in its place", ids[seen]) : "this run has no such test";
      return fail(ErrorKind::UserMistake, fmt::format("resume: the ledger is of another suite, test {} in it is {}, but {} "
                                                      "(run without --hf-resume to start anew)",
                                                      seen + 1, id, other));
    }
    ++seen;
  }
  if (seen != ids.size()) {
    return fail(ErrorKind::UserMistake,
                fmt::format("resume: the ledger is of another suite, it has {} tests and this run {}, the first new one is {} "
                            "(run without --hf-resume to start anew)",
                            seen, ids.size(), ids[seen]));
  }
  return {};
}

Result<std::int64_t> Ledger::add_extra_test(const std::string& id) {
  Result<Statement> statement =
      db_.prepare("INSERT INTO tests(idx, id) SELECT max(?, ifnull(max(idx), 0) + 1), ? FROM tests RETURNING idx");
  if (!statement) return tl::unexpected<Error>(statement.error());
  Result<bool> row = statement->bind(kExtraBase).bind(std::string_view(id)).step();
  if (!row) return tl::unexpected<Error>(row.error());
  return statement->integer(0);
}

Status Ledger::for_each_record(const std::function<void(const std::string&, const Record&)>& visit) {
  Result<Statement> statement = db_.prepare(
      "SELECT t.id, t.idx, t.verdict, t.notes, t.duration, t.attempts, a.slot, a.reports, a.detail"
      " FROM tests t JOIN attempts a ON a.test=t.idx AND a.verdict=t.verdict WHERE t.verdict IS NOT NULL"
      " GROUP BY t.idx HAVING a.rowid=max(a.rowid) ORDER BY a.ended");
  if (!statement) return tl::unexpected<Error>(statement.error());
  for (;;) {
    Result<bool> row = statement->step();
    if (!row) return tl::unexpected<Error>(row.error());
    if (!*row) return {};
    Record record;
    record.test = statement->integer(1);
    record.verdict = statement->text(2);
    record.notes = statement->text(3);
    record.duration = statement->real(4);
    record.attempts = static_cast<int>(statement->integer(5));
    record.slot = static_cast<int>(statement->integer(6));
    record.reports = statement->text(7);
    record.detail = statement->text(8);
    visit(statement->text(0), record);
  }
}

Ledger::~Ledger() {
  // Half a suite would not be recognised when the run is resumed.
  if (Status status = added_ ? Status{} : forget_tests(); !status) in_transaction_ = false;
  if (Status status = commit(); !status) in_transaction_ = false;  // Who cares has committed before.
}

Status Ledger::join() {
  if (in_transaction_) return {};
  HOLDFAST_TRY(db_.execute("BEGIN"));
  in_transaction_ = true;
  return {};
}

Status Ledger::commit() {
  bool collecting = noted_ > 0 && !added_;
  if (!in_transaction_ || collecting) return {};
  in_transaction_ = false;
  Status status = db_.execute("COMMIT");
  if (!status) [[maybe_unused]]
    Status undone = db_.execute("ROLLBACK");
  return status;
}

Status Ledger::start_attempt(std::int64_t test, int number, int slot, double at) {
  HOLDFAST_TRY(join());
  return insert_attempt_.bind(test).bind(std::int64_t{number}).bind(std::int64_t{slot}).bind(at).run();
}

Status Ledger::write_attempt(const Record& record, std::string_view cause, double at) {
  HOLDFAST_TRY(join());
  return finish_attempt_.bind(at)
      .bind(std::string_view(record.attempt_verdict.empty() ? record.verdict : record.attempt_verdict))
      .bind(cause)
      .bind(std::string_view(record.detail))
      .bind(std::string_view(record.reports))
      .bind(record.test)
      .run();
}

Status Ledger::end_attempt(const Record& record, const std::string& cause, double at) {
  return write_attempt(record, cause, at);
}

Status Ledger::finish_attempt(const Record& record, double at) {
  HOLDFAST_TRY(write_attempt(record, "", at));
  return finish_test_.bind(std::string_view(record.verdict))
      .bind(std::string_view(record.notes))
      .bind(record.duration)
      .bind(std::int64_t{record.attempts})
      .bind(record.test)
      .run();
}

Status Ledger::abandon_attempt(std::int64_t test, const std::string& cause, double at) {
  HOLDFAST_TRY(join());
  return abandon_.bind(at).bind(std::string_view(cause)).bind(test).run();
}

Status Ledger::add_event(const std::string& kind, const std::string& detail, double at) {
  HOLDFAST_TRY(join());
  return insert_event_.bind(at).bind(std::string_view(kind)).bind(std::string_view(detail)).run();
}

}  // namespace holdfast::journal
