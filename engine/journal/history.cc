#include "journal/history.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/file.h>
#include <unistd.h>

#include "os/fd.h"

namespace holdfast::journal {

namespace {

constexpr const char* kHistorySchema = R"sql(
PRAGMA journal_mode=WAL;
PRAGMA synchronous=NORMAL;
CREATE TABLE IF NOT EXISTS runs(
  run INTEGER PRIMARY KEY, started REAL NOT NULL, seconds REAL NOT NULL, slots INTEGER NOT NULL, tests INTEGER NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS tests(
  test INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, duration REAL NOT NULL, memory INTEGER NOT NULL, runs INTEGER NOT NULL,
  cpu REAL NOT NULL DEFAULT 0, written INTEGER NOT NULL DEFAULT 0, vram INTEGER NOT NULL DEFAULT 0) STRICT;
CREATE TABLE IF NOT EXISTS results(
  run INTEGER NOT NULL, test INTEGER NOT NULL, verdict TEXT NOT NULL, notes TEXT NOT NULL, duration REAL NOT NULL,
  memory INTEGER NOT NULL, cpu REAL NOT NULL DEFAULT 0, written INTEGER NOT NULL DEFAULT 0,
  vram INTEGER NOT NULL DEFAULT 0, PRIMARY KEY(run, test)) STRICT, WITHOUT ROWID;
)sql";

// Version 2 knows what tests have used.
constexpr const char* kFromVersion1 = R"sql(
ALTER TABLE tests ADD COLUMN cpu REAL NOT NULL DEFAULT 0;
ALTER TABLE tests ADD COLUMN written INTEGER NOT NULL DEFAULT 0;
ALTER TABLE results ADD COLUMN cpu REAL NOT NULL DEFAULT 0;
ALTER TABLE results ADD COLUMN written INTEGER NOT NULL DEFAULT 0;
)sql";

// Version 3 knows how much memory of a GPU.
constexpr const char* kFromVersion2 = R"sql(
ALTER TABLE tests ADD COLUMN vram INTEGER NOT NULL DEFAULT 0;
ALTER TABLE results ADD COLUMN vram INTEGER NOT NULL DEFAULT 0;
)sql";

// Half of the weight is on the newest run: a test that has become slower is soon known as slow, one odd run is soon forgotten.
constexpr const char* kUpsert =
    "INSERT INTO tests(id, duration, memory, runs, cpu, written, vram) VALUES(?1, ?2, ?3, 1, ?4, ?5, ?6) ON CONFLICT(id) DO "
    "UPDATE SET"
    " duration=0.5*duration+0.5*?2, memory=max(?3, memory*9/10), runs=runs+1, cpu=0.5*cpu+0.5*?4, written=max(?5, "
    "written*9/10),"
    " vram=max(?6, vram*9/10)"
    " RETURNING test";

bool is_ours(Database& db) {
  Result<std::int64_t> application = db.pragma("application_id");
  Result<std::int64_t> version = db.pragma("user_version");
  // A new file has zeros in both.
  bool fresh = application && version && *application == 0 && *version == 0;
  if (fresh) {
    Result<Statement> tables = db.prepare("SELECT count(*) FROM sqlite_master");
    return tables && tables->step().value_or(false) && tables->integer(0) == 0;
  }
  return application && version && *application == kHistoryId && *version >= 1 && *version <= kHistoryVersion;
}

}  // namespace

History History::open(const std::string& path, std::string& notice) {
  History history;
  if (path.empty()) return history;
  history.path_ = path;
  // Two runs that begin together must not take each other's half-made file for a broken one. Held for a few milliseconds.
  os::Fd lock(::open((path + ".lock").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644));
  for (int i = 0; lock.valid() && i < 500 && ::flock(lock.get(), LOCK_EX | LOCK_NB) != 0; ++i) ::poll(nullptr, 0, 10);
  for (bool again : {false, true}) {
    Result<Database> db = Database::open(path);
    if (!db) {
      notice = fmt::format("the history {} cannot be opened, this run does without it", path);
      return history;
    }
    [[maybe_unused]] Status patient = db->execute("PRAGMA busy_timeout=5000");
    bool ours = is_ours(*db);
    history.db_.emplace(std::move(*db));
    if (ours && history.prepare()) return history;
    history.db_.reset();
    if (again || ::access(path.c_str(), W_OK) != 0) {
      notice = fmt::format("the history {} cannot be written, this run does without it", path);
      return history;
    }
    move_database(path, path + ".broken");
    notice = fmt::format("the history {0} is broken, or not one of this version; it was moved to {0}.broken", path);
  }
  return history;
}

