#include "os/sys.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>

namespace holdfast::os {

Result<Fd> open_pidfd(pid_t pid) {
  Fd fd(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
  if (!fd.valid()) return fail_errno(ErrorKind::GiveUpTest, fmt::format("open a pidfd for process {}", pid));
  return fd;
}

bool send_signal(const Fd& pidfd, int signal) {
  return pidfd.valid() && ::syscall(SYS_pidfd_send_signal, pidfd.get(), signal, nullptr, 0) == 0;
}

Result<Fd> open_memfd(const char* name, std::size_t size) {
  Fd fd(::memfd_create(name, MFD_CLOEXEC));
  if (!fd.valid() || ::ftruncate(fd.get(), static_cast<off_t>(size)) != 0) {
    return fail_errno(ErrorKind::UserMistake, "create a memory file");
  }
  return fd;
}

Result<std::pair<Fd, Fd>> open_channel_pair() {
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) {
    return fail_errno(ErrorKind::UserMistake, "create a socket pair");
  }
  set_nonblocking(ends[0]);
  return std::pair{Fd(ends[0]), Fd(ends[1])};
}

Result<std::pair<Fd, Fd>> open_pipe() {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return fail_errno(ErrorKind::UserMistake, "create a pipe");
  set_nonblocking(ends[0]);
  return std::pair{Fd(ends[0]), Fd(ends[1])};
}

void set_nonblocking(int fd) { ::fcntl(fd, F_SETFL, ::fcntl(fd, F_GETFL) | O_NONBLOCK); }

void set_close_on_exec(int fd) { ::fcntl(fd, F_SETFD, FD_CLOEXEC); }

Fd duplicate(const Fd& fd) { return Fd(::fcntl(fd.get(), F_DUPFD_CLOEXEC, 3)); }

std::size_t file_size(int fd) {
  struct stat st{};
  return ::fstat(fd, &st) == 0 ? static_cast<std::size_t>(st.st_size) : 0;
}

std::string read_tail(int fd, std::size_t limit) {
  std::size_t size = file_size(fd);
  std::size_t start = size > limit ? size - limit : 0;
  std::string text(size - start, '\0');
  std::size_t got = 0;
  while (got < text.size()) {
    ssize_t n = ::pread(fd, text.data() + got, text.size() - got, static_cast<off_t>(start + got));
    if (n <= 0) break;
    got += static_cast<std::size_t>(n);
  }
  text.resize(got);
  return text;
}

void rewind_and_empty(int fd) {
  if (file_size(fd) != 0) {
    [[maybe_unused]] int result = ::ftruncate(fd, 0);
  }
  ::lseek(fd, 0, SEEK_SET);
}

Result<Mapping> Mapping::open(int fd, std::size_t size) {
  void* data = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (data == MAP_FAILED) return fail_errno(ErrorKind::UserMistake, "map a memory file");
  return Mapping(data, size);
}

Mapping::~Mapping() {
  if (data_ != nullptr) ::munmap(data_, size_);
}

namespace {

std::vector<char*> pointers(const std::vector<std::string>& strings) {
  std::vector<char*> result;
  result.reserve(strings.size() + 1);
  for (const std::string& s : strings) result.push_back(const_cast<char*>(s.c_str()));
  result.push_back(nullptr);
  return result;
}

// Runs in the child between fork and exec: async-signal-safe calls only, no allocation.
[[noreturn]] void exec_child(char* const* argv, char* const* env, const char* cwd, const std::pair<int, int>* keep,
                             std::size_t count, int above) {
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  if (::chdir(cwd) != 0) ::_exit(126);
  int null = ::open("/dev/null", O_RDWR | O_CLOEXEC);
  ::dup2(null, 0);
  // First out of the way of every target number, then into place: a source may itself be a target.
  int moved[8];
  for (std::size_t i = 0; i < count; ++i) moved[i] = ::fcntl(keep[i].second, F_DUPFD_CLOEXEC, above);
  for (std::size_t i = 0; i < count; ++i) ::dup2(moved[i], keep[i].first);
  ::execve(argv[0], argv, env);
  ::_exit(127);
}

}  // namespace

std::string own_program() {
  std::array<char, 4096> path{};
  ssize_t length = ::readlink("/proc/self/exe", path.data(), path.size() - 1);
  return length > 0 ? std::string(path.data(), static_cast<std::size_t>(length)) : "";
}

std::vector<std::string> own_environment() {
  std::vector<std::string> result;
  for (char** entry = environ; *entry != nullptr; ++entry) result.emplace_back(*entry);
  return result;
}

std::map<std::string, std::string> own_variables() {
  std::map<std::string, std::string> result;
  for (const std::string& entry : own_environment()) {
    std::size_t equals = entry.find('=');
    if (equals != std::string::npos) result[entry.substr(0, equals)] = entry.substr(equals + 1);
  }
  return result;
}

Result<pid_t> spawn(const std::vector<std::string>& argv, const std::vector<std::string>& env, const std::string& cwd,
                    const std::vector<std::pair<int, int>>& keep) {
  if (argv.empty() || keep.size() > 8) return fail(ErrorKind::StopRun, "start a program: bad arguments");
  std::vector<char*> arg_pointers = pointers(argv);
  std::vector<char*> env_pointers = pointers(env);
  int above = 3;
  for (const auto& [target, source] : keep) above = std::max({above, target + 1});
  pid_t pid = ::fork();
  if (pid < 0) return fail_errno(ErrorKind::StopRun, fmt::format("start {}", argv[0]));
  if (pid == 0) exec_child(arg_pointers.data(), env_pointers.data(), cwd.c_str(), keep.data(), keep.size(), above);
  return pid;
}

}  // namespace holdfast::os
