// The part of Dispatcher that runs tests of several MPI ranks: it starts them together, ends them together, and makes one
// attempt of theirs.
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <set>

#include "mpi/pmi_servers.h"
#include "mpi/pmix_link.h"
#include "run/dispatcher.h"

namespace holdfast::run {

namespace {

// Seconds that ranks get to end by themselves when one has failed: longer than a message takes, shorter than anybody waits.
constexpr double kGangGrace = 1.0;
// The same where it has died: most of what others wait for then will never come.
constexpr double kDeadGrace = 0.2;
// And when one has called MPI_Abort, which is to end all.
constexpr double kAbortGrace = 0.1;

}  // namespace

/// The slots that could begin a rank at once: first those of the world that `slot` is in, then those that are in none.
std::vector<int> Dispatcher::idle_slots(int slot) const {
  const World* mine = world_in(slot);
  std::vector<int> mates, free, others;
  for (const auto& each : slots_) {
    int id = each->id();
    if (!each->idle() || staged_.count(id) != 0 || reserved_.count(id) != 0 || gang_of_.count(id) != 0) continue;
    const World* world = world_in(id);
    (world == nullptr ? free : world == mine ? mates : others).push_back(id);
  }
  mates.insert(mates.end(), free.begin(), free.end());
  mates.insert(mates.end(), others.begin(), others.end());
  return mates;
}

/// The slots that the scheduler has given to it are taken from now on.
void Dispatcher::form_gang(std::size_t test, int slot) {
  auto gang = std::make_unique<Gang>();
  gang->test = test;
  gang->name = fmt::format("holdfast-{}-{}", ::getpid(), ++last_gang_);
  gang->slots = tests_[test].ranks > 1 ? queue_.seats_of(test) : std::vector<int>{slot};
  gang->left = gang->slots.size();
  gang->attempts.resize(gang->left);
  for (int seat : gang->slots) gang_of_[seat] = test;
  gangs_[test] = std::move(gang);
}

const World* Dispatcher::world_in(int slot) const {
  auto found = worlds_.find(slot);
  return found == worlds_.end() ? nullptr : found->second.get();
}

Gang* Dispatcher::gang_in(int slot) {
  auto found = gang_of_.find(slot);
  return found == gang_of_.end() ? nullptr : gangs_.at(found->second).get();
}

void Dispatcher::begin_gang(Order order) {
  Gang& gang = *gangs_.at(order.test);
  gang.order = std::move(order);
  if (!tests_[gang.test].pool) {
    open_world(gang);
    return;
  }
  gang.order.reuse = true;
  // A world of just these slots, whichever of them is its first rank, is what the test needs.
  auto found = worlds_.find(gang.slots.front());
  std::shared_ptr<World> world = found == worlds_.end() ? nullptr : found->second;
  bool complete = std::all_of(gang.slots.begin(), gang.slots.end(), [this](int seat) {
    Slot* slot = find(seat);
    return slot != nullptr && slot->has_worker();
  });
  if (world != nullptr && !world->over && complete &&
      std::set<int>(world->slots.begin(), world->slots.end()) == std::set<int>(gang.slots.begin(), gang.slots.end())) {
    gang.world = world;
    gang.slots = world->slots;
    start_ranks(gang, {});
    return;
  }
  gang.waiting = true;
  for (int seat : std::vector<int>(gang.slots)) retire_in(seat);
  go_on_with(gang.test);
}

/// One of its slots is idle: when all are, and none has a worker any more, it begins.
void Dispatcher::go_on_with(std::size_t test) {
  auto found = gangs_.find(test);
  if (found == gangs_.end() || !found->second->waiting) return;
  Gang& gang = *found->second;
  bool ready = std::all_of(gang.slots.begin(), gang.slots.end(), [this](int seat) {
    Slot* slot = find(seat);
    return slot == nullptr || (slot->idle() && !slot->has_worker());
  });
  if (!ready) return;
  gang.waiting = false;
  open_world(gang);
}

/// The worker of that slot ends, and with it all ranks of the world that it may be in: MPI_Finalize waits for all.
void Dispatcher::retire_in(int slot) {
  auto found = worlds_.find(slot);
  if (found == worlds_.end()) {
    if (Slot* idle = find(slot); idle != nullptr && idle->idle() && idle->has_worker()) idle->retire_worker();
    return;
  }
  std::shared_ptr<World> world = found->second;
  if (std::exchange(world->over, true)) return;
  bool all_idle = std::all_of(world->slots.begin(), world->slots.end(), [this](int rank) {
    Slot* idle = find(rank);
    return idle != nullptr && idle->idle() && idle->has_worker();
  });
  if (!all_idle) {
    discard(*world);
    return;
  }
  for (int rank : world->slots) find(rank)->retire_worker();
}

/// Its ranks are killed: MPI cannot be left in order without one of them.
void Dispatcher::discard(World& world) {
  world.over = true;
  for (int rank : std::vector<int>(world.slots)) {
    if (Slot* slot = find(rank); slot != nullptr && worlds_.count(rank) != 0) slot->discard_worker();
  }
}

/// The kept rank of that slot has gone. `by_itself`: nobody has ended it, so the others are of no use.
void Dispatcher::rank_gone(int slot, bool by_itself) {
  auto found = worlds_.extract(slot);
  if (found.empty()) return;
  const std::shared_ptr<World>& world = found.mapped();
  if (by_itself) loop_.call_after({}, [this, world] { discard(*world); });
  if (--world->left == 0) close_world(world);
}

void Dispatcher::open_world(Gang& gang) {
  auto world = std::make_shared<World>();
  gang.world = world;
  world->name = gang.name;
  world->slots = gang.slots;
  world->kept = tests_[gang.test].pool;
  if (!std::exchange(swept_, true)) sweep_folders();
  make_folder(*world);
  pin(gang);
  world->manager = tests_[gang.test].manager.empty() ? mpi_.manager : tests_[gang.test].manager;
  mpi::Manager* manager = manager_for(*world);
  if (manager == nullptr) {
    fail_gang(gang, mpi_.problem);
    return;
  }
  manager->begin(world->name, static_cast<int>(gang.slots.size()), [this, test = gang.test, world](mpi::Manager::Begun begun) {
    auto found = gangs_.find(test);
    if (found == gangs_.end() || found->second->world != world) return;  // Stopped in the meantime.
    if (begun.problem.empty()) {
      start_ranks(*found->second, std::move(begun));
    } else {
      fail_gang(*found->second, begun.problem);
    }
  });
}

/// For the library that its test has; null where it has none.
mpi::Manager* Dispatcher::manager_for(const World& world) {
  std::unique_ptr<mpi::Manager>& manager = managers_[world.manager];
  if (manager == nullptr) manager = new_manager(world.manager);
  return manager.get();
}

/// Null where it has not begun, and at the end of the engine.
mpi::Manager* Dispatcher::manager_of(const World& world) const {
  auto found = managers_.find(world.manager);
  return found == managers_.end() ? nullptr : found->second.get();
}

std::unique_ptr<mpi::Manager> Dispatcher::new_manager(const std::string& kind) {
  auto aborted = [this](const std::string& world, int rank, int code) { on_abort(world, rank, code); };
  if (kind == "pmi") return std::make_unique<mpi::PmiServers>(loop_, aborted);
  if (kind == "pmix") return std::make_unique<mpi::PmixLink>(loop_, aborted);
  if (kind != "launcher") return nullptr;
  return std::make_unique<mpi::Launchers>(loop_, mpi_.launch, [this](const std::string& world) { on_launcher_lost(world); });
}

/// `begun`: what joins them; empty where they have joined already.
void Dispatcher::start_ranks(Gang& gang, mpi::Manager::Begun begun) {
  gang.started = true;
  std::size_t test = gang.test;
  std::shared_ptr<World> world = gang.world;
  begun.environments.resize(gang.slots.size(), wire::Json::object());
  std::vector<int> slots = gang.slots;  // A slot that cannot begin may be the end of the gang.
  for (std::size_t rank = 0; rank < slots.size(); ++rank) {
    auto still = gangs_.find(test);
    if (still == gangs_.end()) return;
    Slot* slot = find(slots[rank]);
    if (slot == nullptr || !slot->idle()) {
      on_abandoned(test, slots[rank]);
      continue;
    }
    Order order = gang.order;
    std::size_t each = world->cpus.size() / slots.size();
    auto mine = world->cpus.begin() + static_cast<std::ptrdiff_t>(rank * each);
    order.mpi = {{"rank", rank},
                 {"size", slots.size()},
                 {"name", gang.name},
                 {"folder", world->folder},
                 {"environment", std::move(begun.environments[rank])},
                 {"cpus", std::vector<int>(mine, mine + static_cast<std::ptrdiff_t>(each))}};
    if (!begun.sockets.empty()) order.pmi = std::make_shared<os::Fd>(std::move(begun.sockets[rank]));
    share_devices(order, gang, rank);
    slot->begin(order, queue_.waiting() > 0 && !world->kept);
  }
}

/// With --scheduler=shell: CPUs for its ranks, out of those that this process may use.
void Dispatcher::pin(Gang& gang) {
  if (!pins_) return;
  const plan::Demand& demand = queue_.demand_of(gang.test);
  if (auto cpus = cpus_.take(demand.cores * static_cast<int>(gang.slots.size()))) {
    gang.world->cpus = std::move(*cpus);
  } else if (!std::exchange(told_of_cpus_, true)) {
    note("there are more slots than CPUs: ranks for which none is free are not pinned");
  }
}

/// Of the gang's lease, each rank sees its own part.
void Dispatcher::share_devices(Order& order, const Gang& gang, std::size_t rank) {
  const plan::Lease* lease = queue_.lease_of(gang.slots.front(), gang.test);
  if (lease == nullptr || devices_ == nullptr) return;
  plan::Lease part;
  part.memory = lease->memory;
  std::size_t each = lease->devices.size() / gang.slots.size();
  auto from = lease->devices.begin() + static_cast<std::ptrdiff_t>(rank * each);
  part.devices.assign(from, from + static_cast<std::ptrdiff_t>(each));
  order.gpus = devices_->order_for(part);
}

/// It could not be started.
void Dispatcher::fail_gang(Gang& gang, const std::string& problem) {
  Attempt attempt;
  attempt.test = gang.test;
  attempt.slot = gang.slots.front();
  attempt.evidence.problem = problem;
  std::size_t test = gang.test;
  // Not from inside of what the slot or the controller has called.
  loop_.call_after({}, [this, test, attempt = std::make_shared<Attempt>(std::move(attempt))] {
    if (gangs_.count(test) == 0) return;
    dissolve(test);
    finish_attempt(std::move(*attempt));
    wake_idle();
    check_end();
  });
}

void Dispatcher::on_rank_ended(Gang& gang, Attempt attempt) {
  int rank = gang.rank_in(attempt.slot);
  const std::string verdict = judge(attempt.evidence);
  bool failed = !attempt.evidence.ended_with_gang && !is_good(verdict);
  gang.attempts[static_cast<std::size_t>(rank)] = std::move(attempt);
  if (failed && gang.first_failed < 0) {
    gang.first_failed = rank;
    log_event("rank_failed", {{"id", ids_[gang.test]}, {"rank", rank}, {"verdict", verdict}});
  }
  if (--gang.left == 0) {
    end_gang(gang);
    return;
  }
  if (failed && gang.timer == 0) end_others_after(gang, is_pytest_verdict(verdict) ? kGangGrace : kDeadGrace);
}

Gang* Dispatcher::gang_of_world(const std::string& world) {
  auto found = std::find_if(gangs_.begin(), gangs_.end(), [&](const auto& entry) {
    return entry.second->world != nullptr && entry.second->world->name == world;
  });
  return found == gangs_.end() ? nullptr : found->second.get();
}

void Dispatcher::on_abort(const std::string& world, int rank, int code) {
  Gang* found = gang_of_world(world);
  if (found == nullptr) return;
  Gang& gang = *found;
  gang.aborted.emplace(rank, code);
  if (gang.first_failed < 0) gang.first_failed = rank;
  loop_.cancel(gang.timer);
  end_others_after(gang, kAbortGrace);
}

/// It has given its ranks up (a rank has called MPI_Abort, or somebody has ended it): they have lost what joined them.
void Dispatcher::on_launcher_lost(const std::string& world) {
  if (Gang* gang = gang_of_world(world)) {
    gang->launcher_lost = true;
    if (gang->left == 0) return;
    loop_.cancel(gang->timer);
    end_others_after(*gang, kAbortGrace);
    return;
  }
  auto kept = std::find_if(worlds_.begin(), worlds_.end(), [&](const auto& entry) { return entry.second->name == world; });
  if (kept == worlds_.end()) return;
  std::shared_ptr<World> idle = kept->second;
  discard(*idle);
}

void Dispatcher::end_others_after(Gang& gang, double grace) {
  gang.timer = loop_.call_after(os::seconds(grace), [this, test = gang.test] {
    auto found = gangs_.find(test);
    if (found == gangs_.end()) return;
    Gang& waiting = *found->second;
    std::vector<std::size_t> others;
    for (std::size_t rank = 0; rank < waiting.slots.size(); ++rank) {
      if (!waiting.attempts[rank]) others.push_back(rank);
    }
    std::string why = waiting.first_failed < 0 ? "the launcher of its ranks has ended; those that are left"
                                               : fmt::format("rank {} has failed; the others", waiting.first_failed);
    note(fmt::format("{}: {} ({}) have not ended by themselves, and are ended", ids_[test], why, fmt::join(others, ", ")));
    std::vector<int> slots = waiting.slots;
    for (std::size_t rank : others) {
      if (Slot* slot = find(slots[rank])) slot->end_with_gang();
    }
  });
}

/// A rank was stopped, or its slot is lost. True if the test was a gang's that has ranks left, so that nothing is to be done
/// yet.
bool Dispatcher::rank_abandoned(std::size_t test, int slot) {
  auto found = gangs_.find(test);
  if (found == gangs_.end()) return false;
  Gang& gang = *found->second;
  gang.abandoned = true;
  if (gang.started && gang.rank_in(slot) >= 0 && --gang.left > 0) {
    if (!stopping_) end_others_after(gang, 0);
    return true;
  }
  dissolve(test);
  return false;
}

void Dispatcher::end_gang(Gang& gang) {
  std::size_t test = gang.test;
  int slot = gang.slots.front();
  if (gang.abandoned) {
    dissolve(test);
    on_abandoned(test, slot);
    return;
  }
  bool wanted = gang.wants_words();
  gang.asked = true;
  mpi::Manager* manager = wanted ? manager_of(*gang.world) : nullptr;
  if (manager != nullptr && manager->explain(gang.world->name, [this, test](const std::string& words) {
        auto found = gangs_.find(test);
        if (found == gangs_.end()) return;
        found->second->hear(words);
        end_gang(*found->second);
        wake_idle();
        check_end();
      })) {
    return;
  }
  // Tests of Python look for themselves.
  const mpi::Manager* joins = tests_[test].program && gang.slots.size() > 1 ? manager_of(*gang.world) : nullptr;
  if (joins != nullptr) gang.absent = joins->absent(gang.world->name);
  gang.ended_well = gang.lives_on();
  Attempt merged = gang.merge();
  dissolve(test);
  finish_attempt(std::move(merged));
}

/// Its slots are free again. A world that is kept stays, if the test has ended well in it.
void Dispatcher::dissolve(std::size_t test) {
  auto found = gangs_.extract(test);
  if (found.empty()) return;
  std::shared_ptr<Gang> gang(std::move(found.mapped()));
  loop_.cancel(gang->timer);
  for (int slot : gang->slots) gang_of_.erase(slot);
  if (gang->slots.size() > 1) {
    queue_.gang_finished(test);
  } else {
    queue_.finished(gang->slots.front(), test);
  }
  if (gang->world == nullptr) return;
  if (gang->world->kept) {
    keep_world(gang->world, gang->ended_well);
  } else {
    close_world(gang->world);
  }
}

/// `good`: another test may run in it. Otherwise what is left of it goes.
void Dispatcher::keep_world(const std::shared_ptr<World>& world, bool good) {
  for (int rank : world->slots) {
    Slot* slot = find(rank);
    bool there = slot != nullptr && slot->has_worker();
    if (there && worlds_.emplace(rank, world).second) ++world->left;
    if (!there && worlds_.erase(rank) != 0) --world->left;
  }
  if (world->left == 0) {
    close_world(world);
  } else if (!good) {
    discard(*world);
  }
}

void Dispatcher::close_world(const std::shared_ptr<World>& world) {
  cpus_.give_back(world->cpus);
  if (mpi::Manager* manager = manager_of(*world); manager != nullptr) manager->end(world->name);
  remove_folder(*world);
}

/// At the end of the engine: nothing of theirs stays.
void Dispatcher::forget_worlds() {
  for (auto& [slot, world] : worlds_) remove_folder(*world);
  for (auto& [test, gang] : gangs_) {
    if (gang->world != nullptr) remove_folder(*gang->world);
  }
}

/// Those that have not begun when the run is stopped.
void Dispatcher::drop_unstarted_gangs() {
  std::vector<std::pair<std::size_t, int>> waiting;
  for (const auto& [test, gang] : gangs_) {
    if (!gang->started) waiting.emplace_back(test, gang->slots.front());
  }
  for (auto [test, slot] : waiting) on_abandoned(test, slot);
}

/// Tests that want more slots than there are left.
void Dispatcher::refuse_wide_gangs() {
  for (std::size_t i = 0; i < tests_.size() && queue_.has_gangs(); ++i) {
    if (tests_[i].settled || tests_[i].ranks <= static_cast<int>(slots_.size()) || !queue_.is_waiting(i)) continue;
    journal::Record record;
    record.test = static_cast<std::int64_t>(i);
    record.verdict = "error";
    wire::Json detail = {
        {"problem", fmt::format("it asks for {} ranks, and {} slot(s) are left", tests_[i].ranks, slots_.size())},
        {"phase", "setup"}};
    if (!settle_without_run(std::move(record), ids_[i], std::move(detail))) return;
  }
}

}  // namespace holdfast::run