Status History::prepare() {
  Result<std::int64_t> version = db_->pragma("user_version");
  if (version && *version == 1) HOLDFAST_TRY(db_->execute(kFromVersion1));
  if (version && (*version == 1 || *version == 2)) HOLDFAST_TRY(db_->execute(kFromVersion2));
  HOLDFAST_TRY(
      db_->execute(fmt::format("PRAGMA application_id={}; PRAGMA user_version={};", kHistoryId, kHistoryVersion).c_str()));
  return db_->execute(kHistorySchema);
}

std::unordered_map<std::string, Known> History::load(std::string& notice) {
  std::unordered_map<std::string, Known> known;
  if (!db_) return known;
  // Of the last run that had it: the newest, by the maximum that goes with the other columns
  // (sqlite.org/lang_select.html#bareagg).
  Result<Statement> rows = db_->prepare(
      "SELECT id, duration, memory, vram, coalesce(verdict IN ('crashed', 'exited', 'timeout', 'oom'), 0) FROM tests LEFT JOIN"
      " (SELECT test AS ran, verdict, max(run) FROM results GROUP BY test) ON ran = test");
  while (rows) {
    Result<bool> row = rows->step();
    if (!row) {
      notice = fmt::format("the history {0} is broken ({1}); it was moved to {0}.broken", path_, row.error().message());
      db_.reset();
      move_database(path_, path_ + ".broken");
      break;
    }
    if (!*row) break;
    known[rows->text(0)] = Known{rows->real(1), static_cast<std::uint64_t>(rows->integer(2)), rows->integer(4) != 0,
                                 static_cast<std::uint64_t>(rows->integer(3))};
  }
  return known;
}

void History::add(const PastRun& run, const std::vector<PastResult>& results, std::string& notice) {
  if (!db_ || results.empty()) return;
  if (Status status = write(run, results); !status) {
    [[maybe_unused]] Status undone = db_->execute("ROLLBACK");
    notice = fmt::format("this run was not added to the history {}: {}", path_, status.error().message());
  }
}

Status History::write(const PastRun& run, const std::vector<PastResult>& results) {
  HOLDFAST_TRY(db_->execute("BEGIN IMMEDIATE"));
  Result<Statement> add_run = db_->prepare("INSERT INTO runs(started, seconds, slots, tests) VALUES(?, ?, ?, ?) RETURNING run");
  Result<Statement> upsert = db_->prepare(kUpsert);
  Result<Statement> add = db_->prepare(
      "INSERT OR REPLACE INTO results(run, test, verdict, notes, duration, memory, cpu, written, vram) VALUES(?, ?, ?, ?, ?, "
      "?, ?, "
      "?, ?)");
  for (const auto* statement : {&add_run, &upsert, &add}) {
    if (!*statement) return tl::unexpected<Error>(statement->error());
  }
  Result<bool> row = add_run->bind(run.started)
                         .bind(run.seconds)
                         .bind(std::int64_t{run.slots})
                         .bind(static_cast<std::int64_t>(results.size()))
                         .step();
  if (!row) return tl::unexpected<Error>(row.error());
  std::int64_t number = add_run->integer(0);
  add_run->reset();
  for (const PastResult& result : results) {
    auto memory = static_cast<std::int64_t>(result.memory);
    auto written = static_cast<std::int64_t>(result.written);
    auto vram = static_cast<std::int64_t>(result.vram);
    Result<bool> found = upsert->bind(std::string_view(result.id))
                             .bind(result.duration)
                             .bind(memory)
                             .bind(result.cpu)
                             .bind(written)
                             .bind(vram)
                             .step();
    if (!found) return tl::unexpected<Error>(found.error());
    std::int64_t test = upsert->integer(0);
    upsert->reset();
    HOLDFAST_TRY(add->bind(number)
                     .bind(test)
                     .bind(std::string_view(result.verdict))
                     .bind(std::string_view(result.notes))
                     .bind(result.duration)
                     .bind(memory)
                     .bind(result.cpu)
                     .bind(written)
                     .bind(vram)
                     .run());
  }
  HOLDFAST_TRY(db_->execute(
      fmt::format("DELETE FROM results WHERE run <= {0}; DELETE FROM runs WHERE run <= {0};", number - kRunsKept).c_str()));
  return db_->execute("COMMIT");
}

}  // namespace holdfast::journal
