// The part of Dispatcher that answers what processes ask each other about a class, module or session that several of them set
// up together (iso_scheduling, python/holdfast/compat/isoscope.py).
//
// A process that leaves a node asks whether others still need it: tests below it that have no verdict and whose processes have
// not left it either. So of several that leave at the same time exactly one is the last. If that one dies before it has torn
// down, a process is started that does nothing else.
#include <algorithm>

#include "run/dispatcher.h"

namespace holdfast::run {

namespace {

bool is_below(const std::string& id, const std::string& node) {
  if (node.empty() || node == ".") return true;
  return id.size() > node.size() && id.compare(0, node.size(), node) == 0 && (id[node.size()] == ':' || id[node.size()] == '/');
}

}  // namespace

void Dispatcher::on_node(int slot, std::size_t test, const std::string& kind, const std::string& name) {
  auto [entry, is_new] = nodes_.try_emplace(name);
  Node& node = entry->second;
  if (is_new) {
    for (std::size_t i = 0; i < ids_.size(); ++i) {
      if (is_below(ids_[i], name)) node.tests.push_back(i);
    }
  }
  if (kind != "left") {
    node.open = kind == "opened" && !node.tests.empty();
    return;
  }
  node.released.insert(test);
  bool others = std::any_of(node.tests.begin(), node.tests.end(), [&](std::size_t other) {
    return other != test && !tests_[other].settled && node.released.count(other) == 0;
  });
  if (Slot* asking = find(slot); asking != nullptr) asking->reply({{"t", "left"}, {"others", others}});
}

/// Whether a process may still come, or is there, that tears it down.
bool Dispatcher::is_used(const std::string& name) const {
  const Node& node = nodes_.at(name);
  if (node.closing) return true;
  if (stopping_) {
    return std::any_of(slots_.begin(), slots_.end(), [](const auto& s) { return s->unfinished() || s->has_worker(); });
  }
  return std::any_of(node.tests.begin(), node.tests.end(), [this](std::size_t test) { return !tests_[test].settled; });
}

bool Dispatcher::any_node_open() const {
  return std::any_of(nodes_.begin(), nodes_.end(), [](const auto& entry) { return entry.second.open; });
}

bool Dispatcher::any_node_unused() const {
  return std::any_of(nodes_.begin(), nodes_.end(), [this](const auto& entry) {
    return entry.second.open && (entry.second.closing || !is_used(entry.first));
  });
}

bool Dispatcher::close_node_in(Slot& slot) {
  for (auto& [name, node] : nodes_) {
    if (!node.open || is_used(name)) continue;
    node.closing = true;
    log_event("scope", {{"what", "teardown"}, {"id", name}, {"slot", slot.id()}});
    std::size_t test = node.tests.front();
    Order order{test, ids_[test]};
    order.limit = stopping_ ? stop_grace_ : 0;
    slot.close(name, order);
    return true;
  }
  return false;
}

void Dispatcher::on_node_closed(const Attempt& attempt) {
  Node& node = nodes_.at(attempt.node);
  node.open = node.closing = false;  // Tried once: what did not work will not work the next time.
  log_event("scope", {{"what", "over"}, {"id", attempt.node}, {"slot", attempt.slot}, {"duration", attempt.duration}});
  const std::string verdict = judge(attempt.evidence);
  if (!is_good(verdict)) {
    bool told = verdict == "error" && attempt.evidence.done && !attempt.reports.empty();
    settle_extra(attempt.node + " (teardown)", attempt.evidence, "teardown", attempt.stacks, attempt.out, attempt.err,
                 told ? attempt.reports : wire::Json::array());
  }
  loop_.call_after({}, [this] {
    wake_idle();
    check_end();
  });
}

}  // namespace holdfast::run
