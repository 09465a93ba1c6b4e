#include "run/broker.h"

#include <algorithm>

namespace holdfast::run {

namespace {

// Seconds for which the answer to a check is good enough for the next use.
constexpr double kCheckInterval = 1;
// Seconds that a check may take.
constexpr double kCheckLimit = 10;
constexpr int kMaxDeaths = 3;

}  // namespace

Broker::Broker(os::Loop& loop, const Limits& limits, BrokerHost host) : loop_(loop), limits_(limits), host_(std::move(host)) {}

Broker::~Broker() = default;

bool Broker::add(const wire::Json& resource) {
  Entry entry;
  entry.id = resource.value("id", "");
  entry.name = resource.value("name", "");
  entry.scope = resource.value("scope", "");
  entry.test = resource.value("test", std::size_t{0});
  entry.needs = resource.value("needs", Needs{});
  auto here = static_cast<int>(entries_.size());
  if (std::any_of(entry.needs.begin(), entry.needs.end(), [here](int need) { return need < 0 || need >= here; })) return false;
  entries_.push_back(std::move(entry));
  return true;
}

void Broker::expect(const Needs& needs) {
  for (int resource : needs) ++at(resource).left;
}

void Broker::settle(const Needs& needs) {
  for (int resource : needs) {
    if (at(resource).left > 0) --at(resource).left;
  }
}

void Broker::begin(int first_slot) {
  first_slot_ = first_slot;
  Needs of_the_run;
  for (std::size_t i = 0; i < entries_.size(); ++i) {
    if (entries_[i].scope == "run" && entries_[i].left > 0) of_the_run.push_back(static_cast<int>(i));
  }
  prepare(of_the_run);
}

// ---- before a use ----------------------------------------------------------------------------------------------------------

bool Broker::prepare(const Needs& needs) {
  if (closing_) return false;
  bool ready = true;
  for (int resource : needs) {
    Entry& entry = at(resource);
    bool stale = entry.used && loop_.clock().now() - entry.checked > os::seconds(kCheckInterval);
    if (entry.state == State::Away && is_hopeless(entry)) give_up(entry);
    if (entry.state == State::Away && prepare(entry.needs)) make(resource);
    if (entry.state == State::Ready && stale) check(resource);
    if (entry.state != State::Ready && entry.state != State::Failed) ready = false;
  }
  return ready;
}

wire::Json Broker::values(const Needs& needs) const {
  wire::Json result;
  for (int resource : needs) result[at(resource).id] = at(resource).given;
  return result;
}

std::vector<int> Broker::generations(const Needs& needs) const {
  std::vector<int> result;
  for (int resource : needs) result.push_back(at(resource).generation);
  return result;
}

std::vector<int> Broker::use(const Needs& needs) {
  for (int resource : needs) {
    at(resource).used = at(resource).used_at_all = true;
    ++at(resource).uses;
  }
  return generations(needs);
}

void Broker::worked(const Needs& needs) {
  for (int resource : needs) at(resource).blamed = 0;
}

void Broker::blame(const Needs& needs, const std::vector<std::string>& lost) {
  for (int resource : needs) {
    if (std::find(lost.begin(), lost.end(), at(resource).id) != lost.end()) ++at(resource).blamed;
  }
}

std::vector<std::string> Broker::lost_since(const Needs& needs, const std::vector<int>& generations) const {
  std::vector<std::string> lost;
  for (std::size_t i = 0; i < needs.size(); ++i) {
    const Entry& entry = at(needs[i]);
    // One that could never be made has not been lost.
    bool lives = entry.state == State::Ready || entry.state == State::Checking || entry.state == State::Failed;
    if (!lives || entry.generation != generations[i]) lost.push_back(entry.id);
  }
  return lost;
}

// ---- making ----------------------------------------------------------------------------------------------------------------

// Callbacks of a slot that was retired meanwhile mean nothing any more.
SlotHost Broker::host_of(int resource, int generation) {
  SlotHost host = host_.slot_host();
  auto is_current = [this, resource, generation] {
    return static_cast<std::size_t>(resource) < entries_.size() && at(resource).generation == generation &&
           at(resource).slot != nullptr;
  };
  host.keeper = true;
  host.on_idle = [=, this](int) {
    if (is_current()) on_idle(resource);
  };
  host.on_scope_ready = [=, this](int, int, const wire::Json& frame) {
    if (is_current()) on_made(resource, frame);
  };
  host.on_finished = [=, this](const Attempt& attempt) {
    if (is_current()) on_attempt_ended(resource, attempt);
  };
  host.on_abandoned = [=, this](std::size_t, int) {
    if (!is_current()) return;
    // Stopped while it was made: nobody wants it any more.
    at(resource).state = State::Away;
    retire(at(resource));
    changed();
  };
  host.on_scope_lost = [=, this](int, int, bool) {
    if (is_current()) lose(resource, "its process has ended", false);
  };
  host.on_checked = [=, this](int, const wire::Json& frame) {
    if (is_current()) on_checked(resource, frame);
  };
  host.on_broken = [=, this](int, const std::string& reason) {
    if (is_current()) fail(at(resource), "could not be made: " + reason);
  };
  host.on_worker_ended = [](const WorkerEnd&) {};
  return host;
}

void Broker::make(int resource) {
  // Those that were shut down earlier: none of their callbacks is under way any more.
  retired_.erase(std::remove_if(retired_.begin(), retired_.end(), [](const auto& slot) { return slot->shut(); }),
                 retired_.end());
  Entry& entry = at(resource);
  entry.state = State::Making;
  ++entry.generation;
  entry.used = entry.used_at_all = false;
  entry.built_on = generations(entry.needs);
  entry.slot = std::make_unique<Slot>(loop_, first_slot_ + resource, limits_, host_of(resource, entry.generation),
                                      host_.group(fmt::format("resource-{}-{}", resource, entry.generation)));
  log("making", entry);
  if (Status status = entry.slot->open(); !status) fail(entry, "could not be made: " + status.error().message());
}

void Broker::on_idle(int resource) {
  Entry& entry = at(resource);
  if (entry.state != State::Making || entry.slot->has(resource)) return;
  // If the engine dies, the controller lets this process go on until the resource is torn down.
  host_.tell({{"t", "keeper"}, {"pid", entry.slot->zygote_pid()}});
  Order order{entry.test, host_.id_of(entry.test)};
  order.resources = values(entry.needs);
  entry.slot->make(resource, entry.id, entry.name, order);
}

void Broker::on_made(int resource, const wire::Json& frame) {
  Entry& entry = at(resource);
  entry.setup = frame.value("duration", 0.0);
  entry.given = wire::Json{{"generation", entry.generation}};
  for (const char* key : {"value", "skip", "problem"}) {
    if (frame.contains(key)) entry.given[key] = frame[key];
  }
  if (frame.contains("value")) {
    entry.state = State::Ready;
    entry.checked = loop_.clock().now();
    log("ready", entry, entry.setup);
    // What it was built on has been lost in the meantime.
    if (!lost_since(entry.needs, entry.built_on).empty()) lose(resource, "what it needs was made again", true);
  } else if (!lost_since(entry.needs, entry.built_on).empty()) {
    lose(resource, "what it needs was made again", true);
  } else {
    entry.state = State::Failed;
    log("failed", entry, entry.setup);
    // What its fixture had set up before is torn down; that it has nothing to tear down itself is no matter.
    tear_down(resource);
  }
  changed();
}

void Broker::on_attempt_ended(int resource, const Attempt& attempt) {
  if (attempt.tearing_down) {
    on_torn_down(resource, attempt);
    return;
  }
  Entry& entry = at(resource);
  host_.on_failed(entry.id, "setup", attempt);
  fail(entry, fmt::format("could not be made: its setup has ended its process, see `{} (resource)`", entry.id));
}

bool Broker::is_hopeless(const Entry& entry) { return entry.unused_deaths >= kMaxDeaths || entry.blamed >= kMaxDeaths; }

void Broker::give_up(Entry& entry) { fail(entry, fmt::format("is gone: {}, and so it went three times in a row", entry.end)); }

void Broker::fail(Entry& entry, const std::string& problem) {
  entry.state = State::Failed;
  entry.given = {{"generation", entry.generation}, {"problem", fmt::format("resource {} {}", entry.id, problem)}};
  log("failed", entry);
  answered(entry);
  retire(entry);
  changed();
}

// ---- between uses ----------------------------------------------------------------------------------------------------------

void Broker::check(int resource) {
  Entry& entry = at(resource);
  entry.state = State::Checking;
  entry.slot->check(resource);
  entry.timer = loop_.call_after(os::seconds(kCheckLimit), [this, resource, generation = entry.generation] {
    if (at(resource).generation == generation && at(resource).state == State::Checking) {
      lose(resource, fmt::format("its check has not ended within {:.0f} s", kCheckLimit), false);
    }
  });
}

void Broker::on_checked(int resource, const wire::Json& frame) {
  Entry& entry = at(resource);
  if (entry.state != State::Checking) return;
  const std::string problem = frame.value("problem", "");
  if (!problem.empty()) {
    lose(resource, problem, true);
    return;
  }
  entry.state = State::Ready;
  entry.used = false;
  entry.checked = loop_.clock().now();
  answered(entry);
  changed();
}

void Broker::answered(Entry& entry) {
  loop_.cancel(entry.timer);
  for (auto& then : std::exchange(entry.waiting, {})) loop_.call_after({}, std::move(then));
}

void Broker::verify(const Needs& needs, std::function<void()> then) {
  auto open = std::make_shared<std::size_t>(1);
  auto one_less = [open, then = std::move(then)] {
    if (--*open == 0) then();
  };
  for (int resource : needs) {
    Entry& entry = at(resource);
    if (entry.state == State::Ready && !closing_) check(resource);
    if (entry.state != State::Checking) continue;
    ++*open;
    entry.waiting.emplace_back(one_less);
  }
  loop_.call_after({}, one_less);
}

/// It no longer works: its users are told to begin anew, and it is made again when the next one comes.
void Broker::lose(int resource, const std::string& how, bool gracefully) {
  Entry& entry = at(resource);
  bool was_torn_down = entry.state == State::TearingDown || entry.state == State::Failed;
  answered(entry);
  log("lost", entry);
  if (was_torn_down || closing_) {
    if (entry.state == State::TearingDown) entry.state = State::Away;
    host_.note(fmt::format("resource {}: {} before it was torn down", entry.id, how));
    retire(entry);
    changed();
    return;
  }
  entry.unused_deaths = entry.used_at_all ? 0 : entry.unused_deaths + 1;
  entry.state = State::Away;
  entry.end = how;
  bool for_good = is_hopeless(entry);
  host_.note(fmt::format("resource {}: {}{}", entry.id, how,
                         for_good          ? "; it has ended too often, so it is not made again"
                         : entry.left == 0 ? ""
                                           : "; it is made again for the " + std::to_string(entry.left) +
                                                 " tests that are left, and those that fail meanwhile are judged again"));
  host_.on_replaced(resource);
  renew_users_of(resource);
  if (for_good) {
    give_up(entry);
    return;
  }
  if (gracefully) {
    tear_down(resource);
  } else {
    retire(entry);
  }
  changed();
}

bool Broker::is_built_on(const Entry& entry, int resource) const {
  return std::find(entry.needs.begin(), entry.needs.end(), resource) != entry.needs.end();
}

void Broker::renew_users_of(int resource) {
  for (std::size_t i = 0; i < entries_.size(); ++i) {
    const Entry& entry = entries_[i];
    bool ready = entry.state == State::Ready || entry.state == State::Checking;
    if (!ready || !is_built_on(entry, resource)) continue;
    lose(static_cast<int>(i), fmt::format("resource {}, on which it was built, is made again", at(resource).id), true);
  }
}

// ---- the end ---------------------------------------------------------------------------------------------------------------

/// With the state Failed it stays so.
void Broker::tear_down(int resource) {
  Entry& entry = at(resource);
  if (entry.state != State::Failed) entry.state = State::TearingDown;
  answered(entry);
  log("teardown", entry);
  Order order{entry.test, host_.id_of(entry.test)};
  order.limit = limit_;
  entry.slot->tear_down(resource, order, false);
}

void Broker::on_torn_down(int resource, const Attempt& attempt) {
  Entry& entry = at(resource);
  double seconds = attempt.done.value("duration", attempt.duration);
  bool has_failed = entry.state == State::Failed;
  if (!has_failed) entry.state = State::Away;
  log("over", entry, seconds);
  host_.tell({{"t", "scope"},
              {"id", fmt::format("{} (resource: {})", entry.id, entry.scope)},
              {"level", entry.scope},
              {"tests", entry.uses},
              {"setup", entry.setup},
              {"teardown", seconds}});
  for (const std::string& text : left_by(attempt.evidence)) {
    host_.note(fmt::format("resource {}: its teardown left behind: {}", entry.id, text));
  }
  if (!has_failed && !is_good(judge(attempt.evidence))) host_.on_failed(entry.id, "teardown", attempt);
  retire(entry);
  changed();
}

bool Broker::any_user_live(int resource) const {
  return std::any_of(entries_.begin(), entries_.end(),
                     [&](const Entry& entry) { return entry.slot != nullptr && is_built_on(entry, resource); });
}

void Broker::tidy() {
  for (std::size_t i = 0; i < entries_.size(); ++i) {
    auto resource = static_cast<int>(i);
    const Entry& entry = entries_[i];
    if (entry.state != State::Ready || any_user_live(resource)) continue;
    if (closing_ || (entry.left == 0 && entry.scope != "run" && !host_.is_in_use(resource))) tear_down(resource);
  }
}

void Broker::close(double limit) {
  if (!closing_) {
    closing_ = true;
    limit_ = limit;
    for (Entry& entry : entries_) {
      if (entry.state == State::Checking) entry.state = State::Ready;
      answered(entry);
      if (entry.state != State::Making) continue;
      if (entry.slot->busy()) {
        entry.slot->stop(limits_.grace);
      } else {
        entry.state = State::Away;
        retire(entry);
      }
    }
  }
  tidy();
}

bool Broker::idle() const {
  return std::none_of(entries_.begin(), entries_.end(), [](const Entry& entry) { return entry.slot != nullptr; });
}

bool Broker::owns(pid_t pid) const {
  return std::any_of(entries_.begin(), entries_.end(),
                     [pid](const Entry& entry) { return entry.slot != nullptr && entry.slot->owns(pid); });
}

/// Its slot, with all that is left of it, is killed. It may be in the middle of telling us something.
void Broker::retire(Entry& entry) {
  if (entry.slot == nullptr) return;
  loop_.cancel(entry.timer);
  retired_.push_back(std::move(entry.slot));
  loop_.call_after({}, [this] {
    for (auto& slot : retired_) {
      if (!slot->shut()) slot->shut_down();
    }
  });
}

void Broker::changed() {
  if (std::exchange(told_change_, true)) return;
  loop_.call_after({}, [this] {
    told_change_ = false;
    if (closing_) tidy();
    host_.on_change();
  });
}

void Broker::log(const char* what, const Entry& entry, std::optional<double> seconds) {
  nlohmann::ordered_json fields = {{"what", what}, {"id", entry.id}, {"made", entry.generation}, {"uses", entry.uses}};
  if (seconds) fields["duration"] = *seconds;
  host_.log("resource", fields);
}

}  // namespace holdfast::run
