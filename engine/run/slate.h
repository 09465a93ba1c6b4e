// The slate: one shared page a slot, on which the test's process writes what must be known when it can no longer speak:
// its phase and since when, and, from a signal handler, why it dies. Layout in protocol/slate.md; python/holdfast/slate.py and
// shim/crashnote.c write it. Whatever stands here comes from a test's process and is believed only as a hint.
#pragma once

#include <cstddef>
#include <cstdint>

namespace holdfast::run {

enum class Phase : std::uint32_t { Idle = 0, Setup = 1, Call = 2, Teardown = 3, Exit = 4 };

struct Slate {
  std::uint32_t phase;
  std::uint32_t reserved;
  double phase_start;  ///< Seconds of CLOCK_MONOTONIC.
  double test_start;   ///< The same clock.
  std::uint32_t crash_set;
  std::int32_t signal;
  std::int32_t si_code;
  std::int32_t sender;  ///< si_pid where the signal was sent by a process.
  std::uint64_t address;
};
static_assert(sizeof(Slate) == 48 && offsetof(Slate, crash_set) == 24 && offsetof(Slate, address) == 40);

inline constexpr std::size_t kSlateSize = 65536;
/// Where the trail begins (shim/trail.c).
inline constexpr std::size_t kTrail = 4096;

/// The signal on which a process writes the Python stacks of all its threads (python/holdfast/crash.py). A real-time signal
/// that neither glibc nor common libraries use.
inline constexpr int kStackSignal = 52;

inline Phase phase_of(const Slate& slate) {
  return slate.phase <= static_cast<std::uint32_t>(Phase::Exit) ? static_cast<Phase>(slate.phase) : Phase::Idle;
}

inline const char* name_of(Phase phase) {
  switch (phase) {
    case Phase::Setup:
      return "setup";
    case Phase::Call:
      return "call";
    case Phase::Teardown:
      return "teardown";
    case Phase::Exit:
      return "exit";
    case Phase::Idle:
      break;
  }
  return "start";
}

}  // namespace holdfast::run
