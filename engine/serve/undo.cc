#include "serve/undo.h"

#include <fmt/format.h>
#include <signal.h>

#include <cmath>
#include <filesystem>
#include <fstream>

#include "fault/control.h"
#include "os/group_dirs.h"
#include "os/procfs.h"
#include "os/sys.h"
#include "serve/container.h"
#include "serve/link.h"

namespace holdfast::serve {

namespace {

std::string boot_id() {
  std::string id;
  std::ifstream("/proc/sys/kernel/random/boot_id") >> id;
  return id;
}

std::string signal_process(const nlohmann::json& step, int signal, const char* effect) {
  pid_t pid = step.value("pid", 0);
  Result<os::Fd> process = os::open_pidfd(pid);
  // Asked after the descriptor was opened: from here on the number cannot become another process's.
  if (!process || !is_same(step)) return fmt::format("process {} has ended", pid);
  return os::send_signal(*process, signal) ? fmt::format("process {} {}", pid, effect)
                                           : fmt::format("process {} has ended", pid);
}

std::string remove_file(const nlohmann::json& step) {
  std::filesystem::path file = step.value("file", "");
  // What stands in the log may have been written by a later version, or by hand.
  if (file.filename().string().rfind(kFillPrefix, 0) != 0) return fmt::format("{} is no file of ours", file.string());
  std::error_code problem;
  bool removed = std::filesystem::remove(file, problem);
  if (problem) return fmt::format("{} cannot be removed: {}", file.string(), problem.message());
  return fmt::format("{} {}", file.string(), removed ? "is removed" : "is not there");
}

std::string restore(const nlohmann::json& step) {
  std::filesystem::path file = std::filesystem::path(step.value("file", "")).lexically_normal();
  std::string name = file.filename().string();
  bool ours = name == "io.max" || name.rfind("blkio.throttle.", 0) == 0;
  if (!ours || file.string().rfind("/sys/fs/cgroup/", 0) != 0) return fmt::format("{} is no limit of ours", file.string());
  std::string text = step.value("text", "");
  if (os::write_file(file.string(), text)) return fmt::format("{} is '{}' again", file.string(), text);
  return fmt::format("{} is not there", file.string());
}

std::string join(const nlohmann::json& step) {
  Cable cable{step.value("index", 0U), step.value("name", "")};
  Status up = set_cable(cable, true);
  return up ? fmt::format("{} is up again", cable.name) : fmt::format("{} is gone", cable.name);
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
  if (what == "continue") return signal_process(step, SIGCONT, "goes on");
  if (what == "end") return signal_process(step, SIGKILL, "is ended");
  if (what == "restore") return restore(step);
  if (what == "namespace") return remove_namespace(step.value("name", ""));
  if (what == "cable") return join(step);
  if (what == "remove") return remove_file(step);
  if (what == "heal") return heal(step);
  if (what == "nothing") return step.value("why", "it cannot be undone");
  return "not understood: " + step.dump();
}

}  // namespace holdfast::serve
