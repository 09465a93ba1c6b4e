// Attempts: when a test is tried again, and what verdict several attempts make together. Pure.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "journal/ledger.h"
#include "run/judge.h"
#include "run/suspicion.h"
#include "wire/channel.h"

namespace holdfast::run {

/// How often a test is tried again, by the verdict of the attempt.
using Retries = std::map<std::string, int>;

/// Why there was another attempt: it had failed in a used worker, and a pristine process decides,
inline constexpr const char* kJudgedAgain = "judged again";
/// or the user wants that what ended like this is tried again.
inline constexpr const char* kRetried = "retried";
/// or a resource that it used did not work any more when it had failed.
inline constexpr const char* kResourceLost = "resource lost";
/// or something speaks for it that its GPU was to blame, and another one decides.
inline constexpr const char* kOtherDevice = "another device";

/// An attempt that was not the last one.
struct Earlier {
  std::string verdict;
  std::string cause;  ///< kJudgedAgain or kRetried.
  wire::Json reports;
  wire::Json detail;
  Suspicion suspicion{};
};

/// Whether `allowed` has a try left for a test that has ended with `verdict` after the `earlier` ones.
bool may_retry(const std::string& verdict, const std::vector<Earlier>& earlier, const Retries& allowed);

/// Whether a test whose resources have been lost may have failed for that alone: twice, the second time while it was alone.
bool may_blame_resources(const std::vector<std::string>& lost, const std::vector<Earlier>& earlier);

struct Sternness {
  bool strict = false;           ///< A polluted test fails,
  bool flaky_fails = false;      ///< and so does a flaky one.
  std::string leaks = "report";  ///< What becomes of one that leaves something: `report`, `fail` or `ignore`.
};

/// Where a device was to blame for an earlier attempt there is a note `infra`.
/// The last attempt's verdict counts, except where the user wants that flakiness or pollution fails: then the first one's. Adds
/// the notes `polluted` and `flaky`, and the earlier attempts to `detail`; `reports` and `detail` become those of the attempt
/// that counts.
void weigh(const std::vector<Earlier>& earlier, const Sternness& sternness, journal::Record& record, wire::Json& reports,
           wire::Json& notes, wire::Json& detail);

/// `--hf-leaks=fail`: a good test that has left something is an error of its teardown.
void fail_for_leaks(const Evidence& evidence, journal::Record& record, wire::Json& detail);

/// Errors that a tool has found in a test: by its summary (compute-sanitizer), or by counting (valgrind, whose summary knows
/// the start of the interpreter too).
int errors_in(const Findings& findings);
/// What the tool has said, as a part of the report; a note `findings` where it has found errors, which make a good test an
/// error with `strict`.
void add_findings(const std::string& tool, const Findings& findings, bool strict, journal::Record& record, wire::Json& notes,
                  wire::Json& detail);

/// Adds to the duration of a phase's report, as pytest counts scopes: who was there first has waited for the setup, and who was
/// there last for the teardown.
void add_to_phase(wire::Json& reports, const std::string& phase, double seconds);

}  // namespace holdfast::run
