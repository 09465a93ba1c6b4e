#include "plan/scheduler.h"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>
#include <utility>

#include "plan/pack.h"

namespace holdfast::plan {

namespace {

// Tests that may be given devices before one that waits for more than is free; then some are kept free for it. More where the
// order was planned with such waiting in mind.
constexpr int kMostPassed = 4;
constexpr int kMostPassedAsPlanned = 64;

// Tests with devices up to which their order is planned, and what that may cost: moves times the square of tests,
// which is some 0.3 s.
constexpr std::size_t kMostPacked = 300;
constexpr std::size_t kPackingWork = 36'000'000;

// Whether a process with these devices has what the demand asks for.
bool covers(const Lease& lease, const DeviceDemand& demand) {
  bool enough = lease.memory == 0 || (demand.memory > 0 && demand.memory <= lease.memory);
  return static_cast<int>(lease.devices.size()) == demand.count && enough &&
         std::all_of(lease.devices.begin(), lease.devices.end(),
                     [&](int device) { return (demand.allowed >> static_cast<unsigned>(device) & 1U) != 0; });
}

}  // namespace

std::string why_impossible(const Demand& demand, const Capacity& capacity) {
  int cores = demand.cores * demand.ranks;
  std::uint64_t memory = demand.memory * static_cast<std::uint64_t>(demand.ranks);
  if (cores > capacity.cores) return fmt::format("it asks for {} cores, and {} can be used", cores, capacity.cores);
  if (capacity.memory > 0 && memory > capacity.memory) {
    return fmt::format("it asks for {} MiB of memory, and {} MiB can be used", memory >> 20U, capacity.memory >> 20U);
  }
  return "";
}

void Scheduler::reset(Problem problem) {
  problem_ = std::move(problem);
  states_.assign(problem_.tasks.size(), State::Waiting);
  waiting_ = problem_.tasks.size();
  returned_.clear();
  blocked_.clear();
  claims_.clear();
  homes_.clear();
  bound_.clear();
  places_.assign(static_cast<std::size_t>(std::max(1, problem_.slots)), Place{});
  used_cores_ = busy_ = 0;
  used_memory_ = 0;
  alone_slot_ = -1;
  alone_held_ = 0;
  may_open_ = true;
  book_.reset(problem_.devices);
  leases_.clear();
  avoided_.clear();
  starving_.reset();
  passed_ = 0;
  kept_free_ = 0;
  seats_.clear();
  offered_.clear();
  waiting_gang_.reset();
  has_gangs_ = std::any_of(problem_.demands.begin(), problem_.demands.end(), [](const Demand& d) { return d.ranks > 1; });
  next_ = 0;
  estimate_unknown();
  make_chunks();
  order_chunks();
}

// A test that is not known is taken for an average one, so that a new file neither goes first nor last.
void Scheduler::estimate_unknown() {
  double sum = 0;
  std::size_t known = 0;
  for (const Task& task : problem_.tasks) {
    if (task.expected < 0) continue;
    sum += task.expected;
    ++known;
  }
  double mean = known > 0 ? sum / static_cast<double>(known) : 0;
  for (Task& task : problem_.tasks) {
    if (task.expected < 0) task.expected = mean;
  }
  remaining_ = sum + mean * static_cast<double>(problem_.tasks.size() - known);
}

void Scheduler::make_chunks() {
  const std::vector<Task>& tasks = problem_.tasks;
  std::uint32_t count = 0;
  for (const Task& task : tasks) count = std::max(count, task.chunk + 1);
  chunks_.assign(count, Chunk{});
  // Counting sort: stable, so tests keep their order inside a chunk.
  for (const Task& task : tasks) ++chunks_[task.chunk].end;
  std::uint32_t position = 0;
  for (std::uint32_t i = 0; i < count; ++i) {
    Chunk& chunk = chunks_[i];
    chunk.begin = position;
    position += chunk.end;
    chunk.end = chunk.begin;
    chunk.splittable = i < problem_.splittable.size() && problem_.splittable[i];
  }
  order_.assign(tasks.size(), 0);
  for (std::uint32_t i = 0; i < tasks.size(); ++i) order_[chunks_[tasks[i].chunk].end++] = i;
  elapsed_.assign(tasks.size() + 1, 0);
  for (std::size_t i = 0; i < order_.size(); ++i) elapsed_[i + 1] = elapsed_[i] + tasks[order_[i]].expected;
}

void Scheduler::order_chunks() {
  pool_.resize(chunks_.size());
  std::iota(pool_.begin(), pool_.end(), 0U);
  // Chunks are numbered in collection order. The widest first: they find the machine empty only at the beginning.
  auto width = [this](std::uint32_t chunk) {
    int widest = 1;
    for (std::uint32_t i = chunks_[chunk].begin; i < chunks_[chunk].end; ++i) {
      const Demand& demand = problem_.demands[problem_.tasks[order_[i]].demand];
      widest = std::max({widest, demand.cores * demand.ranks, demand.devices.count});
    }
    return widest;
  };
  if (!problem_.keep_order) {
    std::vector<int> widths(chunks_.size());
    for (std::uint32_t i = 0; i < chunks_.size(); ++i) widths[i] = width(i);
    std::vector<double> times(chunks_.size());
    for (std::uint32_t i = 0; i < chunks_.size(); ++i) times[i] = time_of(chunks_[i]);
    std::sort(pool_.begin(), pool_.end(), [&](std::uint32_t a, std::uint32_t b) {
      if (widths[a] != widths[b]) return widths[a] > widths[b];
      return times[a] != times[b] ? times[a] > times[b] : a < b;
    });
  }
  planned_ = false;
  if (!problem_.keep_order && !problem_.one_chunk) pack_on_devices();
  rank_.resize(pool_.size());
  for (std::uint32_t i = 0; i < pool_.size(); ++i) rank_[pool_[i]] = i;
}

// Chunks of one test with devices are put into an order that was planned for them, where the time of all of them is known; the
// places that they have among the others stay.
void Scheduler::pack_on_devices() {
  std::vector<std::size_t> places;
  std::vector<Packed> tests;
  bool all_known = true;
  for (std::size_t i = 0; i < pool_.size(); ++i) {
    const Chunk& chunk = chunks_[pool_[i]];
    if (chunk.end != chunk.begin + 1) continue;
    const Task& task = problem_.tasks[order_[chunk.begin]];
    const DeviceDemand& demand = problem_.demands[task.demand].devices;
    if (demand.count == 0 || !book_.is_possible(demand)) continue;
    all_known = all_known && task.expected > 0;
    places.push_back(i);
    tests.push_back({task.expected, demand});
  }
  bool shares = std::any_of(tests.begin(), tests.end(), [](const Packed& test) { return test.demand.memory > 0; });
  if (!all_known || !shares || tests.size() > kMostPacked) return;
  std::vector<std::uint32_t> chunks;
  chunks.reserve(places.size());
  for (std::size_t place : places) chunks.push_back(pool_[place]);
  auto moves = static_cast<int>(kPackingWork / std::max<std::size_t>(1, tests.size() * tests.size()));
  std::vector<std::uint32_t> order = pack(tests, problem_.devices, problem_.slots, moves);
  for (std::size_t i = 0; i < places.size(); ++i) pool_[places[i]] = chunks[order[i]];
  planned_ = true;
}

void Scheduler::settle(std::size_t task) {
  if (task >= states_.size() || states_[task] != State::Waiting) return;
  states_[task] = State::Taken;
  --waiting_;
  remaining_ -= problem_.tasks[task].expected;
}

void Scheduler::put_back(std::size_t task, bool fresh, bool alone) {
  if (task >= states_.size() || states_[task] == State::Waiting) return;
  Task& entry = problem_.tasks[task];
  if (fresh) entry.reuse = false;
  if (alone && !problem_.demands[entry.demand].alone) own_demand(task).alone = true;
  states_[task] = State::Waiting;
  ++waiting_;
  remaining_ += entry.expected;
  returned_.push_back(task);
}

std::size_t Scheduler::bind(const std::vector<std::size_t>& tasks, std::uint32_t process, int slot, std::size_t first) {
  Place& place = places_[static_cast<std::size_t>(slot)];
  if (auto lease = leases_.find(first); lease != leases_.end()) {
    place.kept = std::move(lease->second);
    leases_.erase(lease);
  }
  std::size_t bound = 0;
  for (std::size_t task : tasks) {
    const DeviceDemand& devices = demand_of(task).devices;
    if (devices.count > 0 && (!place.kept || !covers(*place.kept, devices))) continue;
    problem_.tasks[task].reuse = true;
    problem_.tasks[task].process = process;
    ++bound;
  }
  homes_[process] = slot;
  bound_.insert(process);
  place.process = process;
  return bound;
}

// ---- devices ---------------------------------------------------------------------------------------------------------------

DeviceSet Scheduler::avoided_by(std::size_t task) const {
  auto found = avoided_.find(task);
  return found == avoided_.end() ? 0 : found->second;
}

/// Devices that are not for this test, since one waits for them that has waited long enough. Those that ask for the same are
/// equal: of the chunks whose first tests do, only one is looked at.
DeviceSet Scheduler::kept_from(std::size_t task) const {
  bool waits = starving_ && *starving_ != task && states_[*starving_] == State::Waiting;
  return waits && problem_.tasks[task].demand != problem_.tasks[*starving_].demand ? kept_free_ : 0;
}

/// Whether the devices that it asks for are there: those of the slot's process, or others that are free.
bool Scheduler::has_devices(int slot, std::size_t task) const {
  const DeviceDemand& devices = demand_of(task).devices;
  if (devices.count == 0) return true;
  const Place& place = places_[static_cast<std::size_t>(slot)];
  if (place.kept && may_reuse(task)) return follows(slot, task) && covers(*place.kept, devices);
  return book_.find(devices, avoided_by(task), kept_from(task)).has_value();
}

// The first in order that waits for devices has a right to them, though what comes behind it may need fewer.
void Scheduler::note_blocked(std::size_t task) {
  bool better = !waiting_gang_ || states_[*waiting_gang_] != State::Waiting;
  if (demand_of(task).ranks > 1 && better) {
    waiting_gang_ = task;
    passed_gang_ = 0;
  }
  const DeviceDemand& devices = demand_of(task).devices;
  if (devices.count == 0 || book_.find(devices, avoided_by(task), 0).has_value()) return;
  if (starving_ && states_[*starving_] == State::Waiting) return;
  starving_ = task;
  passed_ = 0;
  kept_free_ = 0;
}

const Lease* Scheduler::lease_of(int slot, std::size_t task) const {
  if (auto own = leases_.find(task); own != leases_.end()) return &own->second;
  return may_reuse(task) && demand_of(task).devices.count > 0 ? kept_lease(slot) : nullptr;
}

void Scheduler::returned(std::size_t task) {
  auto lease = leases_.find(task);
  if (lease == leases_.end()) return;
  book_.give_back(lease->second);
  leases_.erase(lease);
}

// Out of memory counts for less where another had some of it, also one that has ended by then.
void Scheduler::note_neighbours(Lease& lease) {
  auto meet = [&](Lease& other) {
    bool together = std::any_of(other.devices.begin(), other.devices.end(), [&](int device) {
      return std::find(lease.devices.begin(), lease.devices.end(), device) != lease.devices.end();
    });
    if (together) lease.shared = other.shared = true;
  };
  if (lease.memory == 0) return;
  for (auto& [task, other] : leases_) meet(other);
  for (Place& place : places_) {
    if (place.kept) meet(*place.kept);
  }
}

const Lease* Scheduler::kept_lease(int slot) const {
  const Place& place = places_[static_cast<std::size_t>(slot)];
  return place.kept ? &*place.kept : nullptr;
}

std::optional<Lease> Scheduler::process_gone(int slot) {
  return std::exchange(places_[static_cast<std::size_t>(slot)].kept, std::nullopt);
}

void Scheduler::move_away(std::size_t task, DeviceSet from, bool whole) {
  avoided_[task] |= from;
  if (whole && demand_of(task).devices.memory > 0) own_demand(task).devices.memory = 0;
}

/// A copy of the test's demand that no other test has.
Demand& Scheduler::own_demand(std::size_t task) {
  problem_.demands.push_back(Demand(demand_of(task)));
  problem_.tasks[task].demand = static_cast<std::uint32_t>(problem_.demands.size() - 1);
  return problem_.demands.back();
}

// ---- what fits -------------------------------------------------------------------------------------------------------------

bool Scheduler::fits(int slot, std::size_t task) const {
  const Demand& demand = problem_.demands[problem_.tasks[task].demand];
  const Place& place = places_[static_cast<std::size_t>(slot)];
  if (alone_slot_ >= 0 && alone_slot_ != slot) return false;
  if (is_passed_over(task)) return false;
  if (demand.ranks > 1 && static_cast<int>(free_seats(slot).size()) < demand.ranks) return false;
  if (!has_devices(slot, task)) return false;
  int others = busy_ - (place.held.empty() ? 0 : 1);
  if (others == 0) return true;  // Whatever it wants: nothing else runs, and waiting would change nothing.
  if (demand.alone) return false;
  // What the slot's present test holds is free when the next one begins.
  if (used_cores_ - place.cores + demand.cores * demand.ranks > problem_.capacity.cores) return false;
  std::uint64_t memory = used_memory_ - place.memory + demand.memory * static_cast<std::uint64_t>(demand.ranks);
  if (problem_.capacity.memory > 0 && demand.memory > 0 && memory > problem_.capacity.memory) return false;
  return std::all_of(demand.tokens.begin(), demand.tokens.end(), [&](const TokenUse& use) {
    auto found = claims_.find(use.token);
    if (found == claims_.end()) return true;
    std::uint32_t others = 0;
    for (const Claim& claim : found->second) {
      if (claim.slot == slot) continue;
      if (claim.exclusive || use.exclusive) return false;
      ++others;
    }
    return use.most == 0 || others < use.most;
  });
}

// ---- gangs -----------------------------------------------------------------------------------------------------------------

// Those on which a gang that this slot asks for could begin, the slot itself first; none if that still runs a test.
std::vector<int> Scheduler::free_seats(int slot) const {
  std::vector<int> seats;
  if (!places_[static_cast<std::size_t>(slot)].held.empty()) return seats;
  seats.push_back(slot);
  for (int other : offered_) {
    if (other != slot && places_[static_cast<std::size_t>(other)].held.empty()) seats.push_back(other);
  }
  return seats;
}

// A few tests may begin while a gang waits for slots. Then slots that become free are kept for it, until there are enough.
bool Scheduler::is_passed_over(std::size_t task) const {
  return waiting_gang_ && *waiting_gang_ != task && passed_gang_ >= kMostPassed && states_[*waiting_gang_] == State::Waiting;
}

void Scheduler::seat(int slot, std::size_t task) {
  Place& place = places_[static_cast<std::size_t>(slot)];
  if (place.held.empty()) ++busy_;
  place.held.push_back(problem_.tasks[task].demand);
  measure(place);
}

void Scheduler::gang_finished(std::size_t task) {
  auto seats = seats_.extract(task);
  if (seats.empty()) return;
  for (int slot : seats.mapped()) finished(slot, task);
}

// Whether it may run in the process that the slot's latest such test runs in.
bool Scheduler::follows(int slot, std::size_t task) const {
  return may_reuse(task) && problem_.tasks[task].process == places_[static_cast<std::size_t>(slot)].process;
}

// A scope that has begun in one slot goes on there, so that it is not set up twice.
bool Scheduler::is_at_home(int slot, std::size_t task) const {
  if (!may_reuse(task) || !shares_scope(task)) return true;
  auto home = homes_.find(problem_.tasks[task].process);
  return home == homes_.end() || home->second == slot;
}

void Scheduler::measure(Place& place) {
  used_cores_ -= place.cores;
  used_memory_ -= place.memory;
  place.cores = 0;
  place.memory = 0;
  for (std::uint32_t number : place.held) {
    place.cores = std::max(place.cores, problem_.demands[number].cores);
    place.memory = std::max(place.memory, problem_.demands[number].memory);
  }
  used_cores_ += place.cores;
  used_memory_ += place.memory;
}

std::size_t Scheduler::hold(int slot, std::size_t task) {
  settle(task);
  const Demand& demand = demand_of(task);
  Place& place = places_[static_cast<std::size_t>(slot)];
  if (waiting_gang_ == task) {
    waiting_gang_.reset();
  } else {
    ++passed_gang_;
  }
  if (demand.ranks > 1) {
    std::vector<int> seats = free_seats(slot);
    seats.resize(static_cast<std::size_t>(demand.ranks));
    for (int other : seats) {
      if (other != slot) seat(other, task);
    }
    seats_[task] = std::move(seats);
  }
  seat(slot, task);
  if (may_reuse(task)) {
    std::uint32_t process = problem_.tasks[task].process;
    place.other_process = process != place.process;
    place.process = process;
    if (process > 0) homes_[process] = slot;
  }
  for (const TokenUse& use : demand.tokens) claims_[use.token].push_back(Claim{slot, use.exclusive});
  if (demand.alone) {
    alone_slot_ = slot;
    ++alone_held_;
  }
  if (demand.devices.count > 0 && !(place.kept && may_reuse(task))) {
    Lease lease = *book_.find(demand.devices, avoided_by(task), kept_from(task));
    book_.take(lease);
    note_neighbours(lease);
    if (may_reuse(task)) {
      place.kept = std::move(lease);
    } else {
      leases_[task] = std::move(lease);
    }
    if (starving_ == task) {
      starving_.reset();
      kept_free_ = 0;
    } else if (starving_ && states_[*starving_] == State::Waiting &&
               ++passed_ >= (planned_ ? kMostPassedAsPlanned : kMostPassed)) {
      kept_free_ = book_.to_keep(demand_of(*starving_).devices, avoided_by(*starving_));
    }
  }
  return task;
}

void Scheduler::finished(int slot, std::size_t task) {
  std::uint32_t number = problem_.tasks[task].demand;
  const Demand& demand = problem_.demands[number];
  Place& place = places_[static_cast<std::size_t>(slot)];
  auto held = std::find(place.held.begin(), place.held.end(), number);
  if (held == place.held.end()) return;
  place.held.erase(held);
  if (place.held.empty()) --busy_;
  measure(place);
  for (const TokenUse& use : demand.tokens) {
    std::vector<Claim>& claims = claims_[use.token];
    auto mine = std::find_if(claims.begin(), claims.end(),
                             [&](const Claim& claim) { return claim.slot == slot && claim.exclusive == use.exclusive; });
    if (mine != claims.end()) claims.erase(mine);
  }
  if (demand.alone && alone_slot_ == slot && --alone_held_ == 0) alone_slot_ = -1;
}

void Scheduler::close(int slot) {
  for (auto home = homes_.begin(); home != homes_.end();) home = home->second == slot ? homes_.erase(home) : std::next(home);
  Place& place = places_[static_cast<std::size_t>(slot)];
  std::optional<std::size_t> task = place.chunk >= 0 ? head(place.chunk) : std::nullopt;
  if (task) blocked_[problem_.tasks[*task].demand].push_front(static_cast<std::uint32_t>(place.chunk));
  place.chunk = -1;
}

// ---- choosing --------------------------------------------------------------------------------------------------------------

std::optional<std::size_t> Scheduler::take(int slot, bool reuse_only) {
  if (waiting_ == 0) return std::nullopt;
  if (auto task = take_returned(slot, reuse_only ? Process::Used : Process::Any)) return task;
  if (auto task = take_own(slot, reuse_only)) return task;
  if (places_[static_cast<std::size_t>(slot)].chunk >= 0) return std::nullopt;  // Its next test needs a fresh process.
  if (auto task = open_chunk(slot, reuse_only)) return task;
  if (steal(slot)) return take_own(slot, reuse_only);
  return std::nullopt;
}

std::optional<std::size_t> Scheduler::take_returned(int slot, Process process) {
  for (auto it = returned_.rbegin(); it != returned_.rend(); ++it) {
    std::size_t task = *it;
    bool suits = process == Process::Any || (process == Process::Used ? follows(slot, task) : !may_reuse(task));
    suits = suits && is_at_home(slot, task);
    if (states_[task] == State::Waiting && !suits) continue;
    if (states_[task] == State::Waiting && !fits(slot, task)) {
      note_blocked(task);
      continue;
    }
    bool waiting = states_[task] == State::Waiting;  // Or settled in the meantime.
    returned_.erase(std::next(it).base());
    if (waiting) return hold(slot, task);
    return take_returned(slot, process);
  }
  return std::nullopt;
}

std::optional<std::size_t> Scheduler::plain_next(int slot) {
  int chunk = places_[static_cast<std::size_t>(slot)].chunk;
  if (chunk < 0 || !returned_.empty() || alone_slot_ >= 0) return std::nullopt;
  std::optional<std::size_t> task = head(chunk);
  bool plain = task && follows(slot, *task) && !shares_scope(*task) && problem_.tasks[*task].demand == 0;
  return plain ? task : std::nullopt;
}

// The first test of a chunk that still waits; what was settled before it is dropped.
std::optional<std::size_t> Scheduler::head(int chunk) {
  Chunk& entry = chunks_[static_cast<std::size_t>(chunk)];
  while (entry.begin < entry.end && states_[order_[entry.begin]] != State::Waiting) ++entry.begin;
  if (entry.begin == entry.end) return std::nullopt;
  return order_[entry.begin];
}

std::size_t Scheduler::advance(int slot, int chunk) {
  Chunk& entry = chunks_[static_cast<std::size_t>(chunk)];
  places_[static_cast<std::size_t>(slot)].chunk = entry.begin + 1 < entry.end ? chunk : -1;
  return hold(slot, order_[entry.begin++]);
}

std::optional<std::size_t> Scheduler::take_own(int slot, bool reuse_only) {
  Place& place = places_[static_cast<std::size_t>(slot)];
  if (place.chunk < 0) return std::nullopt;
  send_home(slot, place.chunk);
  std::optional<std::size_t> task = head(place.chunk);
  if (!task) {
    place.chunk = -1;
    return std::nullopt;
  }
  if (reuse_only && !follows(slot, *task)) return std::nullopt;
  if (fits(slot, *task)) return advance(slot, place.chunk);
  // Somebody takes it up when it fits; this slot looks for other work meanwhile.
  note_blocked(*task);
  blocked_[problem_.tasks[*task].demand].push_front(static_cast<std::uint32_t>(place.chunk));
  place.chunk = -1;
  return std::nullopt;
}

// What has been bound to another slot since it was dealt: that one finds it among what was put back.
void Scheduler::send_home(int slot, int chunk) {
  if (bound_.empty()) return;
  std::vector<std::size_t> strangers;
  for (auto task = head(chunk); task && bound_.count(problem_.tasks[*task].process) != 0 && !is_at_home(slot, *task);
       task = head(chunk)) {
    strangers.push_back(*task);
    ++chunks_[static_cast<std::size_t>(chunk)].begin;
  }
  // What was put back last is taken first.
  returned_.insert(returned_.end(), strangers.rbegin(), strangers.rend());
}

bool Scheduler::is_open_elsewhere() const {
  return busy_ > 0 || std::any_of(places_.begin(), places_.end(), [](const Place& place) { return place.chunk >= 0; });
}

int Scheduler::best_blocked(int slot) {
  int best = -1;
  for (auto& [demand, waiting] : blocked_) {
    while (!waiting.empty()) {
      send_home(slot, static_cast<int>(waiting.front()));
      if (head(static_cast<int>(waiting.front()))) break;
      waiting.pop_front();
    }
    if (waiting.empty() || !fits(slot, *head(static_cast<int>(waiting.front())))) continue;
    int chunk = static_cast<int>(waiting.front());
    if (best < 0 || rank_[waiting.front()] < rank_[static_cast<std::size_t>(best)]) best = chunk;
  }
  return best;
}

std::optional<std::size_t> Scheduler::open_chunk(int slot, bool reuse_only) {
  if (problem_.one_chunk && (!may_open_ || is_open_elsewhere())) return std::nullopt;
  int blocked = best_blocked(slot);
  for (; next_ < pool_.size(); ++next_) {
    auto chunk = static_cast<int>(pool_[next_]);
    if (blocked >= 0 && rank_[static_cast<std::size_t>(blocked)] < next_) break;
    send_home(slot, chunk);
    std::optional<std::size_t> task = head(chunk);
    if (!task) continue;
    if (!fits(slot, *task)) {
      note_blocked(*task);
      blocked_[problem_.tasks[*task].demand].push_back(static_cast<std::uint32_t>(chunk));
      continue;
    }
    if (reuse_only && !follows(slot, *task)) return std::nullopt;
    ++next_;
    return advance(slot, chunk);
  }
  if (blocked < 0) return std::nullopt;
  std::size_t task = *head(blocked);
  if (reuse_only && !follows(slot, task)) return std::nullopt;
  blocked_[problem_.tasks[task].demand].pop_front();
  return advance(slot, blocked);
}

// Halves the largest chunk that another slot works on. The back half goes, so that both go on in order.
bool Scheduler::steal(int slot) {
  int victim = -1;
  for (const Place& place : places_) {
    if (place.chunk < 0 || !chunks_[static_cast<std::size_t>(place.chunk)].splittable) continue;
    // What shares a process cannot be shared out.
    if (auto next = head(place.chunk); !next || shares_scope(*next)) continue;
    const Chunk& chunk = chunks_[static_cast<std::size_t>(place.chunk)];
    if (victim < 0 || time_of(chunk) > time_of(chunks_[static_cast<std::size_t>(victim)]) ||
        (time_of(chunk) == 0 && chunk.end - chunk.begin > chunks_[static_cast<std::size_t>(victim)].end -
                                                              chunks_[static_cast<std::size_t>(victim)].begin)) {
      victim = place.chunk;
    }
  }
  if (victim < 0) return false;
  Chunk back = chunks_[static_cast<std::size_t>(victim)];
  std::uint32_t middle = back.begin + (back.end - back.begin) / 2;
  if (time_of(back) > 0) {
    double half = elapsed_[back.begin] + time_of(back) / 2;
    auto at = std::upper_bound(elapsed_.begin() + back.begin, elapsed_.begin() + back.end, half) - elapsed_.begin();
    middle = std::clamp(static_cast<std::uint32_t>(at), back.begin, back.end - 1);
  }
  chunks_[static_cast<std::size_t>(victim)].end = middle;
  back.begin = middle;
  places_[static_cast<std::size_t>(slot)].chunk = static_cast<int>(chunks_.size());
  rank_.push_back(rank_[static_cast<std::size_t>(victim)]);
  chunks_.push_back(back);
  return true;
}

}  // namespace holdfast::plan
