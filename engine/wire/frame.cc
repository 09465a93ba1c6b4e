#include "wire/frame.h"

namespace holdfast::wire {

std::string encode(std::string_view payload) {
  auto size = static_cast<std::uint32_t>(payload.size());
  std::string frame;
  frame.reserve(kHeaderSize + payload.size());
  for (unsigned shift = 0; shift < 32; shift += 8) frame.push_back(static_cast<char>((size >> shift) & 0xffU));
  frame.append(payload);
  return frame;
}

void Decoder::feed(std::string_view bytes) {
  // Drop what was consumed before growing, so that a long-lived stream stays as small as its largest frame.
  if (start_ > 0) {
    buffer_.erase(0, start_);
    start_ = 0;
  }
  buffer_.append(bytes);
}

Result<bool> Decoder::next(std::string& payload) {
  if (pending() < kHeaderSize) return false;
  std::uint32_t size = 0;
  for (unsigned i = 0; i < kHeaderSize; ++i) {
    size |= static_cast<std::uint32_t>(static_cast<unsigned char>(buffer_[start_ + i])) << (8U * i);
  }
  if (size > limit_) {
    return fail(ErrorKind::GiveUpTest, fmt::format("read a frame: {} bytes announced, limit {}", size, limit_));
  }
  if (pending() < kHeaderSize + size) return false;
  payload.assign(buffer_, start_ + kHeaderSize, size);
  start_ += kHeaderSize + size;
  if (start_ == buffer_.size()) {
    buffer_.clear();
    start_ = 0;
    if (buffer_.capacity() > (std::size_t{1} << 20U)) buffer_.shrink_to_fit();
  }
  return true;
}

}  // namespace holdfast::wire
