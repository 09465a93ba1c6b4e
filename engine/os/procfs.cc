#include "os/procfs.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <ctime>
#include <set>
#include <sstream>

#include "base/result.h"
#include "os/fd.h"

namespace holdfast::os {

namespace {

std::string read_file(const std::string& path) {
  Fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  std::string text;
  char buffer[4096];
  ssize_t n = 0;
  while (fd.valid() && (n = ::read(fd.get(), buffer, sizeof buffer)) > 0) {
    text.append(buffer, static_cast<std::size_t>(n));
  }
  return text;
}

std::vector<pid_t> numbers(const std::string& text) {
  std::vector<pid_t> result;
  const char* at = text.data();
  const char* end = at + text.size();
  while (at < end) {
    pid_t value = 0;
    auto [next, error] = std::from_chars(at, end, value);
    if (error == std::errc()) result.push_back(value);
    at = next == at ? at + 1 : next;
  }
  return result;
}

// Names in a directory of /proc that are numbers.
std::vector<pid_t> numeric_entries(const std::string& path) {
  std::vector<pid_t> result;
  DIR* dir = ::opendir(path.c_str());
  if (dir == nullptr) return result;
  while (dirent* entry = ::readdir(dir)) {
    std::string name = entry->d_name;
    pid_t value = 0;
    auto [next, error] = std::from_chars(name.data(), name.data() + name.size(), value);
    if (error == std::errc() && next == name.data() + name.size()) result.push_back(value);
  }
  ::closedir(dir);
  return result;
}

// The fields of /proc/PID/stat behind the command name, which may itself contain blanks and parentheses.
std::string stat_tail(pid_t pid) {
  std::string text = read_file(fmt::format("/proc/{}/stat", pid));
  std::size_t close = text.rfind(')');
  return close == std::string::npos || close + 2 >= text.size() ? "" : text.substr(close + 2);
}

}  // namespace

pid_t parent_of(pid_t pid) {
  std::string tail = stat_tail(pid);
  if (tail.size() < 3) return 0;
  std::vector<pid_t> fields = numbers(tail.substr(2, 20));
  return fields.empty() ? 0 : fields.front();
}

namespace {

bool has_children_files() {
  static const bool present = ::access("/proc/thread-self/children", R_OK) == 0;
  return present;
}

}  // namespace

std::vector<pid_t> children_of(pid_t pid) {
  std::vector<pid_t> result;
  if (!has_children_files()) {
    for (pid_t other : numeric_entries("/proc")) {
      if (parent_of(other) == pid) result.push_back(other);
    }
    return result;
  }
  for (pid_t tid : numeric_entries(fmt::format("/proc/{}/task", pid))) {
    for (pid_t child : numbers(read_file(fmt::format("/proc/{}/task/{}/children", pid, tid)))) result.push_back(child);
  }
  return result;
}

std::vector<pid_t> descendants_of(pid_t pid) {
  std::vector<pid_t> result = children_of(pid);
  std::set<pid_t> seen(result.begin(), result.end());
  for (std::size_t i = 0; i < result.size(); ++i) {
    for (pid_t child : children_of(result[i])) {
      // Processes come and go while we read, so a reused number could otherwise make a cycle.
      if (seen.insert(child).second) result.push_back(child);
    }
  }
  return result;
}

char process_state(pid_t pid) {
  std::string tail = stat_tail(pid);
  return tail.empty() ? '\0' : tail[0];
}

bool is_running(pid_t pid) {
  char state = process_state(pid);
  return state != 'Z' && state != 'X' && state != '\0';
}

double start_time(pid_t pid) {
  std::istringstream tail(stat_tail(pid));
  std::string field;
  // Field 22 of /proc/PID/stat (proc(5)); the tail begins with field 3.
  for (int i = 3; i <= 22; ++i) {
    if (!(tail >> field)) return 0;
  }
  timespec boot{};
  timespec monotonic{};
  ::clock_gettime(CLOCK_BOOTTIME, &boot);  // What the field counts in; it goes on while the machine sleeps.
  ::clock_gettime(CLOCK_MONOTONIC, &monotonic);
  double asleep =
      static_cast<double>(boot.tv_sec - monotonic.tv_sec) + static_cast<double>(boot.tv_nsec - monotonic.tv_nsec) * 1e-9;
  return std::strtod(field.c_str(), nullptr) / static_cast<double>(::sysconf(_SC_CLK_TCK)) - asleep;
}

ProcessUsage usage_of(pid_t pid) {
  ProcessUsage usage;
  std::istringstream tail(stat_tail(pid));
  std::vector<std::string> fields;
  for (std::string field; tail >> field && fields.size() < 22;) fields.push_back(field);
  // proc(5) counts from 1, and the tail begins with the third: utime is 14, stime 15, num_threads 20, rss 24.
  if (fields.size() < 22 || fields[0] == "Z") return usage;
  auto number = [&fields](std::size_t field) { return std::strtoull(fields[field - 3].c_str(), nullptr, 10); };
  usage.cpu = static_cast<double>(number(14) + number(15)) / static_cast<double>(::sysconf(_SC_CLK_TCK));
  usage.threads = static_cast<int>(number(20));
  usage.resident = number(24) * static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
  return usage;
}

int open_files(pid_t pid) { return static_cast<int>(numeric_entries(fmt::format("/proc/{}/fd", pid)).size()); }

std::string command_line(pid_t pid) {
  std::string text = read_file(fmt::format("/proc/{}/cmdline", pid));
  while (!text.empty() && text.back() == '\0') text.pop_back();
  std::replace(text.begin(), text.end(), '\0', ' ');
  if (text.empty()) {
    text = read_file(fmt::format("/proc/{}/comm", pid));
    while (!text.empty() && text.back() == '\n') text.pop_back();
    text = "[" + text + "]";
  }
  if (text.size() > 300) text = text.substr(0, 297) + "...";
  return text;
}

int kill_descendants(pid_t root, const std::function<bool(pid_t)>& spare) {
  int hit = 0;
  for (int pass = 0; pass < 100; ++pass) {
    bool found = false;
    std::vector<pid_t> targets;
    std::vector<pid_t> parents{root};
    while (!parents.empty()) {
      pid_t parent = parents.back();
      parents.pop_back();
      for (pid_t child : children_of(parent)) {
        if (spare(child)) continue;
        targets.push_back(child);
        parents.push_back(child);
      }
    }
    for (pid_t pid : targets) {
      if (!is_running(pid)) continue;
      found = true;
      if (::kill(pid, SIGKILL) == 0) ++hit;
    }
    if (!found) break;
  }
  return hit;
}

}  // namespace holdfast::os
