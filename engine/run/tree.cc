#include "run/tree.h"

#include <algorithm>

namespace holdfast::run {

bool Tree::add(std::string id, std::string level, int parent) {
  if (parent != kNone && !has(parent)) return false;
  Scope scope;
  scope.id = std::move(id);
  scope.level = std::move(level);
  scope.parent = parent;
  scopes_.push_back(std::move(scope));
  return true;
}

std::vector<int> Tree::path(int scope) const {
  std::vector<int> upward;
  for (; has(scope); scope = at(scope).parent) upward.push_back(scope);
  std::vector<int> result;
  for (auto here = upward.rbegin(); here != upward.rend(); ++here) {
    if (at(*here).state == State::Worker || at(*here).state == State::Dead) break;
    result.push_back(*here);
  }
  return result;
}

bool Tree::is_within(int scope, int above) const {
  for (; has(scope); scope = at(scope).parent) {
    if (scope == above) return true;
  }
  return false;
}

int Tree::outermost(int scope) const {
  int found = kNone;
  for (; has(scope); scope = at(scope).parent) {
    if (at(scope).level != "session") found = scope;
  }
  return found;
}

void Tree::expect(int scope) {
  for (; has(scope); scope = at(scope).parent) {
    ++edit(scope).left;
    ++edit(scope).tests;
  }
}

void Tree::settle(int scope) {
  for (; has(scope); scope = at(scope).parent) {
    if (at(scope).left > 0) --edit(scope).left;
  }
}

void Tree::begin_setup(int scope, int slot) {
  edit(scope).state = State::SettingUp;
  edit(scope).slot = slot;
  set_live(scope, true);
}

void Tree::ready(int scope, double seconds) {
  edit(scope).state = State::Ready;
  edit(scope).setup = seconds;
}

void Tree::over(int scope, double seconds) {
  edit(scope).state = State::Over;
  edit(scope).teardown = seconds;
  set_live(scope, false);
}

void Tree::lost(int scope) {
  edit(scope).state = State::Away;
  edit(scope).slot = kNone;
  set_live(scope, false);
}

void Tree::set_live(int scope, bool live) {
  live_.erase(std::remove(live_.begin(), live_.end(), scope), live_.end());
  if (live) live_.push_back(scope);
}

bool Tree::has_live_below(int scope) const {
  return std::any_of(live_.begin(), live_.end(), [&](int other) { return other != scope && is_within(other, scope); });
}

std::optional<int> Tree::due_above(int scope) const {
  for (; has(scope); scope = at(scope).parent) {
    State state = at(scope).state;
    if ((state == State::Ready || state == State::TearingDown) && at(scope).left == 0) return scope;
  }
  return std::nullopt;
}

std::optional<int> Tree::due_in(int slot, bool all) const {
  for (int scope : live_) {
    const Scope& entry = at(scope);
    if (entry.state == State::Ready && entry.slot == slot && (all || entry.left == 0) && !has_live_below(scope)) return scope;
  }
  return std::nullopt;
}

std::optional<int> Tree::set_up_by(int slot) const {
  for (int scope : live_) {
    if (at(scope).state == State::SettingUp && at(scope).slot == slot) return scope;
  }
  return std::nullopt;
}

std::optional<int> Tree::worker_in(int slot) const {
  for (int scope : live_) {
    if (at(scope).state == State::Worker && at(scope).slot == slot && at(scope).left == 0) return scope;
  }
  return std::nullopt;
}

void Tree::lost_in(int slot) {
  for (int scope : std::vector<int>(live_)) {
    if (at(scope).slot == slot) lost(scope);
  }
}

bool Tree::any_leaving() const {
  return std::any_of(live_.begin(), live_.end(), [this](int scope) { return at(scope).left == 0; });
}

}  // namespace holdfast::run
