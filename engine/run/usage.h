// Usage: what a test has used. From the kernel's account at its end (getrusage(2), with all that it has waited for), and, for
// tests that take a while, from looks at its processes in between. Pure, but for look().
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <nlohmann/json.hpp>
#include <vector>

namespace holdfast::run {

/// One look at a test's processes.
struct Sample {
  double at = 0;             ///< Seconds since the test began.
  double cpu = 0;            ///< Seconds, of those that live now.
  std::uint64_t memory = 0;  ///< Bytes, resident.
  int processes = 0;
  int threads = 0;
  int files = 0;  ///< Open descriptors.
};

/// Of the process and all below it.
Sample look(pid_t pid);

class Usage {
 public:
  double user = 0;            ///< CPU seconds.
  double system = 0;          ///< CPU seconds.
  std::uint64_t peak = 0;     ///< Bytes resident, of the largest process.
  std::uint64_t read = 0;     ///< Bytes from storage.
  std::uint64_t written = 0;  ///< Bytes to storage.

  /// Keeps at most 60: of more, every second one goes, and interval() doubles.
  void add(const Sample& sample);
  /// Seconds until the next look.
  [[nodiscard]] double interval() const { return interval_; }
  [[nodiscard]] double cpu() const { return user + system; }
  /// As in protocol/result.md, `usage`.
  [[nodiscard]] nlohmann::json describe() const;

 private:
  std::vector<Sample> samples_;
  double interval_ = 0.5;
};

}  // namespace holdfast::run
