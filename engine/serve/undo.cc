#include "serve/undo.h"

#include <fmt/format.h>
#include <signal.h>

#include <cmath>
#include <fstream>

#include "fault/control.h"
#include "os/procfs.h"
#include "os/sys.h"

namespace holdfast::serve {

namespace {

std::string boot_id() {
  std::string id;
  std::ifstream("/proc/sys/kernel/random/boot_id") >> id;
  return id;
}

std::string continue_process(const nlohmann::json& step) {
  pid_t pid = step.value("pid", 0);
  Result<os::Fd> process = os::open_pidfd(pid);
  // Asked after the descriptor was opened: from here on the number cannot become another process's.
  if (!process || !is_same(step)) return fmt::format("process {} has ended", pid);
  return os::send_signal(*process, SIGCONT) ? fmt::format("process {} goes on", pid) : fmt::format("process {} has ended", pid);
}

std::string heal(const nlohmann::json& step) {
  char problem[512] = "";
  hf_control* page = hf_control_open(step.value("page", "").c_str(), problem, sizeof problem);
  if (page == nullptr) return fmt::format("its page is gone ({})", problem);
  int healed = hf_control_heal(page, step.value("fault", std::int64_t{0}));
  hf_control_close(page);
  return healed == 0 ? "healed" : "healed before";
}

}  // namespace

nlohmann::json identify(pid_t pid) { return {{"pid", pid}, {"start", os::start_time(pid)}, {"boot", boot_id()}}; }

bool is_same(const nlohmann::json& step) {
  double start = os::start_time(step.value("pid", 0));
  return start > 0 && std::abs(start - step.value("start", 0.0)) < 0.001 && step.value("boot", "") == boot_id();
}

std::string undo(const nlohmann::json& step) {
  std::string what = step.is_object() ? step.value("do", "") : "";
  if (what == "continue") return continue_process(step);
  if (what == "heal") return heal(step);
  if (what == "nothing") return step.value("why", "it cannot be undone");
  return "not understood: " + step.dump();
}

}  // namespace holdfast::serve
