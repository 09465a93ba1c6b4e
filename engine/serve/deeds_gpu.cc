// Faults of GPUs: on the service's page, which the shim in front of CUDA and NVML looks at, and a line in the kernel's log for
// an XID.
#include <fmt/format.h>

#include <algorithm>

#include "fault/control.h"
#include "serve/deeds.h"

namespace holdfast::serve {

namespace {

struct Close {
  void operator()(hf_control* page) const { hf_control_close(page); }
};
using Page = std::unique_ptr<hf_control, Close>;

/// What a report function writes, whole.
template <typename Write>
Json read_json(Write write) {
  std::string text(1 << 16, '\0');
  std::size_t length = write(text.data(), text.size());
  while (length >= text.size()) {
    text.resize(length + 4096);  // It may grow meanwhile.
    length = write(text.data(), text.size());
  }
  text.resize(length);
  return Json::parse(text, nullptr, false);
}

// The types of upstream's API by what they come to here. Severity is low, medium or high.
struct Kind {
  const char* type;
  const char* kind;
  const char* functions;
  double by_severity[3];  ///< Seconds of a delay, or a probability.
};
constexpr Kind kKinds[] = {
    {"xid_error", "error", nullptr, {1, 1, 1}},
    {"error", "error", nullptr, {1, 1, 1}},
    {"memory_pressure", "error", "alloc", {0.1, 0.5, 1}},
    {"throttle", "delay", "launch,graph", {0.001, 0.01, 0.1}},
    {"overheat", "delay", "launch,graph", {0.001, 0.01, 0.1}},
    {"compute_overload", "delay", "launch,graph,sync", {0.001, 0.01, 0.1}},
    {"hang", "hang", nullptr, {1, 1, 1}},
    {"corrupt", "corrupt", nullptr, {1, 1, 1}},
};

class GpuDeed : public Deed {
 public:
  GpuDeed(Page page, std::string path, std::int64_t fault, KernelLog& kernel, std::string line)
      : page_(std::move(page)), path_(std::move(path)), fault_(fault), kernel_(kernel), line_(std::move(line)) {}

  std::vector<Change> changes() override {
    Change change;
    change.what = fmt::format("fault {} on the page {}", fault_, path_);
    change.undo = {{"do", "heal"}, {"page", path_}, {"fault", fault_}};
    std::vector<Change> changes{change};
    if (!line_.empty() && kernel_.where() != "none") {
      change.what = fmt::format("a line in {}: {}", kernel_.where(), line_);
      change.undo = {{"do", "nothing"}, {"why", "a line in a log stays there"}};
      changes.push_back(change);
    }
    return changes;
  }
  // CUDA first: while a monitor reads the line, the program must already see what it says.
  Status trigger() override {
    hf_control_switch(page_.get(), fault_, 1);
    return line_.empty() ? Status() : kernel_.write(line_);
  }
  Json verify() override {
    Json report = read_json([this](char* text, std::size_t size) { return hf_control_report(page_.get(), text, size); });
    Json evidence = {{"processes", report.value("attached", 0)}};
    if (!line_.empty()) evidence["kernel_log"] = {{"where", kernel_.where()}, {"line", line_}};
    bool struck = false;
    for (const Json& entry : report.value("faults", Json::array())) {
      if (entry.value("id", std::int64_t{0}) != fault_) continue;
      for (const char* name : {"watched", "struck", "occurred", "first"}) evidence[name] = entry.value(name, Json());
      struck = entry.value("struck", std::int64_t{0}) > 0;
    }
    return {{"verified", struck}, {"evidence", evidence}};
  }

