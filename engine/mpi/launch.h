// Launch: `mpirun`, `mpiexec` or `srun` as the process manager of one world. It starts `holdfast lend` once for each rank;
// those lend us what they were given (their environment, their PMI socket), the ranks are forked by their slots as always and
// take it over, and the lenders wait until the world ends. Every launcher that we know tells a process by that alone.
//
// Protocol: protocol/mpi.md, on a socket in the abstract namespace, whose name is the secret; only processes of our user are
// listened to.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/result.h"
#include "mpi/manager.h"
#include "os/loop.h"
#include "os/temporary_folder.h"
#include "wire/frame.h"

namespace holdfast::mpi {

/// How it is started: `ready.mpi.launch` of protocol/README.md.
struct LaunchCommand {
  std::vector<std::string> argv;  ///< The program's path first; "{ranks}" stands for their number. `holdfast lend` is appended.
  /// To add to ours; the value "{folder}" stands for the path of a folder for this launch alone, which goes with it,
  std::map<std::string, std::string> environment;
  std::vector<std::string> without;  ///< from which variables that begin like this are taken away.
};

class Launch {
 public:
  /// `on_begun`: all ranks' places, or a problem; once. `on_lost`: after that, the launcher has given up its ranks; once,
  /// unless end() comes before. `on_gone`: it is no more. None is called from inside; the Launch may be destroyed in `on_gone`.
  struct Host {
    Manager::OnBegun on_begun;
    std::function<void()> on_lost;
    std::function<void()> on_gone;
  };
  Launch(os::Loop& loop, const LaunchCommand& command, int size, Host host);
  /// Kills what is left.
  ~Launch();
  Launch(const Launch&) = delete;
  Launch& operator=(const Launch&) = delete;

  /// Lets the lenders go, and with them the launcher; sees to it that it goes.
  void end();
  /// Manager::explain().
  bool explain(const Manager::OnWords& then);
  [[nodiscard]] bool gone() const { return gone_; }
  [[nodiscard]] bool owns(pid_t pid) const { return pid > 0 && pid == pid_; }
  /// Waits until it has gone, at most so long.
  void wait(int timeout_ms) const;

 private:
  struct Lender {
    os::Fd fd;
    wire::Decoder frames;
    std::vector<os::Fd> passed;
    int rank = -1;  ///< Negative until it has lent.
    nlohmann::json environment;
  };
  Status start(const LaunchCommand& command);
  void on_dialled();
  void read_from(int fd);
  bool on_lent(Lender& lender, const std::string& payload);
  void begin_if_complete();
  void drop(int fd);
  void tell(Manager::Begun begun);
  void fail(const std::string& problem);
  void lose();
  void on_exit();
  void kill_after(double seconds, int signal);
  void hear();
  [[nodiscard]] std::string words() const;

  os::Loop& loop_;
  Host host_;
  std::string program_;
  int size_;
  os::TemporaryFolder folder_;               ///< Where the launcher's files are, if it takes one.
  std::map<std::string, std::string> base_;  ///< Its environment.
  os::Fd listening_, pidfd_;
  os::Fd output_;     ///< Where it and the programs that it spawns write;
  std::string said_;  ///< the last of that.
  pid_t pid_ = 0;
  std::map<int, Lender> lenders_;  ///< By descriptor.
  os::TimerId timer_ = 0;
  bool begun_ = false;  ///< Or failed.
  bool lost_ = false, ending_ = false, gone_ = false;
  Manager::OnWords then_;     ///< Somebody waits for its words,
  os::TimerId patience_ = 0;  ///< no longer than this.
};

/// The rank that a launcher's variables name; negative for none.
int rank_in(const nlohmann::json& environment);
/// Of a lender's environment, what the launcher has given it.
nlohmann::json given(const nlohmann::json& environment, const std::map<std::string, std::string>& base);

}  // namespace holdfast::mpi
