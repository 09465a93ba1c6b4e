// Frames: a 4-byte little-endian length, then that many bytes of JSON (one object, UTF-8). See protocol/README.md.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.h"

namespace holdfast::wire {

/// Changes with every incompatible change of a message. Both sides send it first and refuse another one.
inline constexpr int kProtocolVersion = 1;
/// Frames of test processes: what a test can make the engine hold is bounded.
inline constexpr std::size_t kTestFrameLimit = std::size_t{16} << 20U;
/// Frames of the controller and of zygotes.
inline constexpr std::size_t kTrustedFrameLimit = std::size_t{64} << 20U;
inline constexpr std::size_t kHeaderSize = 4;

/// The frame around `payload`.
std::string encode(std::string_view payload);

/// Cuts a byte stream into frames. Once an announced length is over the limit it fails, and keeps failing: the stream cannot
/// be trusted to be in step any more.
class Decoder {
 public:
  explicit Decoder(std::size_t limit) : limit_(limit) {}
  void feed(std::string_view bytes);
  /// True with the next payload in `payload`, false if more bytes are needed.
  Result<bool> next(std::string& payload);
  /// Bytes that have arrived and do not make a whole frame yet.
  [[nodiscard]] std::size_t pending() const { return buffer_.size() - start_; }

 private:
  std::size_t limit_;
  std::string buffer_;
  std::size_t start_ = 0;
};

}  // namespace holdfast::wire
