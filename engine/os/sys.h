// Thin wrappers over the Linux calls that the engine needs: descriptors of processes, memory files, socket pairs.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "base/result.h"
#include "os/fd.h"

namespace holdfast::os {

/// A close-on-exec descriptor that stands for the process `pid`, immune to reuse of the number.
Result<Fd> open_pidfd(pid_t pid);
/// True if the signal was sent; false if the process is gone.
bool send_signal(const Fd& pidfd, int signal);
/// An anonymous file in memory, named `name` in /proc/PID/fd.
Result<Fd> open_memfd(const char* name, std::size_t size);
/// Two connected, non-inheritable stream sockets; the first is non-blocking (the engine's end).
Result<std::pair<Fd, Fd>> open_channel_pair();
/// A pipe: reading end (non-blocking), writing end (blocking).
Result<std::pair<Fd, Fd>> open_pipe();
void set_nonblocking(int fd);
void set_close_on_exec(int fd);

/// Another descriptor for the same open file, closed on exec. Invalid where none is left.
Fd duplicate(const Fd& fd);

/// Size of a file, 0 if it cannot be told.
std::size_t file_size(int fd);
/// At most `limit` last bytes of a file, without moving its offset.
std::string read_tail(int fd, std::size_t limit);
/// Empties a file and moves its (shared) offset back to the start.
void rewind_and_empty(int fd);

/// A shared mapping of a memory file; unmapped on destruction.
class Mapping {
 public:
  static Result<Mapping> open(int fd, std::size_t size);
  Mapping() = default;
  Mapping(Mapping&& other) noexcept : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}
  Mapping& operator=(Mapping&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    return *this;
  }
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;
  ~Mapping();
  [[nodiscard]] void* data() const { return data_; }
  [[nodiscard]] std::size_t size() const { return size_; }

 private:
  Mapping(void* data, std::size_t size) : data_(data), size_(size) {}
  void* data_ = nullptr;
  std::size_t size_ = 0;
};

/// The path of the program that runs; empty if it cannot be told.
std::string own_program();
/// Our own, an entry "NAME=value" each.
std::vector<std::string> own_environment();
/// The same by name.
std::map<std::string, std::string> own_variables();

/// Starts a program with exactly the given environment and descriptors (descriptor number -> our descriptor; all others
/// are closed on exec because everything here is opened close-on-exec). stdin is /dev/null.
Result<pid_t> spawn(const std::vector<std::string>& argv, const std::vector<std::string>& env, const std::string& cwd,
                    const std::vector<std::pair<int, int>>& keep);

}  // namespace holdfast::os
