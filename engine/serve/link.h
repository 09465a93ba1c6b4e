// Link: a network namespace that the service owns, joined to the one that the service is in by a cable of ours: a TUN device at
// either end, and a thread between them, through which every packet goes, late or not at all if a fault says so. So faults of
// the network reach those processes alone that somebody has put into the namespace.
//
// Facts: a TUN device that is not persistent ends with its descriptor, so a killed service leaves no device, only the
// namespace's name (a mount in /run/netns, as ip-netns(8) has it). setns() and unshare() of a network are a thread's own.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <utility>

#include "base/result.h"
#include "os/fd.h"

namespace holdfast::serve {

/// What packets meet, in both directions.
struct Weather {
  double delay = 0;  ///< Seconds.
  double loss = 0;   ///< The share of packets that are lost; 1: all of them, a partition.
  std::uint64_t seed = 0;
};

class Link {
 public:
  /// `name`: of the namespace, `hf-` in front. Needs the rights to make namespaces and devices.
  static Result<std::unique_ptr<Link>> create(const std::string& name);
  ~Link();
  Link(const Link&) = delete;
  Link& operator=(const Link&) = delete;

  void set_weather(const Weather& weather);
  /// One fault at a time decides on the weather. False: another one does.
  bool claim() { return !std::exchange(claimed_, true); }
  void give_up_claim() { claimed_ = false; }
  /// The namespace's end, and ours.
  [[nodiscard]] const std::string& there() const { return there_; }
  [[nodiscard]] const std::string& here() const { return here_; }
  [[nodiscard]] std::uint64_t passed() const { return passed_; }
  [[nodiscard]] std::uint64_t dropped() const { return dropped_; }
  [[nodiscard]] std::uint64_t delayed() const { return delayed_; }

 private:
  Link() = default;
  void forward();
  [[nodiscard]] Weather weather();

  os::Fd near_, far_, stop_;
  std::string there_, here_;
  bool claimed_ = false;  ///< Only looked at in the service's own thread.
  std::mutex lock_;
  Weather weather_;
  std::atomic<std::uint64_t> passed_{0}, dropped_{0}, delayed_{0};
  std::thread thread_;
};

/// Where a namespace of that name is.
std::string namespace_path(const std::string& name);
/// Takes its name away; it ends with its last process. What was done, in words.
std::string remove_namespace(const std::string& name);

}  // namespace holdfast::serve
