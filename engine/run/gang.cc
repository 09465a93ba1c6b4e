#include "run/gang.h"

#include <fmt/format.h>

#include <algorithm>

#include "mpi/abort_words.h"

namespace holdfast::run {

namespace {

constexpr const char* kEnded = "ended";  // The verdict of a rank that we have ended for another one's sake.

bool ended_by_itself(const Evidence& evidence) { return evidence.done && !evidence.interrupted; }

std::string verdict_of(const Attempt& attempt) {
  // One that had only to leave MPI has a verdict of its own.
  if (attempt.evidence.ended_with_gang) return ended_by_itself(attempt.evidence) ? attempt.evidence.pytest_verdict : kEnded;
  return judge(attempt.evidence);
}

/// MPICH tells its process manager nothing of an MPI_Abort, but people, on the rank that has called it.
std::optional<int> code_of_abort(const Attempt& attempt) {
  if (attempt.evidence.done) return std::nullopt;
  std::optional<mpi::AbortCall> call = mpi::abort_call_in(attempt.err);
  return call ? std::optional<int>(call->code) : std::nullopt;
}

/// protocol/result.md, `detail.ranks`.
wire::Json describe_rank(const Attempt& attempt, const std::string& verdict) {
  wire::Json entry = describe(attempt.evidence, verdict);
  entry["verdict"] = verdict;
  entry["duration"] = attempt.duration;
  entry["reports"] = attempt.reports;
  if (is_good(verdict)) return entry;
  entry["out"] = attempt.out;
  entry["err"] = attempt.err;
  entry["stacks"] = attempt.stacks;
  if (!attempt.processes.empty()) entry["processes"] = attempt.processes;
  return entry;
}

/// Where none has failed: a test that is skipped on one rank only has run, and one that failed as expected on one rank has
/// failed.
std::size_t most_telling(const wire::Json& ranks) {
  for (const char* verdict : {"xfailed", "xpassed", "passed"}) {
    auto found = std::find_if(ranks.begin(), ranks.end(), [&](const wire::Json& rank) { return rank["verdict"] == verdict; });
    if (found != ranks.end()) return static_cast<std::size_t>(found - ranks.begin());
  }
  return 0;
}

}  // namespace

int Gang::rank_in(int slot) const {
  auto found = std::find(slots.begin(), slots.end(), slot);
  return found == slots.end() ? -1 : static_cast<int>(found - slots.begin());
}

bool Gang::wants_words() const {
  if (asked || abandoned || world == nullptr) return false;
  return launcher_lost || std::any_of(attempts.begin(), attempts.end(),
                                      [](const auto& attempt) { return attempt && verdict_of(*attempt) == "exited"; });
}

void Gang::hear(const std::string& said) {
  words = said;
  std::optional<mpi::AbortCall> call = mpi::abort_call_in(said);
  if (!call) return;
  int rank = call->rank >= 0 ? call->rank : std::max(first_failed, 0);
  if (rank < static_cast<int>(attempts.size())) aborted.emplace(rank, call->code);
}

bool Gang::lives_on() const {
  return !abandoned && aborted.empty() && std::all_of(attempts.begin(), attempts.end(), [](const auto& attempt) {
    return attempt && attempt->evidence.lives_on && !attempt->spent && is_good(judge(attempt->evidence));
  });
}

Attempt Gang::merge() {
  for (std::size_t rank = 0; rank < attempts.size(); ++rank) {
    if (std::optional<int> code = code_of_abort(*attempts[rank])) aborted.emplace(static_cast<int>(rank), *code);
  }
  if (!aborted.empty()) first_failed = aborted.begin()->first;
  for (auto [rank, code] : aborted) {
    // MPICH waits to be ended by its process manager when COMM_WORLD is aborted: what we did counts as what it asked for.
    Evidence& evidence = attempts[static_cast<std::size_t>(rank)]->evidence;
    if (!evidence.ended_with_gang || ended_by_itself(evidence)) continue;
    evidence.ended_with_gang = false;
    Exit asked{false, code & 0xFF, 0};
    if (evidence.interrupted) {
      evidence.program = asked;
      attempts[static_cast<std::size_t>(rank)]->reports = wire::Json::array();
    } else {
      evidence.exit = asked;
    }
  }
  wire::Json ranks = wire::Json::array();
  for (std::size_t rank = 0; rank < attempts.size(); ++rank) {
    wire::Json entry = describe_rank(*attempts[rank], verdict_of(*attempts[rank]));
    if (auto code = aborted.find(static_cast<int>(rank)); code != aborted.end()) entry["mpi_abort"] = code->second;
    ranks.push_back(std::move(entry));
  }
  std::size_t chosen = first_failed >= 0 ? static_cast<std::size_t>(first_failed) : most_telling(ranks);
  Attempt merged = std::move(*attempts[chosen]);
  for (std::size_t rank = 0; rank < attempts.size(); ++rank) {
    if (rank == chosen) continue;
    Attempt& other = *attempts[rank];
    merged.duration = std::max(merged.duration, other.duration);
    merged.memory = std::max(merged.memory, other.memory);
    merged.usage.user += other.usage.user;
    merged.usage.system += other.usage.system;
    merged.evidence.survivors.insert(merged.evidence.survivors.end(), other.evidence.survivors.begin(),
                                     other.evidence.survivors.end());
    merged.evidence.leaks.insert(merged.evidence.leaks.end(), other.evidence.leaks.begin(), other.evidence.leaks.end());
  }
  if (launcher_lost && first_failed < 0) {
    merged.evidence.problem = fmt::format("the launcher of its ranks has ended before them{}", words);
  }
  if (absent >= 0 && judge(merged.evidence) == "passed") {
    merged.evidence.problem = fmt::format(
        "rank {} of {} has not joined the others: is this a program of MPI, and of the kind that --hf-mpi says? By itself "
        "each rank is a world of one, in which much passes",
        absent, attempts.size());
    merged.evidence.program = Exit{false, 0, 0};
    merged.reports = wire::Json::array();
  }
  merged.slot = slots.front();
  merged.rank = static_cast<int>(chosen);
  merged.ranks = std::move(ranks);
  return merged;
}

}  // namespace holdfast::run
