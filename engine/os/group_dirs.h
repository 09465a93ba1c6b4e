// Where the limits of our control groups stand: the directories of our group and of all its parents, since each of them
// applies.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace holdfast::os {

struct GroupDir {
  std::string path;
  bool v2 = false;
};

/// For one controller ("cpu", "memory"), in v2 and v1 hierarchies, innermost first; directories that are not there are
/// included. `process`: whose groups; ours if it is "self".
std::vector<GroupDir> group_dirs(const std::string& controller, const std::string& process = "self");
/// The first line of a file, or "".
std::string read_line(const std::string& path);
/// Writes into an existing file with a single write(), as control files want it.
/// The number behind `name` in a file of "name value" lines; 0 where there is none.
std::uint64_t field(const std::string& path, const std::string& name);
bool write_file(const std::string& path, const std::string& text);

}  // namespace holdfast::os
