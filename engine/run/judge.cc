#include "run/judge.h"

#include <fmt/format.h>
#include <signal.h>
#include <sys/wait.h>

#include <algorithm>
#include <array>
#include <cstring>

namespace holdfast::run {

Exit exit_of_wait_status(int status) {
  if (WIFSIGNALED(status)) return Exit{true, 0, WTERMSIG(status)};
  return Exit{false, WEXITSTATUS(status), 0};
}

bool is_pytest_verdict(const std::string& verdict) {
  static constexpr std::array<const char*, 6> kNames = {"passed", "failed", "error", "skipped", "xfailed", "xpassed"};
  return std::any_of(kNames.begin(), kNames.end(), [&](const char* name) { return verdict == name; });
}

bool is_good(const std::string& verdict) {
  return verdict == "passed" || verdict == "skipped" || verdict == "xfailed" || verdict == "xpassed";
}

std::string judge(const Evidence& evidence) {
  // The kernel says so, whatever came of it.
  if (evidence.memory_kills > 0 || !evidence.kernel_words.empty()) return "oom";
  if (evidence.timed_out) return "timeout";
  if (!evidence.problem.empty()) return "error";
  if (!(evidence.done && evidence.lives_on)) {
    // Nobody could wait for it: its zygote was killed, and the kernel then kills the test (PR_SET_PDEATHSIG).
    if (!evidence.exit || evidence.exit->signalled) return "crashed";
    // Exit status 0 is never believed by itself: only a process that said it had finished can have passed.
    if (!evidence.done || (evidence.exit->code != 0 && !evidence.wrapped)) return "exited";
  }
  if (evidence.program) return evidence.program->signalled ? "crashed" : "exited";
  return is_pytest_verdict(evidence.pytest_verdict) ? evidence.pytest_verdict : "error";
}

std::vector<std::string> notes_of(const Evidence& evidence) {
  std::vector<std::string> notes;
  if (!evidence.survivors.empty() || !evidence.leaks.empty()) notes.emplace_back("leaked");
  return notes;
}

namespace {

std::string text_of(const Survivor& survivor) {
  std::string text = fmt::format("process {}: {}", survivor.pid, survivor.command);
  return survivor.listens.empty() ? text : fmt::format("{} (listens on {})", text, fmt::join(survivor.listens, ", "));
}

}  // namespace

std::vector<std::string> left_by(const Evidence& evidence) {
  std::vector<std::string> texts;
  texts.reserve(evidence.survivors.size() + evidence.leaks.size());
  for (const Survivor& survivor : evidence.survivors) texts.push_back(text_of(survivor));
  for (const Leak& leak : evidence.leaks) texts.push_back(leak.text);
  return texts;
}

nlohmann::json describe(const Evidence& evidence, const std::string& verdict) {
  nlohmann::json detail = nlohmann::json::object();
  for (const Survivor& survivor : evidence.survivors) {
    detail["leaked"].push_back(
        {{"kind", "process"}, {"text", text_of(survivor)}, {"pid", survivor.pid}, {"command", survivor.command}});
  }
  for (const Leak& leak : evidence.leaks) detail["leaked"].push_back({{"kind", leak.kind}, {"text", leak.text}});
  if (verdict == "error" && !evidence.problem.empty()) detail["problem"] = evidence.problem;
  if (is_pytest_verdict(verdict) && evidence.problem.empty()) return detail;
  // The process itself may have died, or a program that it has run and that is the test.
  bool of_program = evidence.program && !evidence.timed_out &&
                    (evidence.lives_on || (evidence.exit && !evidence.exit->signalled && evidence.exit->code == 0));
  const std::optional<Exit>& exit = of_program ? evidence.program : evidence.exit;
  if (of_program) detail["program"] = true;
  Phase last = of_program ? Phase::Call : phase_of(evidence.slate);
  detail["phase"] = name_of(evidence.timed_out ? *evidence.timed_out : last);
  if (verdict == "oom") {
    detail["memory_limit"] = evidence.memory_limit;
    detail["memory_peak"] = evidence.memory_peak;
    detail["memory_kills"] = evidence.memory_kills;
    if (!evidence.kernel_words.empty()) detail["kernel"] = evidence.kernel_words;
  }
  if (verdict == "timeout") {
    detail["limit"] = evidence.limit;
    detail["was_stopped"] = evidence.was_stopped;
  }
  if (verdict == "exited") {
    detail["code"] = exit ? exit->code : 0;
    detail["hung_up"] = evidence.hung_up && !of_program;
  }
  if (verdict == "crashed") {
    int signal = exit ? exit->signal : SIGKILL;
    detail["signal"] = signal_name(signal);
    detail["signal_number"] = signal;
    detail["zygote_died"] = !exit.has_value();
    const Slate& slate = evidence.slate;
    // A note of another signal is from one that the test survived.
    if (slate.crash_set == 1 && slate.signal == signal) {
      detail["si_code"] = slate.si_code;
      detail["si_code_name"] = si_code_name(signal, slate.si_code);
      if (slate.si_code > 0) detail["address"] = fmt::format("{:#x}", slate.address);
      if (slate.si_code <= 0) detail["sender"] = slate.sender;
    }
  }
  return detail;
}

std::string signal_name(int signal) {
  const char* name = ::sigabbrev_np(signal);
  return name == nullptr ? fmt::format("SIG{}", signal) : fmt::format("SIG{}", name);
}

std::string si_code_name(int signal, int si_code) {
  struct Name {
    int signal;
    int code;
    const char* name;
  };
  // signal 0 stands for any signal.
  static constexpr std::array<Name, 15> kNames = {{
      {SIGSEGV, SEGV_MAPERR, "SEGV_MAPERR"},
      {SIGSEGV, SEGV_ACCERR, "SEGV_ACCERR"},
      {SIGBUS, BUS_ADRALN, "BUS_ADRALN"},
      {SIGBUS, BUS_ADRERR, "BUS_ADRERR"},
      {SIGBUS, BUS_OBJERR, "BUS_OBJERR"},
      {SIGFPE, FPE_INTDIV, "FPE_INTDIV"},
      {SIGFPE, FPE_INTOVF, "FPE_INTOVF"},
      {SIGFPE, FPE_FLTDIV, "FPE_FLTDIV"},
      {SIGILL, ILL_ILLOPC, "ILL_ILLOPC"},
      {SIGILL, ILL_ILLOPN, "ILL_ILLOPN"},
      {SIGILL, ILL_PRVOPC, "ILL_PRVOPC"},
      {0, SI_USER, "SI_USER"},
      {0, SI_TKILL, "SI_TKILL"},
      {0, SI_QUEUE, "SI_QUEUE"},
      {0, SI_KERNEL, "SI_KERNEL"},
  }};
  for (const Name& entry : kNames) {
    if ((entry.signal == 0 || entry.signal == signal) && entry.code == si_code) return entry.name;
  }
  return "";
}

}  // namespace holdfast::run
