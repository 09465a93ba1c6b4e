#include "wire/channel.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <array>

#include "os/passing.h"

namespace holdfast::wire {

Channel::Channel(os::Loop& loop, os::Fd fd, std::size_t frame_limit) : loop_(loop), fd_(std::move(fd)), decoder_(frame_limit) {}

Channel::~Channel() {
  if (destroyed_ != nullptr) *destroyed_ = true;
  if (watching_) loop_.unwatch(fd_.get());
}

Status Channel::start(OnFrame on_frame, OnEnd on_end) {
  on_frame_ = std::move(on_frame);
  on_end_ = std::move(on_end);
  HOLDFAST_TRY(loop_.watch(fd_.get(), EPOLLIN, [this](std::uint32_t events) { handle(events); }));
  watching_ = true;
  update_interest();
  return {};
}

void Channel::send(const Json& frame, const std::vector<int>& fds) {
  if (ended_) return;
  Outgoing out;
  // Bytes that are not UTF-8 (a test's output) must not throw: they are shown as U+FFFD.
  out.bytes = encode(frame.dump(-1, ' ', false, Json::error_handler_t::replace));
  for (int fd : fds) {
    out.fds.emplace_back(::fcntl(fd, F_DUPFD_CLOEXEC, 3));
    // Out of descriptors: the peer would wait for ever for what cannot be sent. Hang up instead; its owner starts it anew.
    if (!out.fds.back().valid()) {
      ::shutdown(fd_.get(), SHUT_RDWR);
      return;
    }
  }
  queued_ += out.bytes.size();
  queue_.push_back(std::move(out));
  write_some();
  update_interest();
}

void Channel::drain() { read_some(); }

void Channel::flush(int timeout_ms) {
  while (!queue_.empty() && !ended_) {
    pollfd wait{fd_.get(), POLLOUT, 0};
    if (::poll(&wait, 1, timeout_ms) <= 0 || !write_some()) return;
  }
}

void Channel::handle(std::uint32_t events) {
  if ((events & EPOLLOUT) != 0) {
    write_some();
    update_interest();
  }
  if ((events & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0) read_some();
}

void Channel::read_some() {
  std::array<char, 65536> buffer;
  while (!ended_ && !at_eof_) {
    ssize_t n = ::recv(fd_.get(), buffer.data(), buffer.size(), MSG_DONTWAIT);
    if (n > 0) {
      decoder_.feed({buffer.data(), static_cast<std::size_t>(n)});
      if (static_cast<std::size_t>(n) < buffer.size()) break;
      continue;
    }
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) break;
    at_eof_ = true;
  }
  deliver();
}

void Channel::deliver() {
  if (destroyed_ != nullptr) return;  // Called from a callback of this very loop, which goes on by itself.
  bool destroyed = false;
  destroyed_ = &destroyed;
  OnFrame on_frame = on_frame_;  // A copy: the callback may destroy the channel, and with it the member.
  std::string payload;
  std::string problem;
  bool in_step = true;
  while (in_step && !ended_) {
    Result<bool> more = decoder_.next(payload);
    if (!more) problem = more.error().message();
    in_step = more.has_value() && *more;
    if (!in_step) break;
    Json frame = Json::parse(payload, nullptr, /*allow_exceptions=*/false);
    if (!frame.is_object()) {
      problem = "a frame that is not a JSON object";
      break;
    }
    on_frame(std::move(frame));
    if (destroyed) return;
  }
  destroyed_ = nullptr;
  if (ended_) return;
  if (problem.empty() && at_eof_ && decoder_.pending() > 0) problem = "half a frame";
  if (!problem.empty() || at_eof_) end(problem);
}

bool Channel::write_some() {
  while (!queue_.empty()) {
    Outgoing& out = queue_.front();
    ssize_t n = os::send_with_fds(fd_.get(), out.bytes.data() + out.sent, out.bytes.size() - out.sent, out.fds);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) return true;
    if (n < 0) {
      // The peer is gone. Its end shows up as end of file when reading, after what it still had to say.
      queue_.clear();
      queued_ = 0;
      return false;
    }
    out.fds.clear();
    out.sent += static_cast<std::size_t>(n);
    queued_ -= static_cast<std::size_t>(n);
    if (out.sent == out.bytes.size()) queue_.pop_front();
  }
  return true;
}

void Channel::end(const std::string& problem) {
  ended_ = true;
  if (watching_) loop_.unwatch(fd_.get());
  watching_ = false;
  OnEnd callback = on_end_;
  if (callback) callback(problem);
}

void Channel::update_interest() {
  if (!watching_ || waits_to_write_ == !queue_.empty()) return;
  waits_to_write_ = !queue_.empty();
  loop_.change(fd_.get(), waits_to_write_ ? EPOLLIN | EPOLLOUT : EPOLLIN);
}

}  // namespace holdfast::wire
