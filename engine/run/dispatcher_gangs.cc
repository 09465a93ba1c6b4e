// The part of Dispatcher that runs tests of several MPI ranks: it starts them together, ends them together, and makes one
// attempt of theirs.
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>

#include "run/dispatcher.h"

namespace holdfast::run {

namespace {

// Seconds that ranks get to end by themselves when one has failed: longer than a message takes, shorter than anybody waits.
constexpr double kGangGrace = 1.0;
// The same where it has died: most of what others wait for then will never come.
constexpr double kDeadGrace = 0.2;
// And when one has called MPI_Abort, which is to end all.
constexpr double kAbortGrace = 0.1;

// Open MPI 4 does not look for a PMIx server unless it thinks that its own daemon has started it; and it is not to bind ranks
// to cores that it has not asked anybody for.
const std::vector<std::pair<const char*, const char*>> kOpenMpi = {
    {"OMPI_MCA_orte_local_daemon_uri", "1.0;tcp://127.0.0.1:9"},
    {"OMPI_MCA_hwloc_base_binding_policy", "none"},
};

}  // namespace

/// The slots that could begin a rank at once.
std::vector<int> Dispatcher::idle_slots() const {
  std::vector<int> found;
  for (const auto& slot : slots_) {
    int id = slot->id();
    if (slot->idle() && staged_.count(id) == 0 && reserved_.count(id) == 0 && gang_of_.count(id) == 0) found.push_back(id);
  }
  return found;
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

Gang* Dispatcher::gang_in(int slot) {
  auto found = gang_of_.find(slot);
  return found == gang_of_.end() ? nullptr : gangs_.at(found->second).get();
}

void Dispatcher::begin_gang(Order order) {
  Gang& gang = *gangs_.at(order.test);
  gang.order = std::move(order);
  std::string folder = "/dev/shm/" + gang.name;
  if (::mkdir(folder.c_str(), 0700) == 0) gang.folder = folder;
  pin(gang);
  int size = static_cast<int>(gang.slots.size());
  if (mpi_.manager == "pmi") {
    std::size_t test = gang.test;
    gang.pmi = std::make_unique<mpi::PmiServer>(loop_, size, gang.name,
                                                [this, test](int rank, int code) { on_abort(test, rank, code); });
    start_ranks(gang, std::vector<wire::Json>(gang.slots.size(), wire::Json::object()));
    return;
  }
  if (mpi_.manager != "pmix") {
    fail_gang(gang, mpi_.problem);
    return;
  }
  if (pmix_ == nullptr) {
    pmix_ = std::make_unique<mpi::PmixLink>(loop_, [this](const std::string& name, int rank, int code) {
      for (const auto& [test, other] : gangs_) {
        if (other->name == name) return on_abort(test, rank, code);
      }
    });
  }
  pmix_->begin(gang.name, size, [this, test = gang.test, name = gang.name](mpi::PmixLink::Begun begun) {
    auto found = gangs_.find(test);
    if (found == gangs_.end() || found->second->name != name) return;  // Stopped in the meantime.
    if (!begun.problem.empty()) {
      fail_gang(*found->second, begun.problem);
      return;
    }
    for (wire::Json& environment : begun.ranks) {
      for (const auto& [key, value] : kOpenMpi) environment[key] = value;
    }
    start_ranks(*found->second, std::move(begun.ranks));
  });
}

void Dispatcher::start_ranks(Gang& gang, std::vector<wire::Json> environments) {
  gang.started = true;
  std::size_t test = gang.test;
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
    std::size_t each = gang.cpus.size() / slots.size();
    auto mine = gang.cpus.begin() + static_cast<std::ptrdiff_t>(rank * each);
    order.mpi = {{"rank", rank},
                 {"size", slots.size()},
                 {"name", gang.name},
                 {"folder", gang.folder},
                 {"environment", std::move(environments[rank])},
                 {"cpus", std::vector<int>(mine, mine + static_cast<std::ptrdiff_t>(each))}};
    if (gang.pmi != nullptr) {
      if (Result<os::Fd> socket = gang.pmi->connect(static_cast<int>(rank))) {
        order.pmi = std::make_shared<os::Fd>(std::move(*socket));
      }
    }
    share_devices(order, gang, rank);
    slot->begin(order, queue_.waiting() > 0);
  }
}

/// With --scheduler=shell: CPUs for its ranks, out of those that this process may use.
void Dispatcher::pin(Gang& gang) {
  if (!pins_) return;
  const plan::Demand& demand = queue_.demand_of(gang.test);
  if (auto cpus = cpus_.take(demand.cores * static_cast<int>(gang.slots.size()))) {
    gang.cpus = std::move(*cpus);
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

void Dispatcher::on_abort(std::size_t test, int rank, int code) {
  auto found = gangs_.find(test);
  if (found == gangs_.end()) return;
  Gang& gang = *found->second;
  gang.aborted.emplace(rank, code);
  if (gang.first_failed < 0) gang.first_failed = rank;
  loop_.cancel(gang.timer);
  end_others_after(gang, kAbortGrace);
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
    note(fmt::format("{}: rank {} has failed; the others ({}) have not ended by themselves, and are ended", ids_[test],
                     waiting.first_failed, fmt::join(others, ", ")));
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
  Attempt merged = gang.merge();
  dissolve(test);
  finish_attempt(std::move(merged));
}

/// Its slots are free again.
void Dispatcher::dissolve(std::size_t test) {
  auto found = gangs_.extract(test);
  if (found.empty()) return;
  std::shared_ptr<Gang> gang(std::move(found.mapped()));
  loop_.cancel(gang->timer);
  for (int slot : gang->slots) gang_of_.erase(slot);
  cpus_.give_back(gang->cpus);
  if (gang->slots.size() > 1) {
    queue_.gang_finished(test);
  } else {
    queue_.finished(gang->slots.front(), test);
  }
  if (pmix_ != nullptr && gang->pmi == nullptr) pmix_->end(gang->name);
  std::error_code ignored;
  if (!gang->folder.empty()) std::filesystem::remove_all(gang->folder, ignored);
  // Its server may be what has called us.
  loop_.call_after({}, [gang] { gang->pmi.reset(); });
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
