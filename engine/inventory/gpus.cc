#include "inventory/gpus.h"

#include "wire/fields.h"

namespace holdfast::inventory {

std::vector<std::unique_ptr<GpuSource>> open_gpu_sources(std::vector<std::string>& problems) {
  std::vector<std::unique_ptr<GpuSource>> sources;
  // The library first; its vendor's program only where there is no such library.
  using Open = std::unique_ptr<GpuSource> (*)(std::string& problem);
  for (auto [library, program] : {std::pair<Open, Open>{open_nvml, open_nvidia_smi}, {open_rocm_smi, open_rocm_smi_program}}) {
    std::string problem;
    std::unique_ptr<GpuSource> source = library(problem);
    if (source == nullptr && problem.empty()) source = program(problem);
    if (source != nullptr) sources.push_back(std::move(source));
    if (!problem.empty()) problems.push_back(problem);
  }
  return sources;
}

nlohmann::json to_json(const Gpu& gpu) {
  nlohmann::json processes = nlohmann::json::array();
  for (const GpuProcess& process : gpu.processes) processes.push_back({process.pid, process.bytes});
  return {{"id", gpu.id},
          {"vendor", gpu.vendor},
          {"uuid", gpu.uuid},
          {"name", gpu.name},
          {"pci", gpu.pci},
          {"arch", gpu.arch},
          {"parent", gpu.parent},
          {"numa", gpu.numa},
          {"total", gpu.total},
          {"used", gpu.used},
          {"uncorrected", gpu.uncorrected},
          {"lists_processes", gpu.lists_processes},
          {"processes", std::move(processes)},
          {"problem", gpu.problem}};
}

Gpu gpu_of_json(const nlohmann::json& object) {
  Gpu gpu;
  gpu.id = object.value("id", "");
  gpu.vendor = object.value("vendor", "");
  gpu.uuid = object.value("uuid", "");
  gpu.name = object.value("name", "");
  gpu.pci = object.value("pci", "");
  gpu.arch = object.value("arch", "");
  gpu.parent = object.value("parent", "");
  gpu.numa = object.value("numa", -1);
  gpu.total = object.value("total", std::uint64_t{0});
  gpu.used = object.value("used", std::uint64_t{0});
  gpu.uncorrected = object.value("uncorrected", std::uint64_t{0});
  gpu.lists_processes = object.value("lists_processes", false);
  for (const nlohmann::json& process : object.value("processes", nlohmann::json::array())) {
    gpu.processes.push_back({process.at(0).get<int>(), process.at(1).get<std::uint64_t>()});
  }
  gpu.problem = object.value("problem", "");
  return gpu;
}

}  // namespace holdfast::inventory
