// NVIDIA's devices by NVML. Names, structures and numbers are from NVML's public API reference; tests/real/nvml_header.py
// compares them with the header that PyPI has.
#include <dlfcn.h>
#include <fmt/format.h>

#include <array>
#include <fstream>
#include <map>

#include "inventory/gpus.h"

namespace holdfast::inventory {

namespace {

using Handle = void*;
constexpr int kOk = 0;
constexpr int kInsufficientSize = 7;
constexpr int kUncorrected = 1;
constexpr int kVolatile = 0;
constexpr unsigned long long kSingleBit = 1;
constexpr unsigned long long kDoubleBit = 2;
constexpr unsigned long long kXid = 8;
constexpr unsigned kText = 96;  // Longest UUID or name, with room.

struct Memory {
  unsigned long long total, free, used;
};
struct Pci {
  char legacy_id[16];
  unsigned domain, bus, device, device_id, subsystem_id;
  char id[32];
};
struct Process {
  unsigned pid;
  unsigned long long bytes;
  unsigned gpu_instance, compute_instance;
};
struct Event {
  Handle device;
  unsigned long long type, data;
  unsigned gpu_instance, compute_instance;
};

// Which node the device's slot hangs on; the kernel says -1 on a machine with one.
int numa_of_pci(const std::string& pci) {
  std::string id = pci;
  if (id.size() > 12) id = id.substr(id.size() - 12);  // NVML writes domains with eight digits, sysfs with four.
  for (char& letter : id) letter = static_cast<char>(std::tolower(static_cast<unsigned char>(letter)));
  std::ifstream file("/sys/bus/pci/devices/" + id + "/numa_node");
  int node = -1;
  file >> node;
  return file ? node : -1;
}

class Nvml : public GpuSource {
 public:
  explicit Nvml(void* library) : library_(library) {}
  ~Nvml() override = default;  // NVML stays: it has threads of its own, and the process ends soon.
  Nvml(const Nvml&) = delete;
  Nvml& operator=(const Nvml&) = delete;

  std::string start() {
    int result = call<int()>("nvmlInit_v2");
    if (result != kOk) return fmt::format("NVML does not start: {}", words(result));
    Handle set = nullptr;
    if (call<int(Handle*)>("nvmlEventSetCreate", &set) == kOk) events_ = set;
    return "";
  }

  std::vector<Gpu> look() override {
    std::vector<Gpu> found;
    unsigned count = 0;
    if (int result = call<int(unsigned*)>("nvmlDeviceGetCount_v2", &count); result != kOk) {
      Gpu gpu;
      gpu.vendor = "nvidia";
      gpu.problem = fmt::format("NVML does not count its devices: {}", words(result));
      return {gpu};
    }
    for (unsigned i = 0; i < count; ++i) {
      Handle device = nullptr;
      int result = call<int(unsigned, Handle*)>("nvmlDeviceGetHandleByIndex_v2", i, &device);
      Gpu gpu = result == kOk ? describe(device) : Gpu{};
      gpu.id = std::to_string(i);
      gpu.vendor = "nvidia";
      // What is lost has no name any more; it is known by the place that it had.
      if (result == kOk) known_[i] = gpu;
      if (result != kOk) {
        gpu = known_.count(i) != 0 ? known_[i] : gpu;
        gpu.problem = words(result);
      }
      std::vector<Gpu> instances = result == kOk ? instances_of(device, gpu) : std::vector<Gpu>();
      if (instances.empty()) found.push_back(std::move(gpu));
      for (Gpu& instance : instances) found.push_back(std::move(instance));
      if (result == kOk) listen(device);
    }
    return found;
  }

  std::vector<GpuEvent> events() override {
    std::vector<GpuEvent> found;
    Event event{};
    constexpr int kMost = 100;  // At a time; a device can storm.
    while (events_ != nullptr && found.size() < kMost &&
           call<int(Handle, Event*, unsigned)>("nvmlEventSetWait_v2", events_, &event, 0U) == kOk) {
      found.push_back({text("nvmlDeviceGetUUID", event.device), event.type == kXid ? static_cast<int>(event.data) : 0});
      if (found.back().uuid.empty() && listened_.count(event.device) != 0) found.back().uuid = listened_[event.device];
      if (event.type == kSingleBit) found.pop_back();  // Corrected: nothing was wrong with anybody's data.
    }
    return found;
  }

 private:
  template <typename Function, typename... Arguments>
  int call(const char* name, Arguments... arguments) {
    constexpr int kNoSuchFunction = 13;
    auto function = reinterpret_cast<Function*>(::dlsym(library_, name));
    return function == nullptr ? kNoSuchFunction : function(arguments...);
  }

  std::string words(int result) {
    auto function = reinterpret_cast<const char* (*)(int)>(::dlsym(library_, "nvmlErrorString"));
    const char* text = function == nullptr ? nullptr : function(result);
    return fmt::format("{} (NVML error {})", text == nullptr ? "unknown" : text, result);
  }

