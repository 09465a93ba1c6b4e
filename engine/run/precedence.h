// Precedence: which tests wait until others are over (CTest's DEPENDS and fixtures). Pure.
#pragma once

#include <cstddef>
#include <unordered_map>
#include <utility>
#include <vector>

namespace holdfast::run {

class Precedence {
 public:
  /// `test` waits for all of `after`, and is not to run unless all of `needs`, which it waits for too, have ended well. A test
  /// that waits for itself, by whatever way, waits for ever: whoever says so has to see to it that there is none.
  void add(std::size_t test, const std::vector<std::size_t>& after, const std::vector<std::size_t>& needs);
  void clear() { *this = Precedence(); }
  /// Pairs of tests of which the second waits for the first, which is not over.
  [[nodiscard]] std::vector<std::pair<std::size_t, std::size_t>> pairs() const;
  /// `second` waits for `first` no more.
  void part(std::size_t first, std::size_t second);
  [[nodiscard]] bool waits(std::size_t test) const { return unmet_.count(test) != 0; }

  struct Freed {
    std::vector<std::size_t> ready;
    std::vector<std::size_t> hopeless;  ///< One that they need has not ended well. They wait no more, and must not run.
  };
  /// `test` has its verdict.
  Freed over(std::size_t test, bool good);

 private:
  std::unordered_map<std::size_t, std::size_t> unmet_;  ///< Of tests that wait: for how many.
  /// By the one that they wait for: those, and whether they need it.
  std::unordered_map<std::size_t, std::vector<std::pair<std::size_t, bool>>> successors_;
};

}  // namespace holdfast::run
