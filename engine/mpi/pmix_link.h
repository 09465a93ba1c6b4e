// PmixLink: the engine's end of `holdfast pmix-helper`, the process that is the PMIx server of all gangs of a run (Open MPI 4.1
// and later, and whatever else speaks PMIx). A process of its own since the library starts threads. Frames: protocol/mpi.md.
//
// It promises that every begin() is answered, also where the library is missing, or the helper has died or hangs.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "mpi/manager.h"
#include "os/loop.h"
#include "os/temporary_folder.h"
#include "wire/helper_process.h"

namespace holdfast::mpi {

class PmixLink final : public Manager {
 public:
  PmixLink(os::Loop& loop, OnAbort on_abort) : loop_(loop), on_abort_(std::move(on_abort)), helper_(loop) {}
  ~PmixLink() override;

  void begin(const std::string& world, int size, OnBegun then) override;
  void end(const std::string& world) override;
  [[nodiscard]] int absent(const std::string& world) const override;
  [[nodiscard]] bool owns(pid_t pid) const override { return helper_.owns(pid); }

 private:
  bool start();
  void on_frame(const wire::Json& frame);
  void lost(const std::string& why);

  os::Loop& loop_;
  OnAbort on_abort_;
  wire::HelperProcess helper_;
  os::TemporaryFolder folder_;  ///< Of the server's and the ranks' files.
  struct Waiting {
    OnBegun then;
    os::TimerId timer = 0;
  };
  std::map<std::string, Waiting> waiting_;
  std::map<std::string, std::set<int>> absent_;  ///< By world: ranks that have not connected.
};

/// `holdfast pmix-helper`: serves on the socket `fd` until it is closed; its files go to `folder`. Returns the exit code.
int serve_pmix(int fd, const std::string& folder);

}  // namespace holdfast::mpi