  std::string text(const char* name, Handle device) {
    std::array<char, kText> buffer{};
    return call<int(Handle, char*, unsigned)>(name, device, buffer.data(), kText) == kOk ? buffer.data() : "";
  }

  Gpu describe(Handle device) {
    Gpu gpu;
    gpu.uuid = text("nvmlDeviceGetUUID", device);
    gpu.name = text("nvmlDeviceGetName", device);
    Pci pci{};
    if (call<int(Handle, Pci*)>("nvmlDeviceGetPciInfo_v3", device, &pci) == kOk) gpu.pci = pci.id;
    unsigned node = 0;
    gpu.numa = call<int(Handle, unsigned*)>("nvmlDeviceGetNumaNodeId", device, &node) == kOk ? static_cast<int>(node)
                                                                                             : numa_of_pci(gpu.pci);
    int major = 0;
    int minor = 0;
    if (call<int(Handle, int*, int*)>("nvmlDeviceGetCudaComputeCapability", device, &major, &minor) == kOk)
      gpu.arch = fmt::format("{}.{}", major, minor);
    unsigned long long count = 0;
    if (call<int(Handle, int, int, unsigned long long*)>("nvmlDeviceGetTotalEccErrors", device, kUncorrected, kVolatile,
                                                         &count) == kOk)
      gpu.uncorrected = count;
    measure(device, gpu);
    return gpu;
  }

  void measure(Handle device, Gpu& gpu) {
    Memory memory{};
    if (int result = call<int(Handle, Memory*)>("nvmlDeviceGetMemoryInfo", device, &memory); result != kOk) {
      gpu.problem = words(result);
      return;
    }
    gpu.total = memory.total;
    gpu.used = memory.used;
    std::vector<Process> processes(64);
    auto count = static_cast<unsigned>(processes.size());
    constexpr const char* kName = "nvmlDeviceGetComputeRunningProcesses_v3";
    int result = call<int(Handle, unsigned*, Process*)>(kName, device, &count, processes.data());
    if (result == kInsufficientSize) {
      processes.resize(count + 16);
      count = static_cast<unsigned>(processes.size());
      result = call<int(Handle, unsigned*, Process*)>(kName, device, &count, processes.data());
    }
    gpu.lists_processes = result == kOk;
    constexpr unsigned long long kNotAvailable = ~0ULL;
    for (unsigned i = 0; result == kOk && i < count; ++i) {
      if (processes[i].bytes == kNotAvailable) gpu.lists_processes = false;
      gpu.processes.push_back(
          {static_cast<int>(processes[i].pid), processes[i].bytes == kNotAvailable ? 0 : processes[i].bytes});
    }
  }

  std::vector<Gpu> instances_of(Handle device, const Gpu& whole) {
    unsigned current = 0;
    unsigned pending = 0;
    std::vector<Gpu> found;
    if (call<int(Handle, unsigned*, unsigned*)>("nvmlDeviceGetMigMode", device, &current, &pending) != kOk || current == 0)
      return found;
    unsigned most = 0;
    call<int(Handle, unsigned*)>("nvmlDeviceGetMaxMigDeviceCount", device, &most);
    for (unsigned i = 0; i < most; ++i) {
      Handle instance = nullptr;
      if (call<int(Handle, unsigned, Handle*)>("nvmlDeviceGetMigDeviceHandleByIndex", device, i, &instance) != kOk) continue;
      Gpu gpu = whole;
      gpu.parent = whole.uuid;
      gpu.uuid = gpu.id = text("nvmlDeviceGetUUID", instance);
      gpu.processes.clear();
      if (std::string name = text("nvmlDeviceGetName", instance); !name.empty()) gpu.name = name;
      measure(instance, gpu);
      if (!gpu.uuid.empty()) found.push_back(std::move(gpu));
    }
    return found;
  }

  void listen(Handle device) {
    if (events_ == nullptr || listened_.count(device) != 0) return;
    unsigned long long offered = 0;
    call<int(Handle, unsigned long long*)>("nvmlDeviceGetSupportedEventTypes", device, &offered);
    call<int(Handle, unsigned long long, Handle)>("nvmlDeviceRegisterEvents", device, offered & (kDoubleBit | kXid), events_);
    listened_[device] = text("nvmlDeviceGetUUID", device);
  }

  void* library_;
  Handle events_ = nullptr;
  std::map<Handle, std::string> listened_;  ///< And the UUIDs.
  std::map<unsigned, Gpu> known_;
};

}  // namespace

std::unique_ptr<GpuSource> open_nvml(std::string& problem) {
  void* library = ::dlopen("libnvidia-ml.so.1", RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) return nullptr;
  auto nvml = std::make_unique<Nvml>(library);
  problem = nvml->start();
  if (!problem.empty()) return nullptr;
  return nvml;
}

}  // namespace holdfast::inventory
