// Faults of memory and disks: a process of ours (hold.h) takes memory in the control group of another one, or fills a disk up
// to a number of bytes.
#include <fcntl.h>
#include <fmt/format.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>

#include "inventory/memory.h"
#include "os/group_dirs.h"
#include "os/procfs.h"
#include "os/sys.h"
#include "serve/deeds.h"
#include "serve/undo.h"

namespace holdfast::serve {

namespace {

/// The process that holds; it waits until it is told to begin.
class Holder {
 public:
  static Result<Holder> start(const std::string& what, std::uint64_t bytes, const std::string& place) {
    Result<std::pair<os::Fd, os::Fd>> orders = os::open_pipe(), words = os::open_pipe();
    if (!orders || !words) return fail(ErrorKind::StopRun, "open a pipe");
    std::vector<std::string> command{os::own_program(), "hold", what, std::to_string(bytes), place};
    Result<pid_t> pid = os::spawn(command, os::own_environment(), "/", {{0, orders->first.get()}, {1, words->second.get()}});
    if (!pid) return tl::unexpected(pid.error());
    Holder holder;
    holder.pid_ = *pid;
    holder.orders_ = std::move(orders->second);
    holder.words_ = std::move(words->first);
    // Its end of the pipe must wait, ours of the other one must not.
    int flags = ::fcntl(orders->first.get(), F_GETFL);
    ::fcntl(orders->first.get(), F_SETFL, flags & ~O_NONBLOCK);
    holder.identity_ = identify(*pid);
    return holder;
  }
  Holder(Holder&& other) noexcept { *this = std::move(other); }
  Holder& operator=(Holder&& other) noexcept {
    std::swap(pid_, other.pid_);
    std::swap(orders_, other.orders_);
    std::swap(words_, other.words_);
    std::swap(identity_, other.identity_);
    std::swap(said_, other.said_);
    return *this;
  }
  Holder(const Holder&) = delete;
  Holder& operator=(const Holder&) = delete;
  ~Holder() {
    if (pid_ <= 0) return;
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }

  void begin() const { (void)!::write(orders_.get(), "x", 1); }
  [[nodiscard]] pid_t pid() const { return pid_; }
  [[nodiscard]] Json undo_step() const {
    Json step = identity_;
    step["do"] = "end";
    return step;
  }
  /// "ready", what is wrong, or empty while it is at it.
  const std::string& said() {
    char text[256];
    ssize_t got = ::read(words_.get(), text, sizeof text);
    if (got > 0) said_.append(text, static_cast<std::size_t>(got));
    while (!said_.empty() && said_.back() == '\n') said_.pop_back();
    return said_;
  }

 private:
  Holder() = default;
  pid_t pid_ = 0;
  os::Fd orders_, words_;
  Json identity_;
  std::string said_;
};

class MemoryDeed : public Deed {
 public:
  MemoryDeed(Holder holder, os::GroupDir group, std::uint64_t bytes, std::uint64_t limit)
      : holder_(std::move(holder)), group_(std::move(group)), bytes_(bytes), limit_(limit) {}
  std::vector<Change> changes() override {
    Change change;
    change.what = fmt::format("process {} takes {} bytes of memory in {}", holder_.pid(), bytes_, group_.path);
    change.undo = holder_.undo_step();
    return {change};
  }
  Status trigger() override {
    holder_.begin();
    return {};
  }
  Json verify() override {
    std::string said = holder_.said();
    std::uint64_t resident = os::usage_of(holder_.pid()).resident;
    const char* usage = group_.v2 ? "/memory.current" : "/memory.usage_in_bytes";
    Json evidence = {{"holder", said.empty() ? "at it" : said},
                     {"held", resident},
                     {"group", group_.path},
                     {"limit", limit_},
                     {"used", inventory::bytes_of_limit(os::read_line(group_.path + usage))}};
    return {{"verified", said == "ready" && resident >= bytes_ / 10 * 9}, {"evidence", evidence}};
  }

 private:
  Holder holder_;
  os::GroupDir group_;
  std::uint64_t bytes_, limit_;
};

class DiskDeed : public Deed {
 public:
  DiskDeed(Holder holder, std::string file, std::uint64_t bytes)
      : holder_(std::move(holder)), file_(std::move(file)), bytes_(bytes) {}
  std::vector<Change> changes() override {
    std::vector<Change> changes(2);
    changes[0].what = fmt::format("a file of {} bytes: {}", bytes_, file_);
    changes[0].undo = {{"do", "remove"}, {"file", file_}};
    changes[1].what = fmt::format("process {} fills it", holder_.pid());
    changes[1].undo = holder_.undo_step();
    return changes;
  }
  Status trigger() override {
    holder_.begin();
    return {};
  }
  Json verify() override {
    std::string said = holder_.said();
    struct stat info{};
    bool there = ::stat(file_.c_str(), &info) == 0;
    struct statvfs disk{};
    bool known = ::statvfs(file_.c_str(), &disk) == 0;
    Json evidence = {{"holder", said.empty() ? "at it" : said},
                     {"file", file_},
                     {"held", there ? static_cast<std::uint64_t>(info.st_blocks) * 512 : 0},
                     {"free", known ? Json(static_cast<std::uint64_t>(disk.f_bavail) * disk.f_frsize) : Json()}};
    return {{"verified", said == "ready" && there}, {"evidence", evidence}};
  }

