#include "inventory/visible_gpus.h"

#include <fmt/format.h>

#include <algorithm>
#include <sstream>

namespace holdfast::inventory {

namespace {

std::vector<std::string> entries_of(const std::string& list) {
  std::vector<std::string> entries;
  std::istringstream parts(list);
  for (std::string part; std::getline(parts, part, ',');) {
    std::size_t begin = part.find_first_not_of(' ');
    part = begin == std::string::npos ? "" : part.substr(begin, part.find_last_not_of(' ') - begin + 1);
    if (part == "-1") break;
    entries.push_back(part);
  }
  return entries;
}

Error wrong(const char* variable, const std::string& what) {
  return Error{ErrorKind::UserMistake, fmt::format("{} {}", variable, what)};
}

// Those of one vendor that a list leaves over.
Result<std::vector<Gpu>> choose(const std::vector<Gpu>& all, const char* variable, const char* value) {
  if (value == nullptr) return all;
  std::vector<Gpu> chosen;
  for (const std::string& entry : entries_of(value)) {
    std::vector<Gpu> found;
    bool is_number = !entry.empty() && entry.find_first_not_of("0123456789") == std::string::npos;
    for (std::size_t i = 0; i < all.size(); ++i) {
      bool same = is_number ? all[i].id == entry || (all[i].id.empty() && entry == std::to_string(i))
                            : entry.size() > 4 && all[i].uuid.rfind(entry, 0) == 0;
      if (same) found.push_back(all[i]);
    }
    if (found.empty()) {
      return tl::unexpected(wrong(variable, fmt::format("is {:?}, and there is no GPU {:?} among the {} that can be seen here "
                                                        "(`holdfast devices` lists them)",
                                                        value, entry, all.size())));
    }
    if (found.size() > 1)
      return tl::unexpected(wrong(variable, fmt::format("is {:?}, and {:?} begins the UUIDs of several GPUs", value, entry)));
    for (const Gpu& other : chosen) {
      if (other.uuid == found.front().uuid)
        return tl::unexpected(wrong(variable, fmt::format("is {:?}, which names GPU {} twice", value, other.id)));
    }
    chosen.push_back(found.front());
  }
  return chosen;
}

}  // namespace

Result<std::vector<Gpu>> visible_gpus(const std::vector<Gpu>& all, const Environment& environment) {
  std::vector<Gpu> nvidia;
  std::vector<Gpu> amd;
  for (const Gpu& gpu : all) (gpu.vendor == "amd" ? amd : nvidia).push_back(gpu);
  Result<std::vector<Gpu>> seen = nvidia;
  if (!nvidia.empty()) seen = choose(nvidia, "CUDA_VISIBLE_DEVICES", environment("CUDA_VISIBLE_DEVICES"));
  if (!seen || amd.empty()) return seen;
  Result<std::vector<Gpu>> rocr = choose(amd, "ROCR_VISIBLE_DEVICES", environment("ROCR_VISIBLE_DEVICES"));
  if (!rocr) return rocr;
  // HIP counts among those that ROCR leaves over.
  std::vector<Gpu> counted = *rocr;
  for (std::size_t i = 0; i < counted.size(); ++i) counted[i].id = std::to_string(i);
  const char* variable = environment("HIP_VISIBLE_DEVICES") != nullptr ? "HIP_VISIBLE_DEVICES" : "CUDA_VISIBLE_DEVICES";
  Result<std::vector<Gpu>> hip = choose(counted, variable, environment(variable));
  if (!hip) return hip;
  for (const Gpu& chosen : *hip) {
    auto same = std::find_if(amd.begin(), amd.end(), [&](const Gpu& gpu) { return gpu.uuid == chosen.uuid; });
    seen->push_back(*same);
  }
  return seen;
}

std::vector<std::pair<std::string, std::string>> environment_for(const std::vector<Gpu>& gpus) {
  std::vector<std::string> ids;
  std::vector<std::string> counted;
  for (std::size_t i = 0; i < gpus.size(); ++i) {
    ids.push_back(gpus[i].id);
    counted.push_back(std::to_string(i));
  }
  std::string list = fmt::format("{}", fmt::join(ids, ","));
  // On AMD's, HIP counts among those that ROCR leaves over.
  bool amd = !gpus.empty() && gpus.front().vendor == "amd";
  std::string behind = amd ? fmt::format("{}", fmt::join(counted, ",")) : list;
  std::vector<std::pair<std::string, std::string>> result = {
      {"CUDA_VISIBLE_DEVICES", behind}, {"HIP_VISIBLE_DEVICES", behind}, {"ROCR_VISIBLE_DEVICES", list},
      {"HOLDFAST_GPU_IDS", list},       {"FKIT_GPU_IDS", list},
  };
  // Without it CUDA counts the fastest first, and NVML does not.
  if (!gpus.empty() && !amd) result.emplace_back("CUDA_DEVICE_ORDER", "PCI_BUS_ID");
  return result;
}

}  // namespace holdfast::inventory
