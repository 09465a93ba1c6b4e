#include "run/attempts.h"

#include <gtest/gtest.h>

namespace holdfast::run {
namespace {

using wire::Json;

Earlier attempt(const char* verdict, const char* cause) { return {verdict, cause, Json{verdict}, Json{{"of", verdict}}}; }

struct Weighed {
  journal::Record record;
  Json reports = Json{"last"};
  Json notes = Json::array();
  Json detail = Json{{"of", "last"}};
};

Weighed weighed(const char* last, const std::vector<Earlier>& earlier, const Sternness& sternness = {}) {
  Weighed result;
  result.record.verdict = last;
  weigh(earlier, sternness, result.record, result.reports, result.notes, result.detail);
  return result;
}

TEST(Attempts, ARetryIsForItsVerdictAndBounded) {
  const Retries allowed{{"crashed", 2}, {"failed", 0}};
  EXPECT_TRUE(may_retry("crashed", {}, allowed));
  EXPECT_FALSE(may_retry("failed", {}, allowed));
  EXPECT_FALSE(may_retry("timeout", {}, allowed));
  EXPECT_TRUE(may_retry("crashed", {attempt("crashed", kRetried)}, allowed));
  EXPECT_FALSE(may_retry("crashed", {attempt("crashed", kRetried), attempt("crashed", kRetried)}, allowed));
  EXPECT_TRUE(may_retry("crashed", {attempt("crashed", kJudgedAgain), attempt("crashed", kRetried)}, allowed))
      << "a second judgement is no retry";
}

TEST(Attempts, ThePristineProcessDecides) {
  Weighed passed = weighed("passed", {attempt("failed", kJudgedAgain)});
  EXPECT_EQ(passed.record.verdict, "passed");
  EXPECT_EQ(passed.notes, Json{"polluted"});
  EXPECT_EQ(passed.detail["earlier"][0]["verdict"], "failed");
  Weighed failed = weighed("failed", {attempt("crashed", kJudgedAgain)});
  EXPECT_EQ(failed.record.verdict, "failed");
  EXPECT_TRUE(failed.notes.empty());
}

TEST(Attempts, ALostResourceIsNoPollutionAndCountsTwice) {
  const std::vector<Earlier> once{attempt("failed", kResourceLost)};
  EXPECT_TRUE(weighed("passed", once, {.strict = true}).notes.empty());
  EXPECT_EQ(weighed("passed", once, {.strict = true}).record.verdict, "passed");
  EXPECT_EQ(weighed("passed", {once[0], attempt("crashed", kJudgedAgain)}).notes, Json{"polluted"});
  EXPECT_FALSE(may_blame_resources({}, {}));
  EXPECT_TRUE(may_blame_resources({"db"}, {}));
  EXPECT_TRUE(may_blame_resources({"db"}, {once[0], attempt("failed", kRetried)}));
  EXPECT_FALSE(may_blame_resources({"db"}, {once[0], once[0]}));
}

TEST(Attempts, LeaksFailAGoodTestAndNoOther) {
  Evidence evidence;
  evidence.leaks = {{"thread", "thread a"}};
  evidence.survivors = {{7, "sleep 9", 0, {"127.0.0.1:80"}}};
  for (const char* verdict : {"passed", "failed"}) {
    journal::Record record;
    record.verdict = verdict;
    Json detail = Json::object();
    fail_for_leaks(evidence, record, detail);
    bool good = std::string(verdict) == "passed";
    EXPECT_EQ(record.verdict, good ? "error" : "failed");
    EXPECT_EQ(detail.value("problem", ""),
              good ? "it left 2 things behind: process 7: sleep 9 (listens on 127.0.0.1:80); thread a" : "");
  }
  journal::Record clean;
  clean.verdict = "passed";
  Json detail = Json::object();
  fail_for_leaks({}, clean, detail);
  EXPECT_EQ(clean.verdict, "passed");
}

Findings findings_of(const std::string& during, const std::string& after) {
  Findings findings;
  findings.text = during + after;
  findings.end = during.size();
  return findings;
}

TEST(Attempts, CountsWhatAToolHasFoundInTheTest) {
  EXPECT_EQ(
      errors_in(findings_of("==9== Invalid read of size 8\n==9==    at 0x1: f\n==9== \n==9== Use of uninitialised value\n",
                            "==9== ERROR SUMMARY: 1640 errors\n")),
      2);
  EXPECT_EQ(errors_in(findings_of("", "==9== Invalid read of size 8\n")), 0);
  EXPECT_EQ(errors_in(findings_of("========= Invalid __global__ write\n", "========= ERROR SUMMARY: 3 errors\n")), 3);
  EXPECT_EQ(errors_in(findings_of("write(1) = 1\n", "")), 0);
}

TEST(Attempts, FindingsAreANoteAndFailOnlyIfThatIsWanted) {
  for (bool strict : {false, true}) {
    journal::Record record;
    record.verdict = "passed";
    Json notes = Json::array();
    Json detail = Json::object();
    add_findings("valgrind", findings_of("==9== Invalid free()\n", ""), strict, record, notes, detail);
    EXPECT_EQ(notes, Json{"findings"});
    EXPECT_EQ(record.verdict, strict ? "error" : "passed");
  }
}

TEST(Attempts, StrictMakesPollutionAFailure) {
  Weighed result = weighed("passed", {attempt("crashed", kJudgedAgain)}, {.strict = true});
  EXPECT_EQ(result.record.verdict, "crashed");
  EXPECT_EQ(result.record.attempt_verdict, "passed");
  EXPECT_EQ(result.reports, Json{"crashed"});
  EXPECT_EQ(result.detail["of"], "crashed");
}

TEST(Attempts, FlakyIsNeverSilentAndMayFail) {
  const std::vector<Earlier> earlier{attempt("failed", kJudgedAgain), attempt("crashed", kRetried)};
  Weighed result = weighed("passed", earlier);
  EXPECT_EQ(result.record.verdict, "passed");
  EXPECT_EQ(result.notes, Json{"flaky"});
  EXPECT_EQ(weighed("passed", earlier, {.flaky_fails = true}).record.verdict, "crashed");
  EXPECT_TRUE(weighed("crashed", {attempt("crashed", kRetried)}, {.flaky_fails = true}).notes.empty());
}

TEST(Attempts, OneAttemptIsNeither) {
  Weighed result = weighed("passed", {}, {.strict = true, .flaky_fails = true});
  EXPECT_EQ(result.record.verdict, "passed");
  EXPECT_TRUE(result.notes.empty());
  EXPECT_FALSE(result.detail.contains("earlier"));
}

}  // namespace
}  // namespace holdfast::run
