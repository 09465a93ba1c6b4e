// `holdfast hold`: the process that takes memory or disk for a fault of pressure. A process of its own, so that it can be in
// another control group, and so that what it holds is given back whoever is killed.
#pragma once

#include <cstdint>
#include <string>

namespace holdfast::serve {

struct Hold {
  std::string what;  ///< memory or disk.
  std::uint64_t bytes = 0;
  std::string place;  ///< Memory: the file of a control group that takes process ids. Disk: the file to fill.
};

/// Waits for a byte on stdin, takes what is wanted, says `ready` or what is wrong on stdout, and holds it until stdin ends.
int hold(const Hold& hold);

}  // namespace holdfast::serve
