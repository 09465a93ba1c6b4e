// Devices by the vendors' programs, where only those are there (some containers). They tell of no processes and no events.
#include <fmt/format.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <sstream>

#include "inventory/gpus.h"

namespace holdfast::inventory {

namespace {

constexpr const char* kNvidiaSmi =
    "nvidia-smi --query-gpu=index,uuid,name,memory.total,memory.used,pci.bus_id,compute_cap --format=csv,noheader,nounits "
    "2>/dev/null";
constexpr const char* kRocmSmi = "rocm-smi --showproductname --showuniqueid --showmeminfo vram --json 2>/dev/null";

bool is_installed(const std::string& program) {
  const char* path = ::getenv("PATH");
  std::istringstream folders(path == nullptr ? "" : path);
  for (std::string folder; std::getline(folders, folder, ':');) {
    folder.append("/").append(program);
    if (::access(folder.c_str(), X_OK) == 0) return true;
  }
  return false;
}

// What it prints; it has all the time it wants, for this process can be killed.
std::string output_of(const char* command) {
  std::string text;
  FILE* pipe = ::popen(command, "r");
  if (pipe == nullptr) return text;
  std::array<char, 4096> buffer{};
  for (std::size_t n = 0; (n = std::fread(buffer.data(), 1, buffer.size(), pipe)) > 0;) text.append(buffer.data(), n);
  ::pclose(pipe);
  return text;
}

class Program : public GpuSource {
 public:
  Program(const char* command, std::vector<Gpu> (*read)(const std::string&)) : command_(command), read_(read) {}
  std::vector<Gpu> look() override { return read_(output_of(command_)); }

 private:
  const char* command_;
  std::vector<Gpu> (*read_)(const std::string&);
};

std::string trimmed(const std::string& text) {
  std::size_t begin = text.find_first_not_of(" \t\r");
  return begin == std::string::npos ? "" : text.substr(begin, text.find_last_not_of(" \t\r") - begin + 1);
}

std::uint64_t number_of(const std::string& text) {
  return text.empty() || text.find_first_not_of("0123456789") != std::string::npos ? 0 : std::stoull(text.substr(0, 18));
}

}  // namespace

std::vector<Gpu> read_nvidia_smi(const std::string& text) {
  std::vector<Gpu> found;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    std::vector<std::string> cells;
    std::istringstream parts(line);
    for (std::string cell; std::getline(parts, cell, ',');) cells.push_back(trimmed(cell));
    if (cells.size() < 7 || cells[1].rfind("GPU-", 0) != 0) continue;
    Gpu gpu;
    gpu.vendor = "nvidia";
    gpu.id = cells[0];
    gpu.uuid = cells[1];
    gpu.name = cells[2];
    gpu.total = number_of(cells[3]) << 20U;
    gpu.used = number_of(cells[4]) << 20U;
    gpu.pci = cells[5];
    gpu.arch = cells[6];
    if (gpu.total == 0) gpu.problem = "nvidia-smi does not know its memory";
    found.push_back(std::move(gpu));
  }
  return found;
}

std::vector<Gpu> read_rocm_smi(const std::string& text) {
  std::vector<Gpu> found;
  nlohmann::json data = nlohmann::json::parse(text, nullptr, false);
  if (!data.is_object()) return found;
  for (const auto& [card, entry] : data.items()) {
    if (card.rfind("card", 0) != 0 || !entry.is_object()) continue;
    auto cell = [&entry = entry](const char* name) {
      auto value = entry.find(name);
      return value != entry.end() && value->is_string() ? value->get<std::string>() : std::string();
    };
    Gpu gpu;
    gpu.vendor = "amd";
    gpu.id = card.substr(4);
    gpu.uuid = cell("Unique ID").empty() ? "GPU-" + gpu.id : "GPU-" + cell("Unique ID").substr(2);
    gpu.name = !cell("Card Series").empty() ? cell("Card Series") : cell("Card series");
    gpu.total = number_of(cell("VRAM Total Memory (B)"));
    gpu.used = number_of(cell("VRAM Total Used Memory (B)"));
    if (gpu.total == 0) gpu.problem = "rocm-smi does not know its memory";
    found.push_back(std::move(gpu));
  }
  return found;
}

std::unique_ptr<GpuSource> open_nvidia_smi(std::string& /*problem*/) {
  if (!is_installed("nvidia-smi")) return nullptr;
  return std::make_unique<Program>(kNvidiaSmi, read_nvidia_smi);
}

std::unique_ptr<GpuSource> open_rocm_smi_program(std::string& /*problem*/) {
  if (!is_installed("rocm-smi")) return nullptr;
  return std::make_unique<Program>(kRocmSmi, read_rocm_smi);
}

}  // namespace holdfast::inventory
