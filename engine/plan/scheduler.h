// Scheduler: which test a free slot runs next. Pure: no clock, no I/O; bench/simulate.cc drives it with a virtual clock.
//
// It promises:
// - a test is given out once, unless it is put back; what two tests may not share is never given out to two slots at a time;
// - a test that fits is found if there is one, so no slot idles beside work that it could do.
//
// Tests are dealt in chunks: a sequence that one slot works through in order (a single test, a file, a group). The chunk with
// the most expected time goes first (longest processing time first: at most 4/3 of the optimum, Graham 1969); a slot with
// nothing left takes half of the largest chunk that may be split.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "plan/device_book.h"

namespace holdfast::plan {

/// A named thing that tests share (`exclusive="port:8080"`): one writer, or readers.
struct TokenUse {
  std::uint32_t token = 0;
  bool exclusive = true;
  std::uint32_t most = 0;  ///< Readers at a time; 0 for any number.
};

/// What a test needs while it runs.
struct Demand {
  int cores = 1;             ///< Of each rank.
  std::uint64_t memory = 0;  ///< Bytes of each rank; 0 for unknown.
  bool alone = false;        ///< Nothing else runs beside it.
  std::vector<TokenUse> tokens;
  DeviceDemand devices{};  ///< Of all ranks together.
  int ranks = 1;           ///< Slots that it needs at a time: a gang, if there is more than one.
};

struct Capacity {
  int cores = 1;
  std::uint64_t memory = 0;  ///< Bytes; 0 for no limit.
};

/// Empty, or why no machine of this capacity can ever run it.
std::string why_impossible(const Demand& demand, const Capacity& capacity);

struct Task {
  double expected = -1;       ///< Seconds; negative where nothing is known.
  std::uint32_t chunk = 0;    ///< Number of its chunk; tests of one chunk run in the order of their own numbers.
  std::uint32_t demand = 0;   ///< Number in Problem::demands.
  bool reuse = false;         ///< It may run in a process that has run others:
  std::uint32_t process = 0;  ///< 0: in the slot's worker; otherwise in that of its scope, of this number.
};

struct Problem {
  std::vector<Task> tasks;
  std::vector<Demand> demands{Demand{}};
  std::vector<bool> splittable;  ///< By chunk; missing entries are false.
  Capacity capacity;
  std::vector<Device> devices;
  int slots = 1;
  bool keep_order = false;  ///< Collection order, whatever is known of durations.
  bool one_chunk = false;   ///< No chunk is opened before the one before is over: all slots work on the same.
};

class Scheduler {
 public:
  void reset(Problem problem);
  /// Takes a test out that needs not run (it has a verdict from a resumed run, or never can).
  void settle(std::size_t task);
  /// The next test for `slot`, which holds it from now on until finished(). `reuse_only`: only one that may run in the process
  /// that runs the slot's present test, which may still be held.
  std::optional<std::size_t> take(int slot, bool reuse_only = false);
  /// Which slots could begin a test at once, before take(): a gang takes those that it needs of them.
  void offer(std::vector<int> idle) { offered_ = std::move(idle); }
  [[nodiscard]] bool has_gangs() const { return has_gangs_; }
  /// The slots that a gang holds which was given out, that of take() first.
  [[nodiscard]] const std::vector<int>& seats_of(std::size_t task) const { return seats_.at(task); }
  /// A gang has ended: all its slots are free. (Instead of finished().)
  void gang_finished(std::size_t task);
  /// The same, out of those only that were put back and want a process of their own.
  std::optional<std::size_t> take_fresh(int slot) { return take_returned(slot, Process::Fresh); }
  /// What take(slot, true) would give if that is nothing special: the next test of the slot's own chunk, which asks for nothing
  /// beyond a slot. Nothing where another would come first.
  std::optional<std::size_t> plain_next(int slot);
  /// These tests run in one process of `slot` from now on, of this number, and nowhere else. `first`: the one that the slot
  /// holds and whose devices that process has and keeps; what needs others is left out. Returns how many were bound.
  std::size_t bind(const std::vector<std::size_t>& tasks, std::uint32_t process, int slot, std::size_t first);
  /// With Problem::one_chunk: whether the last chunk is over, beyond its tests.
  void may_open(bool allowed) { may_open_ = allowed; }
  /// The slot has ended this test.
  void finished(int slot, std::size_t task);
  /// The slot takes no more tests: what it has not begun goes to the others.
  void close(int slot);
  /// Gives a test out again, before all others; after finished(). `fresh`: in a process of its own; `alone`: with nothing
  /// beside it.
  void put_back(std::size_t task, bool fresh = false, bool alone = false);
  /// The devices that a test which is held has, or that it had, until returned(); null for none. A test that runs in a process
  /// which is kept has those of that process.
  [[nodiscard]] const Lease* lease_of(int slot, std::size_t task) const;
  /// Whether the lease is the test's own, so that it ends with it.
  [[nodiscard]] bool has_own_lease(std::size_t task) const { return leases_.count(task) != 0; }
  /// Its devices can be given to others.
  void returned(std::size_t task);
  /// The devices that the slot's kept process has; null for none.
  [[nodiscard]] const Lease* kept_lease(int slot) const;
  /// That process has ended: its lease, which is to be given to release() when the devices can be given to others.
  std::optional<Lease> process_gone(int slot);
  void release(const Lease& lease) { book_.give_back(lease); }
  [[nodiscard]] DeviceBook& devices() { return book_; }
  [[nodiscard]] const DeviceBook& devices() const { return book_; }
  /// Runs on other devices than these, if there are such; `whole`: with whole ones. After finished(), before put_back().
  void move_away(std::size_t task, DeviceSet from, bool whole);
  [[nodiscard]] const Demand& demand_of(std::size_t task) const { return problem_.demands[problem_.tasks[task].demand]; }
  [[nodiscard]] DeviceSet avoided_by(std::size_t task) const;
  [[nodiscard]] bool is_waiting(std::size_t task) const { return states_[task] == State::Waiting; }
  [[nodiscard]] bool may_reuse(std::size_t task) const { return problem_.tasks[task].reuse; }
  /// Whether its process is its scope's alone, so that what earlier tests left there is meant to be there.
  [[nodiscard]] bool shares_scope(std::size_t task) const { return problem_.tasks[task].process > 0; }
  /// Whether the slot's latest test, which may reuse a process, is for another one than the tests before it were.
  [[nodiscard]] bool wants_other_process(int slot) const { return places_[static_cast<std::size_t>(slot)].other_process; }
  [[nodiscard]] bool empty() const { return waiting_ == 0; }
  [[nodiscard]] std::size_t waiting() const { return waiting_; }
  /// Expected seconds of everything that has not been given out; unknown tests count as the mean of the known ones.
  [[nodiscard]] double remaining() const { return remaining_; }

