// The judge: from what is known of an ended attempt to its verdict. Pure. The table is docs/verdicts.md.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "run/slate.h"

namespace holdfast::run {

/// How a process ended, from wait status.
struct Exit {
  bool signalled = false;
  int code = 0;    ///< The exit status where not signalled.
  int signal = 0;  ///< The signal where signalled.
};
Exit exit_of_wait_status(int status);

/// Something else that a test has left.
struct Leak {
  std::string kind;  ///< thread, socket, shm, sysv, file, process, environment, cwd, signal, umask.
  std::string text;  ///< What it is, for people.
};

/// What a tool says that a test ran under (--hf-wrap).
struct Findings {
  Findings() = default;
  std::string text;     ///< Since the test began,
  std::size_t end = 0;  ///< of which so many bytes were there when it ended; then comes what the tool says at its own end.
};

/// A process that outlived its test.
struct Survivor {
  int pid = 0;
  std::string command;
  double started = 0;                ///< Seconds of CLOCK_MONOTONIC, in hundredths; 0 where nobody asked.
  std::vector<std::string> listens;  ///< Addresses.
};

/// All evidence about one attempt.
struct Evidence {
  bool done = false;               ///< It said that it had finished, and then ended.
  std::string pytest_verdict;      ///< What it said, if done.
  bool lives_on = false;           ///< It is a worker, which goes on to the next test.
  std::optional<Exit> exit;        ///< Absent where its parent died first, so that nobody could wait for it.
  std::optional<Exit> program;     ///< How the program ended that is the test, where that is its verdict (done, `program`).
  std::optional<Phase> timed_out;  ///< The phase in which a deadline passed.
  double limit = 0;                ///< That deadline, seconds.
  bool was_stopped = false;        ///< It was in state T (SIGSTOP) at the deadline.
  std::uint64_t memory_limit = 0;  ///< Bytes; of its own control group, if it had one.
  std::uint64_t memory_peak = 0;   ///< Bytes in use in that group at most,
  int memory_kills = 0;            ///< and how many of its processes the kernel killed for want of memory.
  std::string kernel_words;        ///< Why the kernel has killed it for want of memory; empty if nothing proves that.
  std::string problem;             ///< It broke the protocol: what was wrong.
  bool wrapped = false;            ///< It ran under a tool, whose exit code is not the test's.
  bool ended_with_gang = false;    ///< We have ended it since another rank had failed.
  bool interrupted = false;        ///< The program that is the test was ended by our signal.
  bool batched = false;            ///< The program that ran it ran others as well, and it did not pass there.
  bool hung_up = false;            ///< It closed its channel (or called exec) without having finished.
  Slate slate{};                   ///< A copy of the page at its end.
  std::vector<Survivor> survivors;
  std::vector<Leak> leaks;
};

/// True for the verdicts that come from pytest's own reports.
bool is_pytest_verdict(const std::string& verdict);

/// True for verdicts with which a run succeeds. (xpassed without strict is pytest's good word, too.)
bool is_good(const std::string& verdict);

std::string judge(const Evidence& evidence);
/// All that it left, a text each.
std::vector<std::string> left_by(const Evidence& evidence);
std::vector<std::string> notes_of(const Evidence& evidence);
/// What the report is made of: the fields of `detail` in protocol/result.md, without the texts.
nlohmann::json describe(const Evidence& evidence, const std::string& verdict);

/// "SIGSEGV" and the like; "SIG34" for one without a name.
std::string signal_name(int signal);
/// "SEGV_MAPERR" and the like, or "" where the code has no name for that signal.
std::string si_code_name(int signal, int si_code);

}  // namespace holdfast::run
