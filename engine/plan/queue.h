// Queue: which test a free slot runs next. Pure: no clock, no I/O. The place where order, tokens and gangs will be decided.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

namespace holdfast::plan {

/// A dynamic queue in collection order: a free slot takes the next test that has no verdict; nothing is assigned ahead.
class Queue {
 public:
  void reset(std::size_t tests);
  /// Takes a test out that needs not run (it has a verdict from a resumed run, or can no longer run).
  void settle(std::size_t test);
  /// The next test, or nothing when all are taken. Each test is given out once, unless put_back.
  std::optional<std::size_t> take();
  /// Gives a test out again, before all others.
  void put_back(std::size_t test);
  [[nodiscard]] bool empty() const { return waiting_ == 0; }
  [[nodiscard]] std::size_t waiting() const { return waiting_; }

 private:
  enum class State : std::uint8_t { Waiting, Taken };
  std::vector<State> states_;
  std::vector<std::size_t> returned_;
  std::size_t next_ = 0;
  std::size_t waiting_ = 0;
};

}  // namespace holdfast::plan
