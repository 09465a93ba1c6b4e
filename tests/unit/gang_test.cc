#include "run/gang.h"

#include <gtest/gtest.h>

namespace holdfast::run {
namespace {

Attempt ended(const std::string& verdict, double duration = 1) {
  Attempt attempt;
  attempt.duration = duration;
  attempt.evidence.done = true;
  attempt.evidence.pytest_verdict = verdict;
  attempt.evidence.exit = Exit{};
  attempt.reports.push_back({{"of", verdict}});
  return attempt;
}

Attempt killed(int signal) {
  Attempt attempt;
  attempt.evidence.exit = Exit{true, 0, signal};
  attempt.err = "last words";
  return attempt;
}

Gang gang_of(std::vector<Attempt> attempts, int first_failed = -1) {
  Gang gang;
  for (Attempt& attempt : attempts) {
    gang.slots.push_back(static_cast<int>(10 + gang.slots.size()));
    attempt.slot = gang.slots.back();
    gang.attempts.emplace_back(std::move(attempt));
  }
  gang.first_failed = first_failed;
  return gang;
}

TEST(Gang, ItHasPassedWhereAllRanksHave) {
  Gang gang = gang_of({ended("passed", 1), ended("passed", 3)});
  Attempt merged = gang.merge();
  EXPECT_EQ(judge(merged.evidence), "passed");
  EXPECT_EQ(merged.duration, 3);
  EXPECT_EQ(merged.slot, 10);
  ASSERT_EQ(merged.ranks.size(), 2U);
  EXPECT_EQ(merged.ranks[1]["verdict"], "passed");
  EXPECT_FALSE(merged.ranks[1].contains("out"));
}

TEST(Gang, TheRankThatFailedFirstExplainsIt) {
  Gang gang = gang_of({ended("failed"), killed(11), ended("failed")}, 1);
  Attempt merged = gang.merge();
  EXPECT_EQ(judge(merged.evidence), "crashed");
  EXPECT_EQ(merged.rank, 1);
  EXPECT_EQ(merged.ranks[1]["signal"], "SIGSEGV");
  EXPECT_EQ(merged.ranks[1]["err"], "last words");
  EXPECT_EQ(merged.ranks[2]["reports"][0]["of"], "failed");
}

TEST(Gang, ARankThatWeHaveEndedIsNotBlamed) {
  Attempt waiting = killed(9);
  waiting.evidence.ended_with_gang = true;
  Attempt leaving = ended("passed");
  leaving.evidence.exit = Exit{true, 0, 9};
  leaving.evidence.ended_with_gang = true;
  Gang gang = gang_of({std::move(waiting), ended("failed"), std::move(leaving)}, 1);
  Attempt merged = gang.merge();
  EXPECT_EQ(judge(merged.evidence), "failed");
  EXPECT_EQ(merged.ranks[0]["verdict"], "ended");
  EXPECT_EQ(merged.ranks[2]["verdict"], "passed") << "it had only to leave MPI";
}

TEST(Gang, TheCodeOfAnAbortIsReadFromTheWordsOfMpichToo) {
  Attempt aborting;
  aborting.evidence.exit = Exit{false, 42, 0};
  aborting.err = "Abort(42) on node 1 (rank 1 in comm 496): application called MPI_Abort(comm=0x84000001, 42) - process 1\n";
  Attempt other;
  other.evidence.exit = Exit{false, 42, 0};
  Gang gang = gang_of({std::move(other), std::move(aborting)}, 0);
  Attempt merged = gang.merge();
  EXPECT_EQ(merged.rank, 1);
  EXPECT_EQ(merged.ranks[1]["mpi_abort"], 42);
  EXPECT_FALSE(merged.ranks[0].contains("mpi_abort"));
}

TEST(Gang, WhereNoneHasFailedTheMostTellingCounts) {
  Gang skipping = gang_of({ended("skipped"), ended("passed")});
  EXPECT_EQ(judge(skipping.merge().evidence), "passed");
  Gang failing = gang_of({ended("xpassed"), ended("xfailed")});
  EXPECT_EQ(judge(failing.merge().evidence), "xfailed");
}

TEST(Gang, WhatAnyRankHasLeftIsTheTests) {
  Attempt second = ended("passed");
  second.evidence.leaks.push_back({"file", "temporary file x"});
  Gang gang = gang_of({ended("passed"), std::move(second)});
  EXPECT_EQ(gang.merge().evidence.leaks.size(), 1U);
}

}  // namespace
}  // namespace holdfast::run
