// The GPUs of this machine: what the vendors' libraries say of them, opened at run time (NVML, ROCm SMI), or else the vendors'
// programs (nvidia-smi, rocm-smi). Such a library may hang, lie or crash, so this is only called in a process of its own
// (inventory/gpu_helper.h).
#pragma once

#include <cstdint>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace holdfast::inventory {

struct GpuProcess {
  int pid = 0;
  std::uint64_t bytes = 0;
};

/// A device that work can be given to: a whole one, or a MIG instance.
struct Gpu {
  std::string id;      ///< As CUDA_VISIBLE_DEVICES names it in the order of PCI addresses: "0", or a MIG instance's UUID.
  std::string vendor;  ///< "nvidia" or "amd".
  std::string uuid;
  std::string name;
  std::string pci;
  std::string arch;         ///< Compute capability, "9.0"; empty where nobody says.
  std::string parent;       ///< The UUID of the device that it is an instance of.
  int numa = -1;            ///< Node; -1 where nobody says.
  std::uint64_t total = 0;  ///< Bytes.
  std::uint64_t used = 0;
  std::uint64_t uncorrected = 0;  ///< ECC errors since the driver was loaded.
  bool lists_processes = false;
  std::vector<GpuProcess> processes;
  std::string problem;  ///< Why it cannot be used; empty if it can.
};

/// Something that a device has said of itself.
struct GpuEvent {
  std::string uuid;
  int xid = 0;  ///< 0 for an ECC error.
};

/// One vendor's way to look. Not thread-safe.
class GpuSource {
 public:
  virtual ~GpuSource() = default;
  /// All devices, as they are now. One that does not answer has a `problem`.
  virtual std::vector<Gpu> look() = 0;
  /// What they have said since the last call; does not wait.
  virtual std::vector<GpuEvent> events() { return {}; }
};

/// Every source that works here. `problems`: a line for each library that is there and does not work.
std::vector<std::unique_ptr<GpuSource>> open_gpu_sources(std::vector<std::string>& problems);
std::unique_ptr<GpuSource> open_nvml(std::string& problem);
std::unique_ptr<GpuSource> open_rocm_smi(std::string& problem);
std::unique_ptr<GpuSource> open_nvidia_smi(std::string& problem);
std::unique_ptr<GpuSource> open_rocm_smi_program(std::string& problem);

/// What `nvidia-smi --query-gpu=... --format=csv` and `rocm-smi --json` print. Lines that are none are left out.
std::vector<Gpu> read_nvidia_smi(const std::string& text);
std::vector<Gpu> read_rocm_smi(const std::string& text);

nlohmann::json to_json(const Gpu& gpu);
Gpu gpu_of_json(const nlohmann::json& object);

}  // namespace holdfast::inventory
