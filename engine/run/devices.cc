#include "run/devices.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <sstream>

#include "inventory/cpus.h"
#include "inventory/visible_gpus.h"
#include "os/procfs.h"

namespace holdfast::run {

namespace {

// Seconds that a device's memory has to come back, and between two looks.
constexpr double kMemoryLimit = 5;
constexpr double kLookAgain = 0.02;
// Bytes that may be missing: drivers keep a little.
constexpr std::uint64_t kSlack = std::uint64_t{64} << 20U;
constexpr int kMostStrikes = 3;
constexpr std::size_t kMostSamples = 4000;

std::string gib(std::uint64_t bytes) { return fmt::format("{:.1f} GiB", static_cast<double>(bytes) / (1U << 30U)); }

plan::DeviceSet set_of(const plan::Lease& lease) {
  plan::DeviceSet set = 0;
  for (int device : lease.devices) set |= plan::DeviceSet{1} << static_cast<unsigned>(device);
  return set;
}

}  // namespace

std::string gpu_words_in(const std::string& text) {
  static constexpr std::array<const char*, 14> kWords = {
      "CUDA out of memory",
      "CUDA error",
      "CUDA_ERROR_",
      "HIP error",
      "HIP out of memory",
      "hipErrorNoBinaryForGpu",
      "hipErrorOutOfMemory",
      "NCCL error",
      "device-side assert",
      "GPU not found",
      "no GPU",
      "cudaErrorNoDevice",
      "hipErrorNoDevice",
      "cudaErrorMemoryAllocation",
  };
  auto same = [](char a, char b) {
    return std::tolower(static_cast<unsigned char>(a)) == std::tolower(static_cast<unsigned char>(b));
  };
  for (const char* word : kWords) {
    std::string_view wanted = word;
    if (std::search(text.begin(), text.end(), wanted.begin(), wanted.end(), same) != text.end()) return word;
  }
  return "";
}

bool is_hardware_xid(int xid) {
  // Double-bit ECC, page retirement and row remapping, NVLink, fallen off the bus, contained and uncontained ECC, GSP,
  // recovery.
  static constexpr std::array<int, 14> kHardware = {48, 62, 63, 64, 74, 79, 92, 94, 95, 119, 120, 140, 143, 154};
  return std::find(kHardware.begin(), kHardware.end(), xid) != kHardware.end();
}

Devices::Devices(os::Loop& loop, std::unique_ptr<inventory::GpuProbe> probe, DevicesHost host)
    : loop_(loop), probe_(std::move(probe)), host_(std::move(host)) {
  probe_->on_event = [this](const inventory::GpuEvent& event) { on_event(event); };
}

Devices::~Devices() = default;

// ---- what there is ---------------------------------------------------------------------------------------------------------

void Devices::open(int most, std::function<void(Status)> then) {
  probe_->look([this, most, then = std::move(then)](const inventory::GpuLook& look) {
    began_ = now();
    Result<std::vector<inventory::Gpu>> seen =
        inventory::visible_gpus(look.gpus, [](const char* name) { return ::getenv(name); });
    if (!seen) {
      then(tl::unexpected<Error>(seen.error()));
      return;
    }
    if (most >= 0 && seen->size() > static_cast<std::size_t>(most)) seen->resize(static_cast<std::size_t>(most));
    if (seen->size() > plan::kMostDevices) seen->resize(plan::kMostDevices);
    for (inventory::Gpu& gpu : *seen) {
      Entry entry;
      entry.gpu = std::move(gpu);
      entry.unaccounted = unaccounted(entry);
      devices_.push_back(std::move(entry));
    }
    if (devices_.empty()) {
      why_none_ = !look.problems.empty() ? fmt::format("{}", fmt::join(look.problems, "; "))
                  : look.gpus.empty()    ? "this machine has none"
                                         : "none of them may be used (CUDA_VISIBLE_DEVICES, --hf-gpus)";
    }
    nlohmann::ordered_json all = nlohmann::ordered_json::array();
    for (std::size_t i = 0; i < devices_.size(); ++i) {
      const inventory::Gpu& here = devices_[i].gpu;
      all.push_back({{"id", here.id}, {"name", here.name}, {"uuid", here.uuid}, {"total", here.total}, {"used", here.used}});
      if (!here.problem.empty()) {
        take_out(static_cast<int>(i), here.problem);
      } else if (here.used > here.total / 50 + kSlack) {
        std::string who;
        for (const inventory::GpuProcess& process : here.processes) {
          who += fmt::format("{}process {} ({})", who.empty() ? "" : ", ", process.pid, os::command_line(process.pid));
        }
        host_.note(fmt::format("GPU {}: {} are in use already{}", here.id, gib(here.used), who.empty() ? "" : ", by " + who));
      }
    }
    if (!devices_.empty()) host_.log("gpus", {{"devices", all}});
    then({});
  });
}

std::vector<plan::Device> Devices::for_plan() const {
  std::vector<plan::Device> result;
  result.reserve(devices_.size());
  for (const Entry& entry : devices_) {
    result.push_back({entry.gpu.total, std::min(entry.gpu.used, entry.gpu.total), entry.gpu.numa, entry.out.empty()});
  }
  return result;
}

wire::Json Devices::order_for(const plan::Lease& lease) const {
  std::vector<inventory::Gpu> gpus;
  int node = at(lease.devices.front()).gpu.numa;
  for (int device : lease.devices) {
    gpus.push_back(at(device).gpu);
    if (gpus.back().numa != node) node = -1;
  }
  wire::Json environment = wire::Json::object();
  for (const auto& [name, value] : inventory::environment_for(gpus)) environment[name] = value;
  wire::Json order = {{"environment", std::move(environment)}};
  if (node >= 0) order["cpus"] = inventory::cpus_of_node(node);
  return order;
}

wire::Json Devices::order_for_none() {
  wire::Json environment = wire::Json::object();
  for (const auto& [name, value] : inventory::environment_for({})) environment[name] = value;
  return {{"environment", std::move(environment)}};
}

std::string Devices::names_of(plan::DeviceSet devices) const {
  std::vector<std::string> names;
  for (std::size_t i = 0; i < devices_.size(); ++i) {
    if ((devices >> i & 1U) != 0) names.push_back("GPU " + devices_[i].gpu.id);
  }
  return fmt::format("{}", fmt::join(names, ", "));
}

bool Devices::any_usable() const {
  return std::any_of(devices_.begin(), devices_.end(), [](const Entry& entry) { return entry.out.empty(); });
}

std::string Devices::why_unusable() const {
  std::string text = why_none_;
  for (const Entry& entry : devices_) {
    if (!entry.out.empty())
      text += fmt::format("{}GPU {} is out of use ({})", text.empty() ? "" : "; ", entry.gpu.id, entry.out);
  }
  return text;
}

// ---- what they say ---------------------------------------------------------------------------------------------------------

/// Whether a process belongs to this run: the engine is among its ancestors.
bool Devices::is_ours(pid_t pid) {
  constexpr int kMost = 64;
  for (int i = 0; i < kMost && pid > 1; ++i, pid = os::parent_of(pid)) {
    if (pid == ::getpid()) return true;
  }
  return false;
}

/// Of what is in use, what no living process is said to hold.
std::uint64_t Devices::unaccounted(const Entry& entry) const {
  std::uint64_t held = 0;
  for (const inventory::GpuProcess& process : entry.gpu.processes) held += process.bytes;
  return entry.gpu.used - std::min(entry.gpu.used, held);
}

/// The same device as it is now. One that was lost from the start has no UUID, only its place.
const inventory::Gpu* Devices::same_in(const inventory::GpuLook& look, const inventory::Gpu& gpu) {
  for (const inventory::Gpu& other : look.gpus) {
    bool same = gpu.uuid.empty() || other.uuid.empty() ? other.id == gpu.id : other.uuid == gpu.uuid;
    if (same && other.vendor == gpu.vendor) return &other;
  }
  return nullptr;
}

void Devices::take_in(const inventory::GpuLook& look) {
  for (const inventory::GpuSample& sample : look.samples) {
    for (Entry& entry : devices_) {
      if (entry.gpu.uuid != sample.uuid || entry.samples.size() >= kMostSamples) continue;
      entry.samples.push_back({sample.at, sample.used});
      entry.peak = std::max(entry.peak, sample.used);
    }
  }
  for (std::size_t i = 0; i < devices_.size(); ++i) {
    Entry& entry = devices_[i];
    const inventory::Gpu* same = same_in(look, entry.gpu);
    auto device = static_cast<int>(i);
    if (same == nullptr) {
      take_out(device, "it is no longer there");
      continue;
    }
    if (same->uncorrected > entry.gpu.uncorrected) {
      entry.events.push_back(
          {now(), fmt::format("{} uncorrected ECC errors", same->uncorrected - entry.gpu.uncorrected), true, true});
    }
    if (!same->problem.empty()) {
      take_out(device, same->problem);
      continue;
    }
    entry.gpu = *same;
    std::uint64_t foreign = std::min(unaccounted(entry), entry.unaccounted);
    for (const inventory::GpuProcess& process : entry.gpu.processes) {
      if (is_ours(process.pid)) continue;
      foreign += process.bytes;
    }
    host_.on_foreign(device, std::min(foreign, entry.gpu.total));
  }
}

void Devices::on_event(const inventory::GpuEvent& event) {
  for (Entry& entry : devices_) {
    if (entry.gpu.uuid != event.uuid && entry.gpu.parent != event.uuid) continue;
    std::string text = event.xid != 0 ? fmt::format("XID {}", event.xid) : "an uncorrected ECC error";
    entry.events.push_back({now(), text, true, event.xid == 0 || is_hardware_xid(event.xid)});
    host_.log("gpu_event", {{"gpu", entry.gpu.id}, {"xid", event.xid}});
  }
}

// ---- who has them ----------------------------------------------------------------------------------------------------------

void Devices::begin(const plan::Lease& lease, const std::string& id) {
  if (leases_++ == 0) probe_->watch(true);
  nlohmann::ordered_json ids = nlohmann::ordered_json::array();
  for (int device : lease.devices) {
    Entry& entry = at(device);
    ++entry.tests;
    entry.spans.push_back({now(), -1, id});
    ids.push_back(entry.gpu.id);
  }
  host_.log("lease", {{"id", id}, {"gpus", ids}, {"vram", lease.memory}});
}

struct Devices::Settling {
  Ended ended;
  std::function<void(Settled)> then;
  Settled result;
  double give_up = 0;
  std::vector<int> late;  ///< Devices whose memory is not back.
  int probing = 0;
};

void Devices::settle(Ended ended, std::function<void(Settled)> then) {
  auto settling = std::make_shared<Settling>();
  settling->ended = std::move(ended);
  settling->then = std::move(then);
  settling->give_up = now() + kMemoryLimit;
  look_again(settling);
}

void Devices::look_again(const std::shared_ptr<Settling>& settling) {
  if (blind_) {
    // Never before settle() has returned.
    loop_.call_after({}, [this, settling] { weigh(settling); });
    return;
  }
  probe_->look([this, settling](const inventory::GpuLook& look) {
    if (!look.answered) {
      if (!std::exchange(blind_, true)) {
        host_.note(
            fmt::format("the GPUs cannot be looked at any more ({}): leases go on without", fmt::join(look.problems, "; ")));
      }
      weigh(settling);
      return;
    }
    take_in(look);
    Ended& ended = settling->ended;
    // The helper tells a peak once, and another test's look may have been the one that heard of it.
    peaks_.insert(peaks_.end(), look.peaks.begin(), look.peaks.end());
    if (peaks_.size() > kMostSamples) peaks_.erase(peaks_.begin(), peaks_.end() - kMostSamples);
    for (const inventory::GpuPeak& peak : peaks_) {
      bool mine = std::find(peak.pids.begin(), peak.pids.end(), ended.pid) != peak.pids.end();
      bool here = std::any_of(ended.lease.devices.begin(), ended.lease.devices.end(),
                              [&](int device) { return at(device).gpu.uuid == peak.uuid; });
      if (mine && here) settling->result.peak = std::max(settling->result.peak, peak.bytes);
    }
    settling->late.clear();
    for (int device : ended.lease.devices) {
      const Entry& entry = at(device);
      if (ended.lives_on || !entry.out.empty()) continue;
      if (unaccounted(entry) > entry.unaccounted + kSlack) settling->late.push_back(device);
    }
    if (!settling->late.empty() && now() < settling->give_up) {
      loop_.call_after(os::seconds(kLookAgain), [this, settling] { look_again(settling); });
      return;
    }
    charge(*settling);
    weigh(settling);
  });
}

/// What is still held, and by whom.
void Devices::charge(Settling& settling) {
  const Ended& ended = settling.ended;
  for (int device : settling.late) {
    Entry& entry = at(device);
    std::uint64_t missing = unaccounted(entry) - entry.unaccounted;
    settling.result.leaks.push_back(
        {"gpu", fmt::format("{} of GPU {}'s memory, which no process holds and which was not back after {:g} s", gib(missing),
                            entry.gpu.id, kMemoryLimit)});
    entry.unaccounted = unaccounted(entry);  // The others have to live with that.
  }
  if (ended.lives_on) return;
  for (int device : ended.lease.devices) {
    for (const inventory::GpuProcess& process : at(device).gpu.processes) {
      // Began during the test, and is none of this run's other processes: the test has had it started by somebody else.
      if (os::start_time(process.pid) < ended.began || is_ours(process.pid)) continue;
      settling.result.leaks.push_back(
          {"gpu", fmt::format("process {} ({}), which began during the test, holds {} of GPU {}", process.pid,
                              os::command_line(process.pid), gib(process.bytes), at(device).gpu.id)});
    }
  }
}

/// What speaks against the devices; those that did not give their memory back are probed, whatever came of the test.
void Devices::weigh(const std::shared_ptr<Settling>& settling) {
  const Ended& ended = settling->ended;
  Suspicion& suspicion = settling->result.suspicion;
  if (ended.failed) {
    for (int device : ended.lease.devices) {
      const Entry& entry = at(device);
      for (const Event& event : entry.events) {
        if (event.at < ended.began || !event.by_device) continue;
        std::string text = fmt::format("GPU {}: {}", entry.gpu.id, event.text);
        std::vector<std::string>& evidence = suspicion.evidence;
        if (std::find(evidence.begin(), evidence.end(), text) == evidence.end()) evidence.push_back(text);
        suspicion.proved = suspicion.proved || event.hardware;
      }
      if (!entry.out.empty()) {
        suspicion.evidence.push_back(fmt::format("GPU {}: {}", entry.gpu.id, entry.out));
        suspicion.proved = true;
      }
    }
    std::string words = gpu_words_in(ended.failure);
    if (!words.empty()) suspicion.evidence.push_back(fmt::format("its failure says {:?}", words));
    bool memory = words.find("emory") != std::string::npos || words.find("Memory") != std::string::npos ||
                  ended.failure.find("CUDA_ERROR_OUT_OF_MEMORY") != std::string::npos;
    suspicion.crowded = memory && ended.lease.shared && !suspicion.proved;
    if (!suspicion.evidence.empty()) suspicion.devices = set_of(ended.lease);
  }
  bool look_closer = !suspicion.evidence.empty() || ended.dead || !settling->late.empty();
  if (look_closer && !blind_ && !suspicion.crowded) {
    probe_all(settling);
  } else {
    finish(settling);
  }
}

void Devices::probe_all(const std::shared_ptr<Settling>& settling) {
  std::vector<int> wanted;
  for (int device : settling->ended.lease.devices) {
    if (at(device).out.empty()) wanted.push_back(device);
  }
  if (wanted.empty()) {
    finish(settling);
    return;
  }
  settling->probing = static_cast<int>(wanted.size());
  for (int device : wanted) {
    probe_->probe(at(device).gpu, [this, settling, device](bool good, const std::string& text) {
      if (!good) {
        take_out(device, "a fresh process cannot use it: " + text);
        if (settling->ended.failed) {
          Suspicion& suspicion = settling->result.suspicion;
          suspicion.evidence.push_back(fmt::format("GPU {}: a fresh process cannot use it: {}", at(device).gpu.id, text));
          suspicion.proved = true;
          suspicion.devices = set_of(settling->ended.lease);
        }
      }
      if (--settling->probing == 0) finish(settling);
    });
  }
}

void Devices::finish(const std::shared_ptr<Settling>& settling) {
  if (!settling->ended.lives_on) end(settling->ended.lease, settling->ended.id);
  settling->then(std::move(settling->result));
}

void Devices::end(const plan::Lease& lease, const std::string& id) {
  for (int device : lease.devices) {
    std::vector<Span>& spans = at(device).spans;
    auto span = std::find_if(spans.rbegin(), spans.rend(), [&](const Span& one) { return one.end < 0 && one.id == id; });
    if (span == spans.rend()) return;  // It was never begun.
    span->end = now();
  }
  if (--leases_ == 0) probe_->watch(false);
}

void Devices::rename(const plan::Lease& lease, const std::string& from, const std::string& to) {
  for (int device : lease.devices) {
    for (Span& span : at(device).spans) {
      if (span.end < 0 && span.id == from) span.id = to;
    }
  }
}

// ---- whom to trust ---------------------------------------------------------------------------------------------------------

void Devices::worked(const plan::Lease& lease) {
  for (int device : lease.devices) at(device).strikes = 0;
}

void Devices::strike(plan::DeviceSet devices, const std::string& why) {
  for (std::size_t i = 0; i < devices_.size(); ++i) {
    if ((devices >> i & 1U) == 0) continue;
    Entry& entry = devices_[i];
    entry.events.push_back({now(), why, false, false});
    if (++entry.strikes >= kMostStrikes && entry.out.empty()) {
      take_out(static_cast<int>(i), fmt::format("{} failures in a row that other devices did not have", entry.strikes));
    }
  }
}

void Devices::take_out(int device, const std::string& why) {
  Entry& entry = at(device);
  if (!entry.out.empty()) return;
  entry.out = why;
  host_.note(fmt::format("GPU {} is out of use from now on: {}", entry.gpu.id, why));
  host_.log("gpu_quarantined", {{"gpu", entry.gpu.id}, {"why", why}});
  host_.on_usable(device, false);
}

void Devices::try_again(std::function<void()> then) {
  probe_->look([this, then = std::move(then)](const inventory::GpuLook& look) {
    auto left = std::make_shared<int>(1);
    auto done = [left, then] {
      if (--*left == 0) then();
    };
    for (std::size_t i = 0; look.answered && i < devices_.size(); ++i) {
      if (devices_[i].out.empty()) continue;
      const inventory::Gpu* same = same_in(look, devices_[i].gpu);
      if (same == nullptr || !same->problem.empty()) continue;
      ++*left;
      probe_->probe(*same, [this, i, gpu = *same, done](bool good, const std::string&) {
        Entry& entry = devices_[i];
        if (good && !entry.out.empty()) {
          entry.out.clear();
          entry.strikes = 0;
          entry.gpu = gpu;
          host_.note(fmt::format("GPU {} can be used again", gpu.id));
          host_.on_usable(static_cast<int>(i), true);
        }
        done();
      });
    }
    done();
  });
}

wire::Json Devices::report() const {
  wire::Json result = wire::Json::array();
  double end = now();
  for (const Entry& entry : devices_) {
    wire::Json spans = wire::Json::array();
    for (const Span& span : entry.spans) {
      spans.push_back({span.begin - began_, (span.end < 0 ? end : span.end) - began_, span.id});
    }
    wire::Json samples = wire::Json::array();
    for (const Sample& sample : entry.samples) samples.push_back({sample.at - began_, sample.used});
    wire::Json events = wire::Json::array();
    for (const Event& event : entry.events) events.push_back({event.at - began_, event.text});
    result.push_back({{"id", entry.gpu.id},
                      {"name", entry.gpu.name},
                      {"total", entry.gpu.total},
                      {"peak", entry.peak},
                      {"tests", entry.tests},
                      {"seconds", end - began_},
                      {"spans", std::move(spans)},
                      {"samples", std::move(samples)},
                      {"events", std::move(events)},
                      {"out", entry.out}});
  }
  return result;
}

}  // namespace holdfast::run
