// Pack: an order in which tests of known length and size leave devices idle as little as possible. Pure, and the same for the
// same input.
//
// Longest first is a good order for slots, and a poor one for tests that share devices: what is left beside a large test may be
// filled or not. So the order is improved by trying: it is simulated as the scheduler would run it, one test is moved, and a
// move that does no harm stays. (Local search from a list schedule; strip packing with few strips.)
#pragma once

#include <cstdint>
#include <vector>

#include "plan/device_book.h"

namespace holdfast::plan {

struct Packed {
  double seconds = 0;
  DeviceDemand demand;
};

/// Numbers of `tests`, first to last. `moves`: how many are tried; each costs a simulated run.
std::vector<std::uint32_t> pack(const std::vector<Packed>& tests, const std::vector<Device>& devices, int slots, int moves);

/// How long they take in that order, seconds.
double makespan(const std::vector<Packed>& tests, const std::vector<std::uint32_t>& order, const std::vector<Device>& devices,
                int slots);

}  // namespace holdfast::plan
