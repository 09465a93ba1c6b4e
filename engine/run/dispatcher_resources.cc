// The part of Dispatcher that joins tests to the resources that they need (run/broker.h).
//
// A test begins when its resources are ready. If it then fails, they are looked at first: where one does not work any more,
// that is no verdict, and the test is judged again; if the same happens another time, with nothing beside it; after that it is
// the one that breaks them.
#include <algorithm>

#include "run/dispatcher.h"

namespace holdfast::run {

namespace {

// A teardown at the end of a run that was stopped at once.
constexpr double kLeast = 1;

}  // namespace

void Dispatcher::read_resources(const wire::Json& frame) {
  for (const wire::Json& resource : frame.value("resources", wire::Json::array())) {
    if (!broker_.add(resource)) return;
  }
}

std::uint32_t Dispatcher::number_of_needs(const Broker::Needs& needs) {
  for (int resource : needs) {
    if (resource < 0 || static_cast<std::size_t>(resource) >= broker_.size()) return 0;
  }
  auto [entry, is_new] = needs_numbers_.emplace(needs, static_cast<std::uint32_t>(needs_.size()));
  if (is_new) needs_.push_back(needs);
  return entry->second;
}

SlotHost Dispatcher::resource_slot_host() {
  SlotHost common = slot_host();
  SlotHost host;
  host.start_zygote = std::move(common.start_zygote);
  host.zygote_config = std::move(common.zygote_config);
  host.is_zygote = std::move(common.is_zygote);
  host.on_output = std::move(common.on_output);
  host.kill_strays = std::move(common.kill_strays);
  return host;
}

BrokerHost Dispatcher::broker_host() {
  BrokerHost host;
  host.slot_host = [this] { return resource_slot_host(); };
  host.group = [this](const std::string& name) { return cgroup_.create_child(name); };
  host.id_of = [this](std::size_t test) { return test < ids_.size() ? ids_[test] : std::string(); };
  host.on_change = [this] {
    resume_staged();
    wake_idle();
    check_end();
    if (after_close_ && broker_.idle()) std::exchange(after_close_, nullptr)();
  };
  host.on_replaced = [this](int resource) { discard_built_on(resource); };
  host.is_in_use = [this](int resource) {
    for (const auto& slot : slots_) {
      if (slot->has_worker() && !slot->shut()) return true;  // Its fixtures may be built on it.
    }
    for (std::size_t i = 0; i < tree_.size(); ++i) {
      const Broker::Needs& needs = scope_needs_[i];
      bool needed = std::find(needs.begin(), needs.end(), resource) != needs.end();
      if (needed && tree_.is_live(static_cast<int>(i))) return true;
    }
    return false;
  };
  host.on_failed = [this](const std::string& id, const char* phase, const Attempt& attempt) {
    if (ledger_ == nullptr) return;
    bool told = attempt.evidence.done && !attempt.reports.empty();
    settle_extra(id + " (resource)", attempt.evidence, phase, attempt.stacks, attempt.out, attempt.err,
                 told ? attempt.reports : wire::Json::array());
  };
  host.note = [this](const std::string& text) { note(text); };
  host.log = [this](const char* kind, const nlohmann::ordered_json& fields) { log_event(kind, fields); };
  host.tell = [this](const wire::Json& frame) { tell(frame); };
  return host;
}

/// Scopes that were set up with what is no more: they are set up again for the tests that are left.
void Dispatcher::discard_built_on(int resource) {
  for (std::size_t i = 0; i < tree_.size(); ++i) {
    const Broker::Needs& needs = scope_needs_[i];
    auto scope = static_cast<int>(i);
    if (std::find(needs.begin(), needs.end(), resource) == needs.end()) continue;
    for (const auto& slot : slots_) slot->discard(scope);
  }
}

/// True if the attempt is kept back until it is known whether the test's resources still work.
bool Dispatcher::await_check(Attempt& attempt) {
  auto used = in_use_.find(attempt.test);
  if (used == in_use_.end()) return false;
  std::vector<int> generations = std::move(used->second);
  in_use_.erase(used);
  const Broker::Needs& needs = needs_of(attempt.test);
  if (is_good(judge(attempt.evidence))) {
    broker_.worked(needs);
    return false;
  }
  if (stopping_) return false;
  attempt.lost = broker_.lost_since(needs, generations);
  if (!attempt.lost.empty()) return false;
  ++parked_;
  auto parked = std::make_shared<Attempt>(std::move(attempt));
  broker_.verify(needs, [this, parked, generations = std::move(generations)] {
    --parked_;
    if (!stopping_) parked->lost = broker_.lost_since(needs_of(parked->test), generations);
    decide(std::move(*parked));
    resume_staged();
    check_end();
  });
  return true;
}

/// At the end of a run: whether no resource is left; sees to it.
bool Dispatcher::all_closed() {
  if (broker_.idle()) return true;
  broker_.close(stopping_ ? std::max(stop_grace_, std::max(limits_.grace, kLeast)) : 0);
  return broker_.idle();
}

}  // namespace holdfast::run
