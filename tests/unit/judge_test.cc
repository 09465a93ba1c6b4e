#include "run/judge.h"

#include <gtest/gtest.h>
#include <signal.h>

namespace holdfast::run {
namespace {

Evidence finished(const char* verdict) {
  Evidence evidence;
  evidence.done = true;
  evidence.pytest_verdict = verdict;
  evidence.exit = Exit{};
  return evidence;
}

TEST(Judge, BelievesATestThatFinishedAndEnded) {
  for (const char* verdict : {"passed", "failed", "error", "skipped", "xfailed", "xpassed"}) {
    EXPECT_EQ(judge(finished(verdict)), verdict);
  }
}

TEST(Judge, AnUnknownWordIsAnError) { EXPECT_EQ(judge(finished("splendid")), "error"); }

TEST(Judge, ExitStatusZeroWithoutAWordIsNeverAPass) {
  Evidence evidence;
  evidence.exit = Exit{};
  EXPECT_EQ(judge(evidence), "exited");
  evidence.pytest_verdict = "passed";
  EXPECT_EQ(judge(evidence), "exited");
}

TEST(Judge, ASignalAfterTheLastWordIsACrash) {
  Evidence evidence = finished("passed");
  evidence.exit = Exit{true, 0, SIGSEGV};
  evidence.slate.phase = 4;
  EXPECT_EQ(judge(evidence), "crashed");
  EXPECT_EQ(describe(evidence, "crashed")["phase"], "exit");
}

TEST(Judge, AProgramThatIsTheTestEndsAsItDid) {
  Evidence evidence = finished("failed");
  evidence.program = Exit{true, 0, SIGSEGV};
  evidence.slate.phase = 4;
  EXPECT_EQ(judge(evidence), "crashed");
  EXPECT_EQ(describe(evidence, "crashed")["phase"], "call");
  EXPECT_EQ(describe(evidence, "crashed")["signal"], "SIGSEGV");
  EXPECT_EQ(describe(evidence, "crashed")["zygote_died"], false);
  evidence.program = Exit{false, 3, 0};
  EXPECT_EQ(judge(evidence), "exited");
  EXPECT_EQ(describe(evidence, "exited")["code"], 3);
  EXPECT_EQ(describe(evidence, "exited")["program"], true);
  // But the process that waited for it has the last word.
  evidence.exit = Exit{true, 0, SIGKILL};
  EXPECT_EQ(judge(evidence), "crashed");
  EXPECT_EQ(describe(evidence, "crashed")["signal"], "SIGKILL");
  EXPECT_FALSE(describe(evidence, "crashed").contains("program"));
  evidence.timed_out = Phase::Call;
  EXPECT_EQ(judge(evidence), "timeout");
}

TEST(Judge, NobodyWaitedIsACrash) {
  Evidence evidence;
  EXPECT_EQ(judge(evidence), "crashed");
  EXPECT_EQ(describe(evidence, "crashed")["zygote_died"], true);
}

TEST(Judge, ADeadlineOutranksHowItThenDied) {
  Evidence evidence = finished("failed");
  evidence.exit = Exit{true, 0, SIGKILL};
  evidence.timed_out = Phase::Teardown;
  evidence.limit = 3;
  EXPECT_EQ(judge(evidence), "timeout");
  auto detail = describe(evidence, "timeout");
  EXPECT_EQ(detail["phase"], "teardown");
  EXPECT_EQ(detail["limit"], 3.0);
}

TEST(Judge, BrokenProtocolIsAnErrorWithItsReason) {
  Evidence evidence = finished("passed");
  evidence.problem = "half a frame";
  EXPECT_EQ(judge(evidence), "error");
  EXPECT_EQ(describe(evidence, "error")["problem"], "half a frame");
}

TEST(Judge, CrashNotesAreBelievedForTheirOwnSignalOnly) {
  Evidence evidence;
  evidence.exit = Exit{true, 0, SIGSEGV};
  evidence.slate = Slate{2, 0, 0, 0, 1, SIGSEGV, SEGV_MAPERR, 0, 0x10};
  auto detail = describe(evidence, "crashed");
  EXPECT_EQ(detail["signal"], "SIGSEGV");
  EXPECT_EQ(detail["si_code_name"], "SEGV_MAPERR");
  EXPECT_EQ(detail["address"], "0x10");
  evidence.exit = Exit{true, 0, SIGKILL};
  EXPECT_FALSE(describe(evidence, "crashed").contains("si_code"));
}

TEST(Judge, APassedTestThatLeftSomethingKeepsItsVerdictAndANote) {
  Evidence evidence = finished("passed");
  evidence.survivors.push_back({77, "sleep 3600"});
  EXPECT_EQ(judge(evidence), "passed");
  EXPECT_EQ(notes_of(evidence), std::vector<std::string>{"leaked"});
  auto detail = describe(evidence, "passed");
  EXPECT_EQ(detail["leaked"][0]["command"], "sleep 3600");
  EXPECT_FALSE(detail.contains("phase"));
}

TEST(Judge, AScribbledSlateIsNoPhase) {
  Slate slate{};
  slate.phase = 0xdeadbeef;
  EXPECT_EQ(phase_of(slate), Phase::Idle);
}

TEST(Judge, WaitStatus) {
  EXPECT_EQ(exit_of_wait_status(3 << 8).code, 3);
  EXPECT_FALSE(exit_of_wait_status(3 << 8).signalled);
  EXPECT_EQ(exit_of_wait_status(11).signal, 11);
  EXPECT_EQ(exit_of_wait_status(11 | 128).signal, 11);
}

TEST(Judge, SignalNames) {
  EXPECT_EQ(signal_name(SIGKILL), "SIGKILL");
  EXPECT_EQ(signal_name(52), "SIG52");
}

}  // namespace
}  // namespace holdfast::run
