// AMD's devices by ROCm SMI. Names and numbers are from its public API reference.
#include <dlfcn.h>
#include <fmt/format.h>

#include <array>

#include "inventory/gpus.h"

namespace holdfast::inventory {

namespace {

constexpr int kVram = 0;

class RocmSmi : public GpuSource {
 public:
  explicit RocmSmi(void* library) : library_(library) {}

  std::string start() {
    int result = call<int(std::uint64_t)>("rsmi_init", std::uint64_t{0});
    return result == 0 ? "" : fmt::format("ROCm SMI does not start: error {}", result);
  }

  std::vector<Gpu> look() override {
    std::vector<Gpu> found;
    std::uint32_t count = 0;
    call<int(std::uint32_t*)>("rsmi_num_monitor_devices", &count);
    found.reserve(count);
    for (std::uint32_t i = 0; i < count; ++i) found.push_back(describe(i));
    return found;
  }

 private:
  template <typename Function, typename... Arguments>
  int call(const char* name, Arguments... arguments) {
    auto function = reinterpret_cast<Function*>(::dlsym(library_, name));
    constexpr int kNotSupported = 2;
    return function == nullptr ? kNotSupported : function(arguments...);
  }

  Gpu describe(std::uint32_t index) {
    Gpu gpu;
    gpu.vendor = "amd";
    gpu.id = std::to_string(index);
    std::array<char, 128> name{};
    if (call<int(std::uint32_t, char*, std::size_t)>("rsmi_dev_name_get", index, name.data(), name.size()) == 0)
      gpu.name = name.data();
    std::uint64_t number = 0;
    if (call<int(std::uint32_t, std::uint64_t*)>("rsmi_dev_unique_id_get", index, &number) == 0)
      gpu.uuid = fmt::format("GPU-{:016x}", number);
    if (call<int(std::uint32_t, std::uint64_t*)>("rsmi_dev_pci_id_get", index, &number) == 0)
      gpu.pci = fmt::format("{:04x}:{:02x}:{:02x}.{}", number >> 32U, number >> 8U & 0xffU, number >> 3U & 0x1fU, number & 7U);
    std::int32_t node = -1;
    if (call<int(std::uint32_t, std::int32_t*)>("rsmi_topo_numa_affinity_get", index, &node) == 0) gpu.numa = node;
    int total = call<int(std::uint32_t, int, std::uint64_t*)>("rsmi_dev_memory_total_get", index, kVram, &gpu.total);
    int used = call<int(std::uint32_t, int, std::uint64_t*)>("rsmi_dev_memory_usage_get", index, kVram, &gpu.used);
    if (total != 0 || used != 0) gpu.problem = fmt::format("it does not answer (ROCm SMI error {})", total != 0 ? total : used);
    return gpu;
  }

  void* library_;
};

}  // namespace

std::unique_ptr<GpuSource> open_rocm_smi(std::string& problem) {
  void* library = nullptr;
  for (const char* name : {"librocm_smi64.so", "librocm_smi64.so.1", "librocm_smi64.so.7", "librocm_smi64.so.6"}) {
    if (library == nullptr) library = ::dlopen(name, RTLD_NOW | RTLD_LOCAL);
  }
  if (library == nullptr) return nullptr;
  auto smi = std::make_unique<RocmSmi>(library);
  problem = smi->start();
  if (!problem.empty()) return nullptr;
  return smi;
}

}  // namespace holdfast::inventory
