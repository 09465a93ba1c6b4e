#include "run/attempts.h"

#include <fmt/format.h>

#include <algorithm>
#include <regex>

namespace holdfast::run {

namespace {

bool is_retry(const Earlier& attempt) { return attempt.cause == kRetried; }
bool was_judged_again(const Earlier& attempt) { return attempt.cause == kJudgedAgain; }

// A good test that is an error of its teardown for what was found when it was over.
void fail_after(journal::Record& record, wire::Json& detail, const std::string& problem) {
  record.attempt_verdict = record.verdict;
  record.verdict = "error";
  detail["phase"] = "teardown";
  detail["problem"] = problem;
  detail["left"] = true;
}

}  // namespace

bool may_retry(const std::string& verdict, const std::vector<Earlier>& earlier, const Retries& allowed) {
  auto limit = allowed.find(verdict);
  if (limit == allowed.end()) return false;
  auto used = std::count_if(earlier.begin(), earlier.end(),
                            [&](const Earlier& attempt) { return is_retry(attempt) && attempt.verdict == verdict; });
  return used < limit->second;
}

bool may_blame_resources(const std::vector<std::string>& lost, const std::vector<Earlier>& earlier) {
  auto times =
      std::count_if(earlier.begin(), earlier.end(), [](const Earlier& attempt) { return attempt.cause == kResourceLost; });
  return !lost.empty() && times < 2;
}

void fail_for_leaks(const Evidence& evidence, journal::Record& record, wire::Json& detail) {
  std::vector<std::string> left = left_by(evidence);
  if (left.empty() || !is_good(record.verdict)) return;
  fail_after(record, detail,
             left.size() == 1 ? fmt::format("it left this behind: {}", left[0])
                              : fmt::format("it left {} things behind: {}", left.size(), fmt::join(left, "; ")));
}

int errors_in(const Findings& findings) {
  const std::string summary = "========= ERROR SUMMARY: ";
  if (std::size_t at = findings.text.rfind(summary); at != std::string::npos) {
    return std::atoi(findings.text.c_str() + at + summary.size());
  }
  // A line "==123== " and what was wrong begins each of valgrind's reports (Valgrind manual 4.2); the lines below it are
  // indented.
  static const std::regex head(
      R"(^==\d+== (Invalid|Conditional jump|Use of uninit|Syscall param|Mismatched|Source and dest|Argument '))",
      std::regex::multiline);
  const std::string during = findings.text.substr(0, findings.end);
  return static_cast<int>(std::distance(std::sregex_iterator(during.begin(), during.end(), head), std::sregex_iterator()));
}

void add_findings(const std::string& tool, const Findings& findings, bool strict, journal::Record& record, wire::Json& notes,
                  wire::Json& detail) {
  if (findings.text.empty()) return;
  detail["findings"] = {{"tool", tool}, {"text", findings.text}};
  // What has died could not tell when it had begun: the interpreter's own would be counted.
  int errors = is_pytest_verdict(record.verdict) ? errors_in(findings) : 0;
  if (errors == 0) return;
  detail["findings"]["errors"] = errors;
  notes.push_back("findings");
  if (!strict || !is_good(record.verdict)) return;
  fail_after(record, detail, fmt::format("{} has found {} error(s)", tool, errors));
}

void weigh(const std::vector<Earlier>& earlier, const Sternness& sternness, journal::Record& record, wire::Json& reports,
           wire::Json& notes, wire::Json& detail) {
  bool good = is_good(record.verdict);
  bool polluted = good && std::any_of(earlier.begin(), earlier.end(), was_judged_again) &&
                  std::none_of(earlier.begin(), earlier.end(), is_retry);
  bool flaky = std::any_of(earlier.begin(), earlier.end(),
                           [&](const Earlier& attempt) { return is_retry(attempt) && attempt.verdict != record.verdict; });
  if (std::any_of(earlier.begin(), earlier.end(), [](const Earlier& attempt) { return attempt.verdict == "infra"; })) {
    notes.push_back("infra");
  }
  if (polluted) notes.push_back("polluted");
  if (flaky) notes.push_back("flaky");
  if (good && ((polluted && sternness.strict) || (flaky && sternness.flaky_fails))) {
    const Earlier& blamed = *std::find_if(earlier.begin(), earlier.end(), polluted ? was_judged_again : is_retry);
    record.attempt_verdict = record.verdict;
    record.verdict = blamed.verdict;
    reports = blamed.reports;
    detail = blamed.detail;
  }
  for (const Earlier& attempt : earlier) {
    detail["earlier"].push_back(
        {{"verdict", attempt.verdict}, {"cause", attempt.cause}, {"reports", attempt.reports}, {"detail", attempt.detail}});
  }
}

void add_to_phase(wire::Json& reports, const std::string& phase, double seconds) {
  for (wire::Json& report : reports) {
    wire::Json& data = report.contains("data") ? report["data"] : report;
    if (seconds <= 0 || data.value("when", "") != phase || !data.contains("duration")) continue;
    data["duration"] = data["duration"].get<double>() + seconds;
    return;
  }
}

}  // namespace holdfast::run