 private:
  Page page_;
  std::string path_;
  std::int64_t fault_;
  KernelLog& kernel_;
  std::string line_;
};

/// The texts that a wish points to must outlive it.
struct Wish {
  hf_wish wish{};
  std::string name, reach, functions, uuid;
};

/// Which of the machine's devices a request means; -1: nobody knows. `gpu_id` counts as the machine does, so where its devices
/// are known the fault goes by UUID: a process with CUDA_VISIBLE_DEVICES counts otherwise.
int find_gpu(const Settings& settings, Wish& wish) {
  int gpu = wish.wish.device;
  if (!wish.uuid.empty()) {
    auto is_it = [&wish](const Device& device) { return device.uuid.rfind(wish.uuid, 0) == 0; };
    auto found = std::find_if(settings.devices.begin(), settings.devices.end(), is_it);
    return found == settings.devices.end() ? -1 : static_cast<int>(found - settings.devices.begin());
  }
  if (gpu < 0 || static_cast<std::size_t>(gpu) >= settings.devices.size()) return gpu;
  wish.uuid = settings.devices[static_cast<std::size_t>(gpu)].uuid;
  if (wish.uuid.empty()) return gpu;
  wish.wish.uuid = wish.uuid.c_str();
  wish.wish.device = -1;
  return gpu;
}

/// What a request adds to the driver's line, so that whoever reads that can tell whose it is.
std::string mark_of(const Json& body, std::string& problem) {
  std::string mark = text_of(body, "mark", "", problem);
  bool printable = std::all_of(mark.begin(), mark.end(), [](char c) { return c >= ' ' && c <= '~'; });
  if (!printable || mark.size() > 100) problem = "mark: up to 100 printable ASCII characters, in one line";
  return mark.empty() ? "" : fmt::format(" [{}]", mark);
}

std::string kernel_line(const Settings& settings, int gpu, int xid) {
  std::string text;
  for (const Json& entry : xid_table()) {
    if (entry.value("xid", 0) == xid) text = entry.value("text", "");
  }
  bool known = static_cast<std::size_t>(gpu) < settings.devices.size();
  std::string pci = known ? settings.devices[static_cast<std::size_t>(gpu)].pci : fmt::format("0000:{:02x}:00", gpu + 1);
  // As the driver writes it: four digits of the domain, of which NVML gives eight, and no function.
  if (std::size_t dot = pci.rfind('.'); dot != std::string::npos) pci.resize(dot);
  if (std::size_t colon = pci.find(':'); colon > 4 && colon != std::string::npos) pci.erase(0, colon - 4);
  return fmt::format("NVRM: Xid (PCI:{}): {}, {}", pci, xid, text);
}

const Kind* kind_of(const std::string& type) {
  for (const Kind& kind : kKinds) {
    if (type == kind.type) return &kind;
  }
  return nullptr;
}

int severity_of(const Json& body, std::string& problem) {
  std::string severity = text_of(body, "severity", "medium", problem);
  for (int i = 0; i < 3; ++i) {
    if (severity == (const char*[]){"low", "medium", "high"}[i]) return i;
  }
  problem = fmt::format("severity: '{}' is none of low, medium, high", severity);
  return 1;
}

void fill(Wish& wish, const Json& body, const Kind& kind, const std::string& type, std::string& problem) {
  constexpr double kMost = 9e15;
  hf_wish& to = wish.wish;
  double by_severity = kind.by_severity[severity_of(body, problem)];
  wish.name = type;
  wish.functions = text_of(body, "functions", kind.functions != nullptr ? kind.functions : "", problem);
  wish.reach = text_of(body, "reach", "", problem);
  wish.uuid = text_of(body, "uuid", "", problem);
  to.name = wish.name.c_str();
  to.kind = kind.kind;
  to.reach = wish.reach.empty() ? nullptr : wish.reach.c_str();
  to.functions = wish.functions.empty() ? nullptr : wish.functions.c_str();
  to.uuid = wish.uuid.empty() ? nullptr : wish.uuid.c_str();
  to.pid = static_cast<std::int32_t>(number_of(body, "pid", -1, 0, 4194304, problem));
  to.rank = static_cast<std::int32_t>(number_of(body, "rank", -1, 0, 1 << 24, problem));
  to.device = wish.uuid.empty() ? static_cast<std::int32_t>(number_of(body, "gpu_id", 0, 0, 63, problem)) : -1;
  to.xid = static_cast<std::int32_t>(number_of(body, "xid_type", 0, 1, 1000, problem));
  bool memory = type == "memory_pressure";
  auto code = static_cast<std::int32_t>(number_of(body, "code", memory ? 2 : 0, 1, 1 << 20, problem));
  to.driver = to.runtime = code;
  to.after = static_cast<std::uint64_t>(number_of(body, "after_calls", 0, 0, kMost, problem));
  to.times = static_cast<std::uint64_t>(number_of(body, "times", 0, 1, kMost, problem));
  to.seed = static_cast<std::uint64_t>(number_of(body, "seed", 0, 0, kMost, problem));
  to.wait_ns = static_cast<std::uint64_t>(number_of(body, "after_seconds", 0, 0, 1e9, problem) * 1e9);
  to.probability = number_of(body, "probability", memory ? by_severity : 1, 0, 1, problem);
  bool delay = std::string(kind.kind) == "delay";
  to.delay_ns = static_cast<std::uint64_t>(number_of(body, "seconds", delay ? by_severity : 0, 0, 1e6, problem) * 1e9);
}

}  // namespace

Json xid_table() {
  return read_json([](char* text, std::size_t size) { return hf_control_xids(text, size); });
}

Result<std::unique_ptr<Deed>> make_gpu_deed(const Settings& settings, KernelLog& kernel, const Json& body, std::string& type,
                                            std::string& target) {
  std::string problem;
  std::string asked = text_of(body, "fault_type", "", problem);
  const Kind* kind = kind_of(asked);
  if (problem.empty() && kind == nullptr) {
    problem = fmt::format("fault_type: '{}' is none of", asked);
    for (const Kind& known : kKinds) problem += fmt::format(" {}", known.type);
  }
  if (problem.empty() && asked == "xid_error" && !body.contains("xid_type")) problem = "xid_type: which XID?";
  bool told = flag_of(body, "kernel_log", true, problem);
  if (!problem.empty()) return fail(ErrorKind::UserMistake, problem);
  Wish wish;
  fill(wish, body, *kind, asked, problem);
  std::string mark = mark_of(body, problem);
  if (!problem.empty()) return fail(ErrorKind::UserMistake, problem);
  int gpu = find_gpu(settings, wish);
  if (gpu >= 0 && !settings.devices.empty() && static_cast<std::size_t>(gpu) >= settings.devices.size()) {
    return fail(ErrorKind::GiveUpTest,
                fmt::format("gpu_id: there is no GPU {}; they are 0 to {}", gpu, settings.devices.size() - 1));
  }
  char said[512] = "";
  Page page(hf_control_open(settings.page.c_str(), said, sizeof said));
  if (page == nullptr) return fail(ErrorKind::StopRun, said);
  std::int64_t fault = hf_control_add(page.get(), &wish.wish, 0, said, sizeof said);
  if (fault < 0) return fail(ErrorKind::UserMistake, said);
  int xid = wish.wish.xid;
  type = xid != 0 ? fmt::format("gpu_xid_{}", xid) : "gpu_" + asked;
  target = fmt::format("{}/{}", settings.node, gpu >= 0 ? fmt::format("gpu{}", gpu) : wish.uuid);
  std::string line = xid != 0 && told ? kernel_line(settings, gpu < 0 ? 0 : gpu, xid) + mark : "";
  return std::unique_ptr<Deed>(new GpuDeed(std::move(page), settings.page, fault, kernel, std::move(line)));
}

}  // namespace holdfast::serve
