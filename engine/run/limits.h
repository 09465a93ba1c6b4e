// Deadlines, in seconds; 0 means none. From --hf-timeout, --hf-deadlines, --hf-grace and @pytest.mark.timeout.
#pragma once

#include <algorithm>

#include "run/slate.h"

namespace holdfast::run {

struct Limits {
  double test = 600;  ///< Setup and call together (teardown too, but see below).
  double setup = 0;
  double call = 0;
  double teardown = 0;
  double exit = 10;      ///< From the end of teardown to the end of the process.
  double collect = 600;  ///< One module's import, or one directory.
  double grace = 5;      ///< After SIGINT, for teardown; also the least that a teardown gets when `test` has run out.
};

/// A deadline: when it passes (CLOCK_MONOTONIC seconds, 0 for never) and the limit that made it.
struct Due {
  double at = 0;
  double limit = 0;
};

/// The deadline in force in `phase`, which began at `phase_start`, of a test that began at `test_start`.
inline Due due_of(const Limits& limits, double test_limit, Phase phase, double test_start, double phase_start) {
  Due due;
  auto consider = [&due](double at, double limit) {
    if (limit > 0 && (due.at == 0 || at < due.at)) due = Due{at, limit};
  };
  switch (phase) {
    case Phase::Idle:
      consider(test_start + test_limit, test_limit);
      break;
    case Phase::Setup:
      consider(test_start + test_limit, test_limit);
      consider(phase_start + limits.setup, limits.setup);
      break;
    case Phase::Call:
      consider(test_start + test_limit, test_limit);
      consider(phase_start + limits.call, limits.call);
      break;
    case Phase::Teardown:
      // A teardown that begins late is not punished for what the call used up: it gets the grace at least.
      consider(std::max(test_start + test_limit, phase_start + limits.grace), test_limit);
      consider(phase_start + limits.teardown, limits.teardown);
      break;
    case Phase::Exit:
      consider(phase_start + limits.exit, limits.exit);
      break;
  }
  return due;
}

/// How long a check may sleep without missing the deadline of a phase that has not begun yet; 0 for "as long as it likes".
inline double shortest_phase(const Limits& limits) {
  double shortest = 0;
  for (double limit : {limits.setup, limits.call, limits.teardown, limits.exit}) {
    if (limit > 0) shortest = shortest == 0 ? limit : std::min(shortest, limit);
  }
  return shortest;
}

}  // namespace holdfast::run
