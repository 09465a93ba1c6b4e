// Devices: the GPUs of a run. Knows them by a GpuProbe, says what a lease looks like to a test, sees to it that a device's
// memory is back before it is leased again, collects what speaks against a device, and takes one out of use that cannot be
// relied on.
//
// It promises:
// - settle() calls back once, within kMemoryLimit and two probes, whatever the devices do;
// - nothing is killed or reset: what holds a device's memory is named.
// The rules are in docs/design/gpus.md.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "inventory/gpu_probe.h"
#include "os/loop.h"
#include "plan/device_book.h"
#include "run/judge.h"
#include "run/suspicion.h"
#include "wire/channel.h"

namespace holdfast::run {

/// What is known of a lease when its test is over.
struct Settled {
  std::vector<Leak> leaks;
  std::uint64_t peak = 0;  ///< Bytes, of the device that it used most; 0 if nobody saw any.
  Suspicion suspicion;
};

/// The words of pytest-fkit's documentation, and the driver's own: what in a failure's text makes it look like a device's.
/// Empty if nothing does.
std::string gpu_words_in(const std::string& text);
/// Whether the driver writes this XID for faults of the device, and not of programs (NVIDIA's XID documentation).
bool is_hardware_xid(int xid);

struct DevicesHost {
  std::function<void(const std::string& text)> note;
  std::function<void(const char* kind, const nlohmann::ordered_json& fields)> log;
  /// The device must not be leased any more, or can be again.
  std::function<void(int device, bool usable)> on_usable;
  /// What others use of it, bytes.
  std::function<void(int device, std::uint64_t bytes)> on_foreign;
};

class Devices {
 public:
  Devices(os::Loop& loop, std::unique_ptr<inventory::GpuProbe> probe, DevicesHost host);
  ~Devices();
  Devices(const Devices&) = delete;
  Devices& operator=(const Devices&) = delete;

  /// Looks for them, and calls back once. `most`: use the first so many; negative for all. An error is the user's mistake; no
  /// devices is none.
  void open(int most, std::function<void(Status)> then);
  [[nodiscard]] std::size_t size() const { return devices_.size(); }
  /// Why there are none.
  [[nodiscard]] const std::string& why_none() const { return why_none_; }
  [[nodiscard]] std::vector<plan::Device> for_plan() const;
  [[nodiscard]] const inventory::Gpu& gpu(int device) const { return devices_[static_cast<std::size_t>(device)].gpu; }
  /// What the process of a test is told (protocol/README.md, `go`).
  [[nodiscard]] wire::Json order_for(const plan::Lease& lease) const;
  static wire::Json order_for_none();

  /// From now on the test has them.
  void begin(const plan::Lease& lease, const std::string& id);
  /// It ends without that anybody looks.
  void end(const plan::Lease& lease, const std::string& id);
  /// Somebody else has what was begun under another name.
  void rename(const plan::Lease& lease, const std::string& from, const std::string& to);
  /// The test (or the process that was kept) with these devices is over: waits for their memory. `failure`: the words of one
  /// that has failed; null for one that has not. `dead`: it crashed or hung.
  struct Ended {
    plan::Lease lease;
    std::string id;
    pid_t pid = 0;
    double began = 0;  ///< Seconds of CLOCK_MONOTONIC.
    bool lives_on = false;
    bool failed = false, dead = false;
    std::string failure;
  };
  void settle(Ended ended, std::function<void(Settled)> then);
  /// A test has passed there: what was held against the devices before was chance.
  void worked(const plan::Lease& lease);
  /// A failure there was not the test's own.
  void strike(plan::DeviceSet devices, const std::string& why);
  /// Probes those that are out of use, and calls back.
  void try_again(std::function<void()> then);
  [[nodiscard]] bool any_usable() const;
  /// Why those that are out of use are: a text for people.
  [[nodiscard]] std::string why_unusable() const;
  [[nodiscard]] bool owns(pid_t pid) const { return probe_->owns(pid); }
  [[nodiscard]] std::string names_of(plan::DeviceSet devices) const;
  /// For the report at the end (protocol/README.md, `gpus`).
  [[nodiscard]] wire::Json report() const;

 private:
  struct Span {
    double begin, end;
    std::string id;
  };
  struct Sample {
    double at;
    std::uint64_t used;
  };
  struct Event {
    double at;
    std::string text;
    bool by_device;  ///< It said so itself; otherwise it is what came of a test.
    bool hardware;
  };
  struct Entry {
    inventory::Gpu gpu;
    std::uint64_t unaccounted = 0;  ///< Bytes in use that no process accounts for, and that were so before.
    int strikes = 0;
    std::string out;  ///< Why it is out of use.
    int tests = 0;
    std::uint64_t peak = 0;
    std::vector<Span> spans;
    std::vector<Sample> samples;
    std::vector<Event> events;
  };
  struct Settling;

  [[nodiscard]] double now() const { return os::to_seconds(loop_.clock().now().time_since_epoch()); }
  void take_in(const inventory::GpuLook& look);
  void on_event(const inventory::GpuEvent& event);
  void take_out(int device, const std::string& why);
  void look_again(const std::shared_ptr<Settling>& settling);
  [[nodiscard]] std::uint64_t unaccounted(const Entry& entry) const;
  [[nodiscard]] static const inventory::Gpu* same_in(const inventory::GpuLook& look, const inventory::Gpu& gpu);
  [[nodiscard]] static bool is_ours(pid_t pid);
  void charge(Settling& settling);
  void weigh(const std::shared_ptr<Settling>& settling);
  void probe_all(const std::shared_ptr<Settling>& settling);
  void finish(const std::shared_ptr<Settling>& settling);
  Entry& at(int device) { return devices_[static_cast<std::size_t>(device)]; }
  [[nodiscard]] const Entry& at(int device) const { return devices_[static_cast<std::size_t>(device)]; }

  os::Loop& loop_;
  std::unique_ptr<inventory::GpuProbe> probe_;
  DevicesHost host_;
  std::vector<Entry> devices_;
  std::vector<inventory::GpuPeak> peaks_;  ///< The latest that were told.
  std::string why_none_;
  bool blind_ = false;  ///< The drivers no longer answer.
  int leases_ = 0;
  double began_ = 0;
};

}  // namespace holdfast::run
