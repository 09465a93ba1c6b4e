// PmiServer: the process manager's side of PMI-1, for the ranks of one gang (MPICH and its relatives, whose own launcher hydra
// speaks it). A socket for each rank, lines of `key=value` words. The ranks are test processes: nothing that they say is
// trusted, and what is too long or too much ends the connection of the one who said it.
//
// Protocol: MPICH's "PMI-1.1 wire protocol" (src/pmi/maint in its sources); the verbs that MPI_Init and MPI_Finalize use, and
// those of published names. MPI_Comm_spawn is answered with a failure.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "base/result.h"
#include "os/fd.h"
#include "os/loop.h"

namespace holdfast::mpi {

class PmiServer {
 public:
  /// A rank has called MPI_Abort with this code.
  using OnAbort = std::function<void(int rank, int code)>;

  /// `name` tells this gang from all others of the machine.
  PmiServer(os::Loop& loop, int size, std::string name, OnAbort on_abort);
  ~PmiServer();
  PmiServer(const PmiServer&) = delete;
  PmiServer& operator=(const PmiServer&) = delete;

  /// The rank's end of its socket, for PMI_FD. Once for each rank.
  Result<os::Fd> connect(int rank);
  /// The first rank that has said nothing yet; negative for none.
  [[nodiscard]] int absent() const;

 private:
  struct Peer {
    os::Fd fd;
    std::string buffer;
    bool spawning = false;  ///< Inside of a command of many lines.
  };
  using Words = std::map<std::string, std::string>;

  void read_from(int rank);
  void drop(int rank);
  void on_line(int rank, const std::string& line);
  std::string answer(int rank, const std::string& verb, const Words& words);
  std::string put(const Words& words);
  std::string get(const Words& words) const;
  std::string publish(const Words& words);
  std::string look_up(const Words& words) const;
  void enter_barrier(int rank);
  void say(int rank, const std::string& line);

  os::Loop& loop_;
  int size_;
  std::string name_;
  OnAbort on_abort_;
  std::map<int, Peer> peers_;
  std::map<std::string, std::string> values_;
  std::map<std::string, std::string> published_;
  std::size_t stored_ = 0;  ///< Bytes in both.
  std::set<int> in_barrier_;
  std::set<int> heard_;  ///< Ranks that have said something.
};

}  // namespace holdfast::mpi
