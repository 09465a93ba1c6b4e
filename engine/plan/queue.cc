#include "plan/queue.h"

namespace holdfast::plan {

void Queue::reset(std::size_t tests) {
  states_.assign(tests, State::Waiting);
  returned_.clear();
  next_ = 0;
  waiting_ = tests;
}

void Queue::settle(std::size_t test) {
  if (test >= states_.size() || states_[test] != State::Waiting) return;
  states_[test] = State::Taken;
  --waiting_;
}

std::optional<std::size_t> Queue::take() {
  while (!returned_.empty()) {
    std::size_t test = returned_.back();
    returned_.pop_back();
    if (states_[test] != State::Waiting) continue;  // Settled in the meantime.
    settle(test);
    return test;
  }
  while (next_ < states_.size() && states_[next_] != State::Waiting) ++next_;
  if (next_ == states_.size()) return std::nullopt;
  settle(next_);
  return next_;
}

void Queue::put_back(std::size_t test) {
  if (test >= states_.size() || states_[test] == State::Waiting) return;
  states_[test] = State::Waiting;
  ++waiting_;
  returned_.push_back(test);
}

}  // namespace holdfast::plan
