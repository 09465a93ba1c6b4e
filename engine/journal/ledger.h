// The ledger: one SQLite file a run. What is in it survives kill -9 of everything.
//
// It promises:
// - an attempt is recorded before its process is told to begin, a verdict before anybody is shown it (the dispatcher commits in
//   between: writes are gathered, since a commit costs more than what it makes durable);
// - a test has at most one verdict;
// - one run at a time writes a file (an flock held for the engine's life, freed by the kernel when it dies).
// The format is described in docs/ledger.md; its version is PRAGMA user_version.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "journal/sqlite.h"
#include "os/fd.h"

namespace holdfast::journal {

inline constexpr std::int64_t kLedgerVersion = 1;
inline constexpr std::int64_t kApplicationId = 0x48465354;  // "HFST"

/// The path of a ledger that nobody is to find: of a node, whose records are kept where its user is.
inline constexpr const char* kInMemory = ":memory:";

/// What is recorded of a finished attempt, and shown again by a resumed run.
struct Record {
  std::int64_t test = 0;
  std::string verdict;          ///< The test's.
  std::string attempt_verdict;  ///< This attempt's, where it is another one; else empty.
  std::string notes = "[]";     ///< JSON list of strings.
  double duration = 0;          ///< Seconds from the start of setup to the end of the process.
  int attempts = 1;
  int slot = 0;
  std::string reports = "[]";  ///< JSON list, as the test sent them.
  std::string detail = "{}";   ///< JSON object: how it ended.
};

/// One of the six seams: where the dispatcher writes.
class JournalSink {
 public:
  virtual ~JournalSink() = default;
  virtual Status start_attempt(std::int64_t test, int number, int slot, double at) = 0;
  virtual Status finish_attempt(const Record& record, double at) = 0;
  /// An attempt that ended, of a test that will be tried again for the reason `cause`.
  virtual Status end_attempt(const Record& record, const std::string& cause, double at) = 0;
  /// An attempt that ended without a verdict (the run was stopped).
  virtual Status abandon_attempt(std::int64_t test, const std::string& cause, double at) = 0;
  virtual Status add_event(const std::string& kind, const std::string& detail, double at) = 0;
  /// Makes everything written so far survive kill -9. Before that it is in a transaction that a death undoes.
  virtual Status commit() = 0;
};

class Ledger final : public JournalSink {
 public:
  /// Opens or creates the file. An earlier run's ledger is moved to PATH.1 unless `resume` is set; a file that is not a
  /// ledger is left alone and is a user's mistake, as is a ledger of another version.
  static Result<std::unique_ptr<Ledger>> open(const std::string& path, bool resume);

  Status set_value(const std::string& key, const std::string& value);
  Result<std::string> value(const std::string& key);

  /// While tests are collected: writes down those of `ids` that it has not written yet, but keeps them only with add_tests().
  Status note_tests(const std::vector<std::string>& ids);
  /// The collection begins anew.
  Status forget_tests();
  /// Records the collected ids in order. In a resumed run, checks that they are the same suite's.
  Status add_tests(const std::vector<std::string>& ids);
  /// A test that did not come from a collected id: a module that died while it was imported.
  Result<std::int64_t> add_extra_test(const std::string& id);
  /// Calls back with every finished test, in the order in which they finished.
  Status for_each_record(const std::function<void(const std::string& id, const Record&)>& visit);

  Status start_attempt(std::int64_t test, int number, int slot, double at) override;
  Status finish_attempt(const Record& record, double at) override;
  Status end_attempt(const Record& record, const std::string& cause, double at) override;
  Status abandon_attempt(std::int64_t test, const std::string& cause, double at) override;
  Status add_event(const std::string& kind, const std::string& detail, double at) override;
  Status commit() override;
  ~Ledger() override;

 private:
  Ledger() = default;
  Status prepare(bool fresh);
  Status join();
  Status write_attempt(const Record& record, std::string_view cause, double at);
  Status check_same_suite(const std::vector<std::string>& ids);

  os::Fd lock_;
  Database db_;
  bool resumed_ = false;
  bool in_transaction_ = false;
  std::size_t noted_ = 0;  ///< Tests that are written down,
  bool added_ = false;     ///< and that they are all.
  Statement insert_test_;
  Statement insert_attempt_;
  Statement finish_attempt_;
  Statement finish_test_;
  Statement abandon_;
  Statement insert_event_;
};

}  // namespace holdfast::journal
