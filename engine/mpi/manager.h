// Manager: who tells the ranks of MPI programs (worlds) which rank each is, and how they find each other. One for all worlds of
// a run; the ranks themselves are started by their slots.
#pragma once

#include <sys/types.h>

#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "os/fd.h"

namespace holdfast::mpi {

class Manager {
 public:
  /// What each rank needs; or what is wrong.
  struct Begun {
    std::vector<nlohmann::json> environments;  ///< To add; by rank.
    std::vector<os::Fd> sockets;               ///< For PMI_FD, by rank; empty where none has one.
    std::string problem;
  };
  using OnBegun = std::function<void(Begun begun)>;
  /// A rank has called MPI_Abort with this code.
  using OnAbort = std::function<void(const std::string& world, int rank, int code)>;
  /// What the manager has said for people; empty for nothing.
  using OnWords = std::function<void(const std::string& words)>;

  Manager() = default;
  virtual ~Manager() = default;
  Manager(const Manager&) = delete;
  Manager& operator=(const Manager&) = delete;

  /// A new world of that name, which no other one has. `then` is called exactly once, unless end() comes before; never from
  /// inside.
  virtual void begin(const std::string& world, int size, OnBegun then) = 0;
  /// Its ranks have ended, or will not come. Can be called from the manager's own calls.
  virtual void end(const std::string& world) = 0;
  /// A rank has ended without a word: true if `then` will be called, once (not from inside, and not after end()), with what
  /// the manager has to say of that.
  virtual bool explain(const std::string& /*world*/, const OnWords& /*then*/) { return false; }
  /// A rank that has not asked who the others are, as MPI_Init does; negative for none, or where that cannot be known.
  [[nodiscard]] virtual int absent(const std::string& /*world*/) const { return -1; }
  /// A process of its own, which nobody is to end.
  [[nodiscard]] virtual bool owns(pid_t /*pid*/) const { return false; }
};

}  // namespace holdfast::mpi