 private:
  Holder holder_;
  std::string file_;
  std::uint64_t bytes_;
};

/// The innermost memory group of a process that has a limit below the machine's.
std::pair<os::GroupDir, std::uint64_t> limited_group(pid_t pid) {
  for (const os::GroupDir& dir : os::group_dirs("memory", std::to_string(pid))) {
    std::uint64_t limit =
        inventory::bytes_of_limit(os::read_line(dir.path + (dir.v2 ? "/memory.max" : "/memory.limit_in_bytes")));
    if (limit != 0) return {dir, limit};
  }
  return {};
}

}  // namespace

Result<std::unique_ptr<Deed>> make_memory_deed(const Json& body, std::string& type, std::string& target) {
  std::string problem;
  auto pid = static_cast<pid_t>(number_of(body, "pid", 0, 1, 4194304, problem));
  double percent = number_of(body, "percent", 0, 1, 99, problem);
  auto bytes = static_cast<std::uint64_t>(number_of(body, "bytes", 0, 1, 9e15, problem));
  if (problem.empty() && pid == 0) problem = "pid: in whose control group?";
  if (problem.empty() && (percent == 0) == (bytes == 0)) problem = "bytes, percent: how much? give one of the two";
  if (!problem.empty()) return fail(ErrorKind::UserMistake, problem);
  if (!os::is_running(pid)) return fail(ErrorKind::GiveUpTest, fmt::format("pid: there is no process {}", pid));
  auto [group, limit] = limited_group(pid);
  if (limit == 0) {
    return fail(
        ErrorKind::UserMistake,
        fmt::format("pid: no control group of process {} limits its memory: pressure would be on the whole machine", pid));
  }
  if (bytes == 0) bytes = static_cast<std::uint64_t>(static_cast<double>(limit) * percent / 100);
  if (bytes > limit)
    return fail(ErrorKind::UserMistake, fmt::format("bytes: {} are more than the group's limit, {}", bytes, limit));
  Result<Holder> holder = Holder::start("memory", bytes, group.path + "/cgroup.procs");
  if (!holder) return tl::unexpected(holder.error());
  type = "memory_pressure";
  target = fmt::format("the control group of process {}", pid);
  return std::unique_ptr<Deed>(new MemoryDeed(std::move(*holder), group, bytes, limit));
}

Result<std::unique_ptr<Deed>> make_disk_deed(const Json& body, std::string& type, std::string& target) {
  std::string problem;
  std::string folder = text_of(body, "folder", "", problem);
  auto bytes = static_cast<std::uint64_t>(number_of(body, "bytes", 0, 1, 9e15, problem));
  auto leave = static_cast<std::uint64_t>(number_of(body, "leave_free", 0, 1, 9e15, problem));
  if (problem.empty() && (folder.empty() || folder[0] != '/')) problem = "folder: give an absolute path";
  if (problem.empty() && (bytes == 0) == (leave == 0)) problem = "bytes, leave_free: how much? give one of the two";
  if (!problem.empty()) return fail(ErrorKind::UserMistake, problem);
  std::error_code ignored;
  struct statvfs disk{};
  if (!std::filesystem::is_directory(folder, ignored) || ::statvfs(folder.c_str(), &disk) != 0) {
    return fail(ErrorKind::GiveUpTest, fmt::format("folder: there is no folder {}", folder));
  }
  std::uint64_t free = static_cast<std::uint64_t>(disk.f_bavail) * disk.f_frsize;
  if (leave >= free || bytes > free) {
    return fail(ErrorKind::UserMistake,
                fmt::format("{}: {} bytes are free in {}", leave != 0 ? "leave_free" : "bytes", free, folder));
  }
  if (bytes == 0) bytes = free - leave;
  std::string file = fmt::format("{}/{}{}-{}", folder, kFillPrefix, ::getpid(), os::start_time(::getpid()));
  for (int i = 0; ::access(file.c_str(), F_OK) == 0; ++i) file += std::to_string(i % 10);
  Result<Holder> holder = Holder::start("disk", bytes, file);
  if (!holder) return tl::unexpected(holder.error());
  type = "disk_pressure";
  target = folder;
  return std::unique_ptr<Deed>(new DiskDeed(std::move(*holder), file, bytes));
}

}  // namespace holdfast::serve
