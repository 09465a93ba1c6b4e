// The process that talks to the GPUs' drivers, for a driver may hang, crash or start threads: `holdfast gpu-helper`. The
// engine's end of it is HelperProbe. The frames between them are in protocol/gpus.md.
//
// HelperProbe promises that every call is answered in time, whatever the driver does: a helper that does not answer is killed,
// and a new one is started for the next call, three times at most.
#pragma once

#include <deque>
#include <map>
#include <memory>

#include "inventory/gpu_probe.h"
#include "os/loop.h"
#include "wire/helper_process.h"

namespace holdfast::inventory {

class HelperProbe : public GpuProbe {
 public:
  explicit HelperProbe(os::Loop& loop) : loop_(loop), helper_(loop) {}
  ~HelperProbe() override;
  HelperProbe(const HelperProbe&) = delete;
  HelperProbe& operator=(const HelperProbe&) = delete;
  void look(OnLook then) override;
  void probe(const Gpu& gpu, OnProbed then) override;
  void watch(bool on) override;
  [[nodiscard]] bool owns(pid_t pid) const override { return helper_.owns(pid); }

 private:
  struct Pending {
    OnLook looked;
    OnProbed probed;
    os::TimerId timer = 0;
  };
  void ask(wire::Json request, Pending pending, double limit);
  bool start();
  void on_frame(const wire::Json& frame);
  void lost(const std::string& why);

  os::Loop& loop_;
  wire::HelperProcess helper_;
  bool watching_ = false;
  bool has_answered_ = false;
  int last_ = 0;
  std::map<int, Pending> pending_;
};

/// `holdfast gpu-helper`: answers on the socket `fd` until it is closed. Returns the exit code.
int serve_gpus(int fd);
/// `holdfast gpus`: prints all devices as JSON.
int print_gpus();
/// `holdfast gpu-probe`: uses the one device that its environment shows; prints what failed. Exit code 0 if nothing did.
int probe_gpu(const std::string& vendor);

}  // namespace holdfast::inventory
