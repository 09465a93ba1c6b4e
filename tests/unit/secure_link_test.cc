#include "wire/secure_link.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <optional>

#include "os/sys.h"

namespace holdfast::wire {
namespace {

const std::string kToken = "0123456789abcdef0123456789abcdef";

class SecureLinkTest : public testing::Test {
 protected:
  SecureLinkTest() {
    ::signal(SIGPIPE, SIG_IGN);
    int fds[2] = {-1, -1};
    EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    dialling_ = os::Fd(fds[0]);
    listening_ = os::Fd(fds[1]);
  }
  /// Until both have said how it went, or `seconds`.
  void connect(const std::string& one, const std::string& other, double seconds = 5) {
    one_.emplace(loop_, std::move(dialling_), SecureLink::Side::Dials, one);
    other_.emplace(loop_, std::move(listening_), SecureLink::Side::Listens, other);
    auto note = [this](std::optional<std::string>& said) {
      return [this, &said](const std::string& problem) {
        said = problem;
        if (one_said_ && other_said_) loop_.stop();
      };
    };
    ASSERT_TRUE(other_->open(seconds, note(other_said_)));
    ASSERT_TRUE(one_->open(seconds, note(one_said_)));
    run_for(10);
  }
  void run_for(double seconds) {
    os::TimerId timer = loop_.call_after(os::seconds(seconds), [this] { loop_.stop(); });
    ASSERT_TRUE(loop_.run());
    loop_.cancel(timer);
  }
  /// What arrives there, up to `size` bytes or the end.
  std::string read(int fd, std::size_t size) {
    std::string text;
    for (int i = 0; i < 500 && text.size() < size; ++i) {
      std::array<char, 65536> bytes{};
      ssize_t n = ::recv(fd, bytes.data(), bytes.size(), MSG_DONTWAIT);
      if (n == 0) return text + "<end>";
      if (n > 0) text.append(bytes.data(), static_cast<std::size_t>(n));
      if (n < 0) run_for(0.01);
    }
    return text;
  }

  os::SystemClock clock_;
  Result<os::Loop> opened_ = os::Loop::open(clock_);
  os::Loop& loop_ = *opened_;
  os::Fd dialling_, listening_;
  std::optional<SecureLink> one_, other_;
  std::optional<std::string> one_said_, other_said_;
};

TEST_F(SecureLinkTest, CarriesBytesBothWaysBetweenThoseWhoKnowTheToken) {
  connect(kToken, kToken);
  ASSERT_EQ(one_said_, "");
  ASSERT_EQ(other_said_, "");
  os::Fd here = one_->take_plain();
  os::Fd there = other_->take_plain();
  ASSERT_EQ(::write(here.get(), "ping", 4), 4);
  EXPECT_EQ(read(there.get(), 4), "ping");
  ASSERT_EQ(::write(there.get(), "pong", 4), 4);
  EXPECT_EQ(read(here.get(), 4), "pong");
}

TEST_F(SecureLinkTest, ASideThatDoesNotKnowTheTokenGetsNoByteThrough) {
  connect("another token, as long as it has to be", kToken);
  ASSERT_TRUE(one_said_ && other_said_);
  EXPECT_NE(*one_said_, "");
  EXPECT_NE(*other_said_, "");
  os::Fd there = other_->take_plain();
  EXPECT_EQ(read(there.get(), 1), "<end>");
}

TEST_F(SecureLinkTest, OneThatSaysNothingIsGivenUp) {
  other_.emplace(loop_, std::move(listening_), SecureLink::Side::Listens, kToken);
  ASSERT_TRUE(other_->open(0.05, [this](const std::string& problem) {
    other_said_ = problem;
    loop_.stop();
  }));
  run_for(10);
  ASSERT_TRUE(other_said_);
  EXPECT_NE(other_said_->find("has not proved"), std::string::npos) << *other_said_;
}

TEST_F(SecureLinkTest, OneThatSpeaksPlainTextIsRefused) {
  other_.emplace(loop_, std::move(listening_), SecureLink::Side::Listens, kToken);
  ASSERT_TRUE(other_->open(5, [this](const std::string& problem) {
    other_said_ = problem;
    loop_.stop();
  }));
  const std::string text = "GET / HTTP/1.1\r\n\r\n";
  ASSERT_GT(::write(dialling_.get(), text.data(), text.size()), 0);
  run_for(10);
  ASSERT_TRUE(other_said_);
  EXPECT_NE(*other_said_, "");
}

TEST_F(SecureLinkTest, WhatWasWrittenBeforeTheEndArrivesAndThenTheEnd) {
  connect(kToken, kToken);
  os::Fd here = one_->take_plain();
  os::Fd there = other_->take_plain();
  // More than all buffers hold together, so that the reader's pace decides.
  const std::string much(std::size_t{6} << 20U, 'x');
  std::size_t sent = 0;
  std::string got;
  for (int i = 0; i < 3000 && got.size() < much.size(); ++i) {
    ssize_t n =
        sent < much.size() ? ::send(here.get(), much.data() + sent, much.size() - sent, MSG_DONTWAIT | MSG_NOSIGNAL) : 0;
    if (n > 0) sent += static_cast<std::size_t>(n);
    if (sent == much.size()) here.reset();
    run_for(0.002);
    std::array<char, 65536> bytes{};
    for (ssize_t m = 1; m > 0;) {
      m = ::recv(there.get(), bytes.data(), bytes.size(), MSG_DONTWAIT);
      if (m > 0) got.append(bytes.data(), static_cast<std::size_t>(m));
    }
  }
  EXPECT_EQ(got.size(), much.size());
  EXPECT_EQ(read(there.get(), 1), "<end>");
}

TEST_F(SecureLinkTest, LastWordsAreFlushedWithoutTheLoop) {
  connect(kToken, kToken);
  os::Fd here = one_->take_plain();
  os::Fd there = other_->take_plain();
  ASSERT_EQ(::write(here.get(), "bye", 3), 3);
  here.reset();
  one_->flush(1000);
  EXPECT_EQ(read(there.get(), 3), "bye");
}

TEST(NewToken, IsLongAndNeverTheSame) {
  EXPECT_EQ(new_token().size(), 64U);
  EXPECT_NE(new_token(), new_token());
}

}  // namespace
}  // namespace holdfast::wire
