#include "run/precedence.h"

namespace holdfast::run {

void Precedence::add(std::size_t test, const std::vector<std::size_t>& after, const std::vector<std::size_t>& needs) {
  for (std::size_t other : after) successors_[other].emplace_back(test, false);
  for (std::size_t other : needs) successors_[other].emplace_back(test, true);
  if (std::size_t count = after.size() + needs.size(); count > 0) unmet_[test] += count;
}

std::vector<std::pair<std::size_t, std::size_t>> Precedence::pairs() const {
  std::vector<std::pair<std::size_t, std::size_t>> found;
  for (const auto& [first, successors] : successors_) {
    for (auto [second, needs] : successors) found.emplace_back(first, second);
  }
  return found;
}

void Precedence::part(std::size_t first, std::size_t second) {
  auto found = successors_.find(first);
  if (found == successors_.end()) return;
  std::size_t count = std::erase_if(found->second, [second](const auto& entry) { return entry.first == second; });
  auto unmet = unmet_.find(second);
  if (unmet == unmet_.end()) return;
  unmet->second -= count;
  if (unmet->second == 0) unmet_.erase(unmet);
}

Precedence::Freed Precedence::over(std::size_t test, bool good) {
  Freed freed;
  auto found = successors_.extract(test);
  if (found.empty()) return freed;
  for (auto [successor, needs] : found.mapped()) {
    auto unmet = unmet_.find(successor);
    if (unmet == unmet_.end()) continue;  // It is hopeless already.
    bool hopeless = needs && !good;
    if (--unmet->second > 0 && !hopeless) continue;
    unmet_.erase(unmet);
    (hopeless ? freed.hopeless : freed.ready).push_back(successor);
  }
  return freed;
}

}  // namespace holdfast::run
