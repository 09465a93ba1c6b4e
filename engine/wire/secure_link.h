// SecureLink: a TCP connection between two engines as if it were a Unix socket pair. TLS 1.3 with the run's token as a
// pre-shared key (RFC 8446, 2.2): who does not know the token gets nowhere, on either side, and there are no certificates.
//
// It promises: until both sides have proved that they know the token, no byte of either reaches the other's plain end; a peer
// that says nothing more (a machine that lost its power) is noticed within half a minute.
#pragma once

#include <openssl/types.h>

#include <functional>
#include <memory>
#include <string>

#include "base/result.h"
#include "os/fd.h"
#include "os/loop.h"

namespace holdfast::wire {

class SecureLink {
 public:
  /// Called once, never from inside: with an empty text when the peer has proved itself, or with what is wrong, and then the
  /// link is of no more use. It may be destroyed there.
  using OnOpen = std::function<void(const std::string& problem)>;
  enum class Side { Dials, Listens };

  /// `tcp`: connected. `token`: at least 16 bytes, the same on both sides.
  SecureLink(os::Loop& loop, os::Fd tcp, Side side, std::string token);
  ~SecureLink();
  SecureLink(const SecureLink&) = delete;
  SecureLink& operator=(const SecureLink&) = delete;

  /// Begins. `seconds`: the time that the peer has to prove itself.
  Status open(double seconds, OnOpen on_open);
  /// The plain end, for a channel; once, any time. It is at end of file when the connection has ended.
  os::Fd take_plain() { return std::move(theirs_); }
  /// Sends what was written to the plain end, whose other owner has closed it, or `timeout_ms` are over. For the last words.
  void flush(int timeout_ms);

 private:
  void pump();
  bool shake_hands();
  bool read_peer();
  bool write_peer();
  bool read_plain();
  bool write_plain();
  void update_interest();
  void close(const std::string& problem);
  void tell(const std::string& problem);

  os::Loop& loop_;
  os::Fd tcp_;
  os::Fd ours_, theirs_;  ///< The pair: ours is read and written here.
  Side side_;
  std::string token_;
  OnOpen on_open_;
  os::TimerId deadline_ = 0;
  os::TimerId tell_timer_ = 0;
  struct ContextFree {
    void operator()(SSL_CTX* context) const;
  };
  struct SessionFree {
    void operator()(SSL* ssl) const;
  };
  std::unique_ptr<SSL_CTX, ContextFree> context_;
  std::unique_ptr<SSL, SessionFree> ssl_;
  bool open_ = false;
  bool closed_ = false;
  bool plain_ended_ = false;  ///< Its owner has closed it: what it wrote goes out, then the connection ends.
  bool peer_ended_ = false;
  bool watches_tcp_ = false, watches_plain_ = false;
  bool wants_to_write_ = false;  ///< The TLS layer does.
  std::string out_;              ///< From the plain end, not yet sent.
  std::string in_;               ///< From the peer, not yet read by the plain end's owner.
};

/// 32 random bytes as 64 hexadecimal digits; empty if the kernel has none to give.
std::string new_token();

}  // namespace holdfast::wire
