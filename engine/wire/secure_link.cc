#include "wire/secure_link.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cstring>

#include "os/sys.h"

namespace holdfast::wire {

namespace {

constexpr std::size_t kChunk = std::size_t{64} << 10U;
// Beyond it one side waits for the other: nothing is read that cannot be passed on.
constexpr std::size_t kMostHeld = std::size_t{1} << 20U;
constexpr unsigned char kIdentity[] = "holdfast";
// TLS_AES_128_GCM_SHA256, and its number on the wire (RFC 8446, B.4).
constexpr unsigned char kCipher[] = {0x13, 0x01};
constexpr int kIdleSeconds = 10, kProbeSeconds = 5, kProbes = 3;

int token_index() {
  static const int index = SSL_get_ex_new_index(0, nullptr, nullptr, nullptr, nullptr);
  return index;
}

// The key that both sides know, as a session of TLS that is resumed.
SSL_SESSION* session_of(SSL* ssl) {
  const auto* token = static_cast<const std::string*>(SSL_get_ex_data(ssl, token_index()));
  const SSL_CIPHER* cipher = SSL_CIPHER_find(ssl, kCipher);
  SSL_SESSION* session = SSL_SESSION_new();
  if (session == nullptr || cipher == nullptr) return session;
  SSL_SESSION_set1_master_key(session, reinterpret_cast<const unsigned char*>(token->data()), token->size());
  SSL_SESSION_set_cipher(session, cipher);
  SSL_SESSION_set_protocol_version(session, TLS1_3_VERSION);
  return session;
}

int offer_key(SSL* ssl, const EVP_MD* /*hash*/, const unsigned char** id, std::size_t* length, SSL_SESSION** session) {
  *session = session_of(ssl);
  *id = kIdentity;
  *length = sizeof kIdentity - 1;
  return 1;
}

int find_key(SSL* ssl, const unsigned char* id, std::size_t length, SSL_SESSION** session) {
  bool known = length == sizeof kIdentity - 1 && std::memcmp(id, kIdentity, length) == 0;
  *session = known ? session_of(ssl) : nullptr;
  return 1;
}

// A peer that is gone without a word: the kernel asks it, and gives up after kIdleSeconds + kProbes * kProbeSeconds.
void notice_silence(int tcp) {
  int on = 1;
  int limit_ms = (kIdleSeconds + kProbes * kProbeSeconds) * 1000;
  ::setsockopt(tcp, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
  ::setsockopt(tcp, IPPROTO_TCP, TCP_KEEPIDLE, &kIdleSeconds, sizeof kIdleSeconds);
  ::setsockopt(tcp, IPPROTO_TCP, TCP_KEEPINTVL, &kProbeSeconds, sizeof kProbeSeconds);
  ::setsockopt(tcp, IPPROTO_TCP, TCP_KEEPCNT, &kProbes, sizeof kProbes);
  ::setsockopt(tcp, IPPROTO_TCP, TCP_USER_TIMEOUT, &limit_ms, sizeof limit_ms);
  ::setsockopt(tcp, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

}  // namespace

void SecureLink::ContextFree::operator()(SSL_CTX* context) const { SSL_CTX_free(context); }
void SecureLink::SessionFree::operator()(SSL* ssl) const { SSL_free(ssl); }

std::string new_token() {
  std::array<unsigned char, 32> bytes{};
  if (::getrandom(bytes.data(), bytes.size(), 0) != static_cast<ssize_t>(bytes.size())) return "";
  std::string text;
  for (unsigned char byte : bytes) {
    text += "0123456789abcdef"[byte >> 4U];
    text += "0123456789abcdef"[byte & 15U];
  }
  return text;
}

SecureLink::SecureLink(os::Loop& loop, os::Fd tcp, Side side, std::string token)
    : loop_(loop), tcp_(std::move(tcp)), side_(side), token_(std::move(token)) {}

SecureLink::~SecureLink() {
  close("");
  loop_.cancel(tell_timer_);
}

Status SecureLink::open(double seconds, OnOpen on_open) {
  Result<std::pair<os::Fd, os::Fd>> pair = os::open_channel_pair();
  if (!pair) return tl::unexpected<Error>(pair.error());
  ours_ = std::move(pair->first);
  theirs_ = std::move(pair->second);
  os::set_nonblocking(theirs_.get());
  os::set_nonblocking(tcp_.get());
  notice_silence(tcp_.get());
  context_.reset(SSL_CTX_new(TLS_method()));
  if (context_ == nullptr) return fail(ErrorKind::StopRun, "set up TLS");
  SSL_CTX_set_min_proto_version(context_.get(), TLS1_3_VERSION);
  // Without this the dialling side would be content with any certificate; the other one has none to show.
  if (side_ == Side::Dials) SSL_CTX_set_verify(context_.get(), SSL_VERIFY_PEER, nullptr);
  SSL_CTX_set_ciphersuites(context_.get(), "TLS_AES_128_GCM_SHA256");
  SSL_CTX_set_num_tickets(context_.get(), 0);
  SSL_CTX_set_psk_use_session_callback(context_.get(), offer_key);
  SSL_CTX_set_psk_find_session_callback(context_.get(), find_key);
  SSL_CTX_set_mode(context_.get(), SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
  ssl_.reset(SSL_new(context_.get()));
  if (ssl_ == nullptr || SSL_set_fd(ssl_.get(), tcp_.get()) != 1) return fail(ErrorKind::StopRun, "set up TLS");
  SSL_set_ex_data(ssl_.get(), token_index(), &token_);
  side_ == Side::Dials ? SSL_set_connect_state(ssl_.get()) : SSL_set_accept_state(ssl_.get());
  on_open_ = std::move(on_open);
  HOLDFAST_TRY(loop_.watch(tcp_.get(), EPOLLIN, [this](std::uint32_t) { pump(); }));
  watches_tcp_ = true;
  deadline_ = loop_.call_after(os::seconds(seconds), [this] { close("the peer has not proved that it knows the token"); });
  pump();
  return {};
}

bool SecureLink::shake_hands() {
  ERR_clear_error();
  int result = SSL_do_handshake(ssl_.get());
  if (result != 1) {
    int why = SSL_get_error(ssl_.get(), result);
    wants_to_write_ = why == SSL_ERROR_WANT_WRITE;
    if (why == SSL_ERROR_WANT_READ || wants_to_write_) return false;
    close("the peer does not know the token, or the connection was lost");
    return false;
  }
  // Not by a certificate, or by nothing at all.
  if (SSL_session_reused(ssl_.get()) != 1) {
    close("the peer has not used the token");
    return false;
  }
  open_ = true;
  wants_to_write_ = false;
  loop_.cancel(deadline_);
  if (Status watched = loop_.watch(ours_.get(), EPOLLIN, [this](std::uint32_t) { pump(); }); !watched) {
    close(watched.error().message());
    return false;
  }
  watches_plain_ = true;
  tell("");
  return true;
}

// Until nothing moves.
void SecureLink::pump() {
  if (closed_) return;
  if (!open_ && !shake_hands()) {
    if (!closed_) update_interest();
    return;
  }
  bool moved = true;
  while (moved && !closed_) {
    moved = read_peer();
    moved |= !closed_ && write_plain();
    moved |= !closed_ && read_plain();
    moved |= !closed_ && write_peer();
  }
  if (closed_) return;
  if ((peer_ended_ && in_.empty()) || (plain_ended_ && out_.empty())) {
    close("");
    return;
  }
  update_interest();
}

bool SecureLink::read_peer() {
  if (peer_ended_ || in_.size() >= kMostHeld) return false;
  std::array<char, kChunk> buffer;  // NOLINT(cppcoreguidelines-pro-type-member-init): filled by the call
  std::size_t count = 0;
  ERR_clear_error();
  if (SSL_read_ex(ssl_.get(), buffer.data(), buffer.size(), &count) == 1) {
    in_.append(buffer.data(), count);
    return true;
  }
  int why = SSL_get_error(ssl_.get(), 0);
  if (why != SSL_ERROR_WANT_READ && why != SSL_ERROR_WANT_WRITE) peer_ended_ = true;
  return false;
}

bool SecureLink::write_peer() {
  wants_to_write_ = false;
  if (out_.empty() || peer_ended_) return false;
  std::size_t count = 0;
  ERR_clear_error();
  if (SSL_write_ex(ssl_.get(), out_.data(), out_.size(), &count) == 1) {
    out_.erase(0, count);
    return true;
  }
  int why = SSL_get_error(ssl_.get(), 0);
  wants_to_write_ = why == SSL_ERROR_WANT_WRITE;
  if (why != SSL_ERROR_WANT_READ && !wants_to_write_) peer_ended_ = true;
  return false;
}

bool SecureLink::read_plain() {
  if (plain_ended_ || out_.size() >= kMostHeld) return false;
  std::array<char, kChunk> buffer;  // NOLINT(cppcoreguidelines-pro-type-member-init): filled by the call
  ssize_t count = ::read(ours_.get(), buffer.data(), buffer.size());
  if (count > 0) {
    out_.append(buffer.data(), static_cast<std::size_t>(count));
    return true;
  }
  if (count == 0 || (errno != EAGAIN && errno != EINTR)) plain_ended_ = true;
  return false;
}

bool SecureLink::write_plain() {
  if (in_.empty()) return false;
  ssize_t count = ::send(ours_.get(), in_.data(), in_.size(), MSG_NOSIGNAL);
  if (count > 0) {
    in_.erase(0, static_cast<std::size_t>(count));
    return true;
  }
  if (errno != EAGAIN && errno != EINTR) {
    plain_ended_ = true;
    in_.clear();
  }
  return false;
}

// A socket whose other end has gone reports that for ever, whatever it is asked for: it is not watched any more.
void SecureLink::update_interest() {
  if (peer_ended_ && std::exchange(watches_tcp_, false)) loop_.unwatch(tcp_.get());
  if (plain_ended_ && std::exchange(watches_plain_, false)) loop_.unwatch(ours_.get());
  if (watches_tcp_) {
    loop_.change(tcp_.get(), (in_.size() >= kMostHeld ? 0U : EPOLLIN) | (wants_to_write_ ? EPOLLOUT : 0U));
  }
  if (watches_plain_) loop_.change(ours_.get(), (out_.size() >= kMostHeld ? 0U : EPOLLIN) | (in_.empty() ? 0U : EPOLLOUT));
}

void SecureLink::flush(int timeout_ms) {
  while (!closed_ && open_ && timeout_ms > 0) {
    pump();
    if (closed_ || (plain_ended_ && out_.empty())) break;
    pollfd waiting[] = {{tcp_.get(), static_cast<short>(out_.empty() ? 0 : POLLOUT), 0}, {ours_.get(), POLLIN, 0}};
    ::poll(waiting, 2, 10);
    timeout_ms -= 10;
  }
}

void SecureLink::close(const std::string& problem) {
  if (closed_) return;
  closed_ = true;
  loop_.cancel(deadline_);
  if (std::exchange(watches_tcp_, false)) loop_.unwatch(tcp_.get());
  if (std::exchange(watches_plain_, false)) loop_.unwatch(ours_.get());
  if (ssl_ != nullptr && open_) SSL_shutdown(ssl_.get());
  ssl_.reset();
  tcp_.reset();
  ours_.reset();
  if (!open_) tell(problem);
}

// Not from inside: whoever hears it may want to have no link any more.
void SecureLink::tell(const std::string& problem) {
  loop_.cancel(tell_timer_);
  tell_timer_ = loop_.call_after({}, [this, problem] {
    if (OnOpen told = std::exchange(on_open_, nullptr)) told(problem);
  });
}

}  // namespace holdfast::wire
