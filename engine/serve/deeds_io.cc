// Faults of disks within a control group: its processes read and write that disk no faster than they are told to.
#include <fmt/format.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <filesystem>
#include <fstream>
#include <sstream>

#include "os/group_dirs.h"
#include "os/procfs.h"
#include "serve/deeds.h"

namespace holdfast::serve {

namespace {

/// One control file: what is written into it, and what puts it back.
struct Setting {
  std::string file, text, before;
};

/// What a control file says of a device behind its number; empty if nothing.
std::string entry_of(const std::string& file, const std::string& device) {
  std::ifstream in(file);
  for (std::string line; std::getline(in, line);) {
    if (line.rfind(device + " ", 0) == 0) return line.substr(device.size() + 1);
  }
  return "";
}

/// The disk that a folder is on: MAJOR:MINOR of the whole disk, since partitions cannot be limited. Empty: on none.
std::string disk_of(const std::string& folder) {
  struct stat info{};
  if (::stat(folder.c_str(), &info) != 0 || major(info.st_dev) == 0) return "";
  std::string device = fmt::format("{}:{}", major(info.st_dev), minor(info.st_dev));
  std::error_code ignored;
  std::filesystem::path place = std::filesystem::canonical("/sys/dev/block/" + device, ignored);
  if (place.empty()) return "";
  return std::filesystem::exists(place / "partition", ignored) ? os::read_line((place.parent_path() / "dev").string()) : device;
}

std::vector<Setting> settings_for(pid_t pid, const std::string& device, std::uint64_t rate) {
  constexpr const char* kRoot = "/sys/fs/cgroup/blkio/";
  for (const os::GroupDir& dir : os::group_dirs("blkio", std::to_string(pid))) {
    std::string file = dir.path + "/io.max";
    if (dir.v2 && std::filesystem::exists(file)) {
      std::string before = entry_of(file, device);
      if (before.empty()) before = "rbps=max wbps=max";
      return {{file, fmt::format("{} rbps={} wbps={}", device, rate, rate), fmt::format("{} {}", device, before)}};
    }
    file = dir.path + "/blkio.throttle.";
    if (dir.v2 || dir.path == kRoot || !std::filesystem::exists(file + "write_bps_device")) continue;
    std::vector<Setting> settings;
    for (const char* way : {"read", "write"}) {
      std::string one = fmt::format("{}{}_bps_device", file, way), before = entry_of(one, device);
      settings.push_back(
          {one, fmt::format("{} {}", device, rate), fmt::format("{} {}", device, before.empty() ? "0" : before)});
    }
    return settings;
  }
  return {};
}

class ThrottleDeed : public Deed {
 public:
  ThrottleDeed(std::vector<Setting> settings, std::string device)
      : settings_(std::move(settings)), device_(std::move(device)) {}
  std::vector<Change> changes() override {
    std::vector<Change> changes;
    for (const Setting& setting : settings_) {
      Change change;
      change.what = fmt::format("{} in {}", setting.text, setting.file);
      change.undo = {{"do", "restore"}, {"file", setting.file}, {"text", setting.before}};
      changes.push_back(std::move(change));
    }
    return changes;
  }
  Status trigger() override {
    for (const Setting& setting : settings_) {
      if (!os::write_file(setting.file, setting.text)) return fail_errno(ErrorKind::StopRun, "write to " + setting.file);
    }
    return {};
  }
  Json verify() override {
    bool all = true;
    Json found = Json::object();
    for (const Setting& setting : settings_) {
      std::string now = entry_of(setting.file, device_);
      all = all && device_ + " " + now == setting.text.substr(0, device_.size() + 1 + now.size()) && !now.empty();
      found[setting.file] = now;
    }
    return {{"verified", all}, {"evidence", {{"device", device_}, {"limits", found}}}};
  }

 private:
  std::vector<Setting> settings_;
  std::string device_;
};

}  // namespace

Result<std::unique_ptr<Deed>> make_throttle_deed(const Json& body, std::string& type, std::string& target) {
  std::string problem;
  auto pid = static_cast<pid_t>(number_of(body, "pid", 0, 1, 4194304, problem));
  std::string folder = text_of(body, "folder", "", problem);
  auto rate = static_cast<std::uint64_t>(number_of(body, "bytes_per_second", 0, 1024, 9e15, problem));
  if (problem.empty() && pid == 0) problem = "pid: in whose control group?";
  if (problem.empty() && (body.contains("bytes") || body.contains("leave_free"))) {
    problem = "bytes_per_second: slows a disk down, bytes and leave_free fill one: one of the two";
  }
  if (!problem.empty()) return fail(ErrorKind::UserMistake, problem);
  if (!os::is_running(pid)) return fail(ErrorKind::GiveUpTest, fmt::format("pid: there is no process {}", pid));
  std::string device = disk_of(folder);
  if (device.empty())
    return fail(ErrorKind::UserMistake, fmt::format("folder: '{}' is on no disk that can be slowed down", folder));
  std::vector<Setting> settings = settings_for(pid, device, rate);
  if (settings.empty()) {
    return fail(
        ErrorKind::UserMistake,
        fmt::format("pid: process {} is in no control group of its own for disks: all of the machine would be slow", pid));
  }
  type = "disk_slow";
  target = fmt::format("the control group of process {}, disk {}", pid, device);
  return std::unique_ptr<Deed>(new ThrottleDeed(std::move(settings), device));
}

}  // namespace holdfast::serve
