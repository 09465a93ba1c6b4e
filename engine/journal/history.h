// The history: what is known of tests from earlier runs of the same suite, kept for the scheduler and for `holdfast history`.
//
// It promises never to fail a run: a file that is broken or another program's is moved aside, one that cannot be written is
// left, and the caller is told in a line for the user. Two runs may use one file at the same time. The format is in
// docs/history.md.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "journal/sqlite.h"

namespace holdfast::journal {

inline constexpr std::int64_t kHistoryVersion = 3;
inline constexpr std::int64_t kHistoryId = 0x48464849;  // "HFHI"
/// Runs whose single results are kept; what is older lives on in the averages.
inline constexpr std::int64_t kRunsKept = 30;

struct Known {
  double duration = -1;      ///< Expected seconds.
  std::uint64_t memory = 0;  ///< Bytes that it needed beyond what its zygote had; 0 if nobody measured.
  bool died = false;         ///< Its process did not survive it when it was run last.
  std::uint64_t vram = 0;    ///< Bytes of one GPU that it had at most; 0 if nobody measured.
};

struct PastResult {
  std::string id;
  std::string verdict;
  std::string notes;  ///< JSON list.
  double duration = 0;
  std::uint64_t memory = 0;
  double cpu = 0;             ///< Seconds.
  std::uint64_t written = 0;  ///< Bytes, to storage.
  std::uint64_t vram = 0;     ///< Bytes, of one GPU.
};

struct PastRun {
  double started = 0;  ///< Seconds since 1970.
  double seconds = 0;
  int slots = 0;
};

class History {
 public:
  /// Opens or creates the file. `notice` becomes a line for the user where something was wrong. Without a path: a history that
  /// knows nothing and keeps nothing.
  static History open(const std::string& path, std::string& notice);
  /// Everything that is known, by id.
  std::unordered_map<std::string, Known> load(std::string& notice);
  /// Adds a run. `notice` as above.
  void add(const PastRun& run, const std::vector<PastResult>& results, std::string& notice);

 private:
  Status prepare();
  Status write(const PastRun& run, const std::vector<PastResult>& results);
  std::string path_;
  std::optional<Database> db_;
};

}  // namespace holdfast::journal
