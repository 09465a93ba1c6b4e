#include "mpi/pmi_server.h"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <optional>
#include <vector>

#include "os/loop.h"
#include "os/sys.h"

namespace holdfast::mpi {
namespace {

class PmiServerTest : public testing::Test {
 protected:
  void serve(int size) {
    server_.emplace(loop_, size, "gang", [this](int rank, int code) { aborts_.emplace_back(rank, code); });
    for (int rank = 0; rank < size; ++rank) ranks_.push_back(*server_->connect(rank));
  }
  void run_for(double seconds) {
    loop_.call_after(os::seconds(seconds), [this] { loop_.stop(); });
    ASSERT_TRUE(loop_.run());
  }
  void send(int rank, const std::string& text) {
    int fd = ranks_[static_cast<std::size_t>(rank)].get();
    ASSERT_EQ(::send(fd, text.data(), text.size(), MSG_NOSIGNAL), static_cast<ssize_t>(text.size()));
  }
  /// What the rank has been told since it was last asked.
  std::string heard(int rank) {
    run_for(0.01);
    std::array<char, 4096> bytes{};
    ssize_t n = ::recv(ranks_[static_cast<std::size_t>(rank)].get(), bytes.data(), bytes.size(), MSG_DONTWAIT);
    if (n == 0 || (n < 0 && errno == ECONNRESET)) return "end";
    std::string text;
    if (n > 0) text.append(bytes.data(), static_cast<std::size_t>(n));
    return text;
  }
  std::string ask(int rank, const std::string& line) {
    send(rank, fmt::format("{}\n", line));
    return heard(rank);
  }

  os::SystemClock clock_;
  Result<os::Loop> opened_ = os::Loop::open(clock_);
  os::Loop& loop_ = *opened_;
  std::optional<PmiServer> server_;
  std::vector<os::Fd> ranks_;
  std::vector<std::pair<int, int>> aborts_;
};

TEST_F(PmiServerTest, AnswersWhatMpiInitAsks) {
  serve(2);
  EXPECT_EQ(ask(0, "cmd=init pmi_version=1 pmi_subversion=1"), "cmd=response_to_init pmi_version=1 pmi_subversion=1 rc=0\n");
  EXPECT_NE(ask(0, "cmd=get_maxes").find("vallen_max=1024"), std::string::npos);
  EXPECT_EQ(ask(0, "cmd=get_appnum"), "cmd=appnum appnum=0 rc=0\n");
  EXPECT_EQ(ask(1, "cmd=get_universe_size"), "cmd=universe_size size=2 rc=0\n");
  EXPECT_EQ(ask(1, "cmd=get_my_kvsname"), "cmd=my_kvsname kvsname=gang rc=0\n");
  EXPECT_NE(ask(1, "cmd=get kvsname=gang key=PMI_process_mapping").find("value=(vector,(0,1,2))"), std::string::npos);
  EXPECT_EQ(ask(1, "cmd=finalize"), "cmd=finalize_ack rc=0\n");
}

TEST_F(PmiServerTest, WhatOneRankPutsTheOtherGetsAlsoWithBlanks) {
  serve(2);
  EXPECT_EQ(ask(0, "cmd=put kvsname=gang key=card value=a b=c  d"), "cmd=put_result rc=0 msg=success\n");
  EXPECT_EQ(ask(1, "cmd=get kvsname=gang key=card"), "cmd=get_result rc=0 msg=success value=a b=c  d\n");
  EXPECT_NE(ask(1, "cmd=get kvsname=gang key=other").find("rc=-1"), std::string::npos);
}

TEST_F(PmiServerTest, ABarrierOpensWhenAllHaveComeAndOnlyThen) {
  serve(3);
  EXPECT_EQ(ask(0, "cmd=barrier_in"), "");
  EXPECT_EQ(ask(0, "cmd=barrier_in"), "") << "twice the same rank";
  EXPECT_EQ(ask(2, "cmd=barrier_in"), "");
  EXPECT_EQ(ask(1, "cmd=barrier_in"), "cmd=barrier_out rc=0\n");
  EXPECT_EQ(heard(0), "cmd=barrier_out rc=0\n");
  EXPECT_EQ(heard(2), "cmd=barrier_out rc=0\n");
  EXPECT_EQ(ask(1, "cmd=barrier_in"), "") << "the next one is closed";
}

TEST_F(PmiServerTest, TellsOfAnAbort) {
  serve(2);
  send(1, "cmd=abort exitcode=42\n");
  run_for(0.01);
  ASSERT_EQ(aborts_.size(), 1U);
  EXPECT_EQ(aborts_.front(), std::make_pair(1, 42));
}

TEST_F(PmiServerTest, ALineMayComeInPiecesAndSeveralAtOnce) {
  serve(1);
  send(0, "cmd=get_app");
  EXPECT_EQ(heard(0), "");
  send(0, "num\ncmd=get_appnum\n");
  EXPECT_EQ(heard(0), "cmd=appnum appnum=0 rc=0\ncmd=appnum appnum=0 rc=0\n");
}

TEST_F(PmiServerTest, PublishedNamesAreFoundByOthersOnce) {
  serve(2);
  EXPECT_NE(ask(0, "cmd=publish_name service=ocean port=tag#0").find("rc=0"), std::string::npos);
  EXPECT_NE(ask(1, "cmd=publish_name service=ocean port=other").find("rc=1"), std::string::npos);
  EXPECT_NE(ask(1, "cmd=lookup_name service=ocean").find("port=tag#0"), std::string::npos);
  EXPECT_NE(ask(0, "cmd=unpublish_name service=ocean").find("rc=0"), std::string::npos);
  EXPECT_NE(ask(1, "cmd=lookup_name service=ocean").find("rc=1"), std::string::npos);
}

TEST_F(PmiServerTest, SpawningIsRefusedAndWhatIsUnknownIsAnswered) {
  serve(1);
  EXPECT_NE(ask(0, "mcmd=spawn\nnprocs=2\nexecname=x\nendcmd").find("cmd=spawn_result rc=-1"), std::string::npos);
  EXPECT_NE(ask(0, "cmd=dance").find("rc=-1"), std::string::npos);
  EXPECT_NE(ask(0, "no words at all").find("rc=-1"), std::string::npos);
}

TEST_F(PmiServerTest, WhoSaysTooMuchIsNotListenedToAnyMore) {
  serve(2);
  std::string flood(100'000, 'x');
  send(0, flood);
  run_for(0.05);
  EXPECT_EQ(heard(0), "end");
  EXPECT_EQ(ask(1, "cmd=get_appnum"), "cmd=appnum appnum=0 rc=0\n") << "the others are";
}

TEST_F(PmiServerTest, ItsStoreIsBounded) {
  serve(1);
  std::string value(60'000, 'v');
  std::string last;
  for (int i = 0; i < 300; ++i) {
    send(0, fmt::format("cmd=put kvsname=gang key=k{} value={}\n", i, value));
    last = heard(0);
    if (last.find("rc=-1") != std::string::npos) break;
  }
  EXPECT_NE(last.find("no_room"), std::string::npos);
}

}  // namespace
}  // namespace holdfast::mpi
