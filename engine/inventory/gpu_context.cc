// Whether a GPU can be used: a context, a little memory, a copy there and back. By the driver's own functions, in a process
// that is there for this alone. Names and numbers are from the public references of the CUDA driver API and of HIP.
#include <dlfcn.h>
#include <fmt/format.h>
#include <signal.h>
#include <sys/prctl.h>

#include <array>
#include <cstdio>

#include "inventory/gpu_helper.h"

namespace holdfast::inventory {

namespace {

constexpr int kOutOfMemory = 2;  // Of both: somebody else has it all, and that is not the device's fault.

class Driver {
 public:
  explicit Driver(void* library) : library_(library) {}

  /// False once something has failed; then nothing more is called.
  template <typename Function, typename... Arguments>
  bool call(const char* name, Arguments... arguments) {
    if (failed()) return false;
    auto function = reinterpret_cast<Function*>(::dlsym(library_, name));
    code_ = function == nullptr ? -1 : function(arguments...);
    if (code_ != 0) at_ = name;
    return code_ == 0;
  }
  [[nodiscard]] bool failed() const { return code_ != 0; }
  void give_up(const char* why) {
    code_ = -1;
    at_ = why;
  }
  int end(const char* error_name) {
    if (!failed() || code_ == kOutOfMemory) return 0;
    const char* text = nullptr;
    if (auto function = reinterpret_cast<int (*)(int, const char**)>(::dlsym(library_, error_name)); function != nullptr)
      function(code_, &text);
    std::fputs(fmt::format("{}: {} ({})", at_, text == nullptr ? "failed" : text, code_).c_str(), stdout);
    return 1;
  }

 private:
  void* library_;
  int code_ = 0;
  const char* at_ = "";
};

constexpr unsigned kPattern = 0x5a5a5a5a;
constexpr std::size_t kWords = 1024;

int probe_cuda(void* library) {
  using Pointer = unsigned long long;
  Driver driver(library);
  int device = 0;
  void* context = nullptr;
  Pointer memory = 0;
  std::array<unsigned, kWords> back{};
  driver.call<int(unsigned)>("cuInit", 0U);
  driver.call<int(int*, int)>("cuDeviceGet", &device, 0);
  driver.call<int(void**, int)>("cuDevicePrimaryCtxRetain", &context, device);
  driver.call<int(void*)>("cuCtxSetCurrent", context);
  driver.call<int(Pointer*, std::size_t)>("cuMemAlloc_v2", &memory, sizeof back);
  driver.call<int(Pointer, unsigned, std::size_t)>("cuMemsetD32_v2", memory, kPattern, back.size());
  driver.call<int(void*, Pointer, std::size_t)>("cuMemcpyDtoH_v2", static_cast<void*>(back.data()), memory, sizeof back);
  driver.call<int()>("cuCtxSynchronize");
  if (!driver.failed() && back.back() != kPattern) driver.give_up("what was written to it does not come back");
  driver.call<int(Pointer)>("cuMemFree_v2", memory);
  return driver.end("cuGetErrorString");
}

int probe_hip(void* library) {
  Driver driver(library);
  void* memory = nullptr;
  std::array<unsigned, kWords> back{};
  driver.call<int(unsigned)>("hipInit", 0U);
  driver.call<int(int)>("hipSetDevice", 0);
  driver.call<int(void**, std::size_t)>("hipMalloc", &memory, sizeof back);
  driver.call<int(void*, int, std::size_t)>("hipMemsetD32", memory, static_cast<int>(kPattern), back.size());
  driver.call<int(void*, void*, std::size_t)>("hipMemcpyDtoH", static_cast<void*>(back.data()), memory, sizeof back);
  driver.call<int()>("hipDeviceSynchronize");
  if (!driver.failed() && back.back() != kPattern) driver.give_up("what was written to it does not come back");
  driver.call<int(void*)>("hipFree", memory);
  return driver.end("hipDrvGetErrorString");
}

}  // namespace

int probe_gpu(const std::string& vendor) {
  // A driver may keep it for ever; then it goes with the process that asked.
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  void* library = ::dlopen(vendor == "amd" ? "libamdhip64.so" : "libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) {
    // Nobody can use it by that library here, so nothing is known against the device.
    return 0;
  }
  return vendor == "amd" ? probe_hip(library) : probe_cuda(library);
}

}  // namespace holdfast::inventory
