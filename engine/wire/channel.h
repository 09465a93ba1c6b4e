// Channel: one non-blocking stream socket with frames in both directions, driven by the loop.
#pragma once

#include <deque>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/result.h"
#include "os/fd.h"
#include "os/loop.h"
#include "wire/frame.h"

namespace holdfast::wire {

using Json = nlohmann::json;

class Channel {
 public:
  /// `on_frame` gets every decoded object; `on_end` is called once, with an empty text at end of file or with what was wrong
  /// with the peer's bytes. The channel may be destroyed inside either.
  using OnFrame = std::function<void(Json frame)>;
  using OnEnd = std::function<void(const std::string& problem)>;

  Channel(os::Loop& loop, os::Fd fd, std::size_t frame_limit);
  ~Channel();
  Channel(const Channel&) = delete;
  Channel& operator=(const Channel&) = delete;

  Status start(OnFrame on_frame, OnEnd on_end);
  /// Queues a frame; descriptors are duplicated at once, so the caller keeps its own.
  void send(const Json& frame, const std::vector<int>& fds = {});
  /// Reads all that has arrived, also without an event: for the last words of a process that has just died.
  void drain();
  [[nodiscard]] std::size_t queued_bytes() const { return queued_; }
  /// Writes what is queued, blocking up to `timeout_ms`. For the last frames before exit.
  void flush(int timeout_ms);
  [[nodiscard]] bool ended() const { return ended_; }

 private:
  struct Outgoing {
    std::string bytes;
    std::size_t sent = 0;
    std::vector<os::Fd> fds;
  };
  void handle(std::uint32_t events);
  void read_some();
  void deliver();
  bool write_some();
  void end(const std::string& problem);
  void update_interest();

  os::Loop& loop_;
  os::Fd fd_;
  Decoder decoder_;
  OnFrame on_frame_;
  OnEnd on_end_;
  std::deque<Outgoing> queue_;
  std::size_t queued_ = 0;
  bool watching_ = false;
  bool waits_to_write_ = false;
  bool ended_ = false;
  bool at_eof_ = false;
  // Set by the destructor, so that a loop that is delivering frames notices that its channel is gone.
  bool* destroyed_ = nullptr;
};

}  // namespace holdfast::wire