 private:
  enum class State : std::uint8_t { Waiting, Taken };
  enum class Process : std::uint8_t { Any, Used, Fresh };
  struct Chunk {
    std::uint32_t begin = 0;  ///< In order_.
    std::uint32_t end = 0;
    bool splittable = false;
  };
  struct Place {
    int chunk = -1;  ///< The open chunk.
    std::vector<std::uint32_t>
        held;       ///< Demands of the tests that it holds: one, or two while the next is known before the first ends.
    int cores = 0;  ///< The largest of them: they run one after the other.
    std::uint64_t memory = 0;
    std::uint32_t process = 0;   ///< That of its latest test that may reuse one.
    bool other_process = false;  ///< It is not that of the one before.
    std::optional<Lease> kept;   ///< Devices of the slot's process, as long as that lives.
  };
  struct Claim {
    int slot;
    bool exclusive;
  };

  void estimate_unknown();
  void make_chunks();
  void order_chunks();
  void pack_on_devices();
  [[nodiscard]] double time_of(const Chunk& chunk) const { return elapsed_[chunk.end] - elapsed_[chunk.begin]; }
  std::optional<std::size_t> head(int chunk);
  [[nodiscard]] bool fits(int slot, std::size_t task) const;
  [[nodiscard]] bool follows(int slot, std::size_t task) const;
  [[nodiscard]] bool is_at_home(int slot, std::size_t task) const;
  std::optional<std::size_t> take_returned(int slot, Process process);
  std::optional<std::size_t> take_own(int slot, bool reuse_only);
  int best_blocked(int slot);
  std::optional<std::size_t> open_chunk(int slot, bool reuse_only);
  bool steal(int slot);
  void send_home(int slot, int chunk);
  [[nodiscard]] bool is_open_elsewhere() const;
  void measure(Place& place);
  std::size_t hold(int slot, std::size_t task);
  void seat(int slot, std::size_t task);
  [[nodiscard]] std::vector<int> free_seats(int slot) const;
  [[nodiscard]] bool is_passed_over(std::size_t task) const;
  [[nodiscard]] bool has_devices(int slot, std::size_t task) const;
  void note_blocked(std::size_t task);
  Demand& own_demand(std::size_t task);
  void note_neighbours(Lease& lease);
  [[nodiscard]] DeviceSet kept_from(std::size_t task) const;
  std::size_t advance(int slot, int chunk);

  Problem problem_;
  std::vector<State> states_;
  std::vector<std::uint32_t> order_;  ///< Tests, chunk by chunk.
  std::vector<double> elapsed_;       ///< Sums of expected seconds along order_; one longer than it.
  std::vector<Chunk> chunks_;
  std::vector<std::uint32_t> pool_;  ///< Chunks, best first.
  std::vector<std::uint32_t> rank_;  ///< Position of a chunk in pool_.
  std::size_t next_ = 0;             ///< In pool_.
  std::map<std::uint32_t, std::deque<std::uint32_t>>
      blocked_;  ///< By demand: chunks whose first test did not fit when looked at.
  std::vector<std::size_t> returned_;
  std::vector<Place> places_;                           ///< By slot.
  std::map<std::uint32_t, int> homes_;                  ///< By process of a scope: the slot that works on it.
  std::set<std::uint32_t> bound_;                       ///< Processes that were given their home by bind().
  std::map<std::uint32_t, std::vector<Claim>> claims_;  ///< By token.
  int used_cores_ = 0;
  std::uint64_t used_memory_ = 0;
  int busy_ = 0;         ///< Slots that hold a test.
  int alone_slot_ = -1;  ///< The slot whose test wants to be alone,
  int alone_held_ = 0;   ///< and how many such tests it holds.
  bool may_open_ = true;
  DeviceBook book_;
  std::map<std::size_t, Lease> leases_;       ///< By test.
  std::map<std::size_t, DeviceSet> avoided_;  ///< By test.
  std::optional<std::size_t> starving_;       ///< The best test that waits for devices while others are given some,
  bool planned_ = false;                      ///< The order of those with devices was made for them.
  int passed_ = 0;                            ///< how many were,
  DeviceSet kept_free_ = 0;                   ///< and what is kept free for it as long as it waits, once they are too many.
  bool has_gangs_ = false;
  std::vector<int> offered_;
  std::map<std::size_t, std::vector<int>> seats_;  ///< By gang that was given out.
  std::optional<std::size_t> waiting_gang_;        ///< The best one for which there were not enough slots,
  int passed_gang_ = 0;                            ///< and how many tests were given out since.
  std::size_t waiting_ = 0;
  double remaining_ = 0;
};

}  // namespace holdfast::plan
