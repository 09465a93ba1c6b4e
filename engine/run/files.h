// ProcessFiles: the memory files that a zygote and its forks write to and the engine reads, also after their death.
#pragma once

#include <cstring>
#include <string>
#include <vector>

#include "os/sys.h"
#include "run/slate.h"

namespace holdfast::run {

class ProcessFiles {
 public:
  /// Fails only for want of descriptors or memory.
  static Result<ProcessFiles> open() {
    ProcessFiles files;
    struct {
      os::Fd* fd;
      const char* name;
      std::size_t size;
    } const wanted[] = {{&files.out, "holdfast-stdout", 0},
                        {&files.err, "holdfast-stderr", 0},
                        {&files.stacks, "holdfast-stacks", 0},
                        {&files.slate_file, "holdfast-slate", kSlateSize},
                        {&files.findings, "holdfast-findings", 0}};
    for (const auto& [fd, name, size] : wanted) {
      Result<os::Fd> opened = os::open_memfd(name, size);
      if (!opened) return tl::unexpected<Error>(opened.error());
      *fd = std::move(*opened);
    }
    Result<os::Mapping> mapping = os::Mapping::open(files.slate_file.get(), kSlateSize);
    if (!mapping) return tl::unexpected<Error>(mapping.error());
    files.page_ = std::move(*mapping);
    return files;
  }

  /// Empties everything, for the next test. What wrote to the files before must be dead.
  void clear() {
    for (const os::Fd* fd : {&out, &err, &stacks, &findings}) os::rewind_and_empty(fd->get());
    std::memset(page_.data(), 0, sizeof(Slate));
    std::memset(static_cast<char*>(page_.data()) + kTrail, 0, sizeof(std::uint64_t));
  }

  /// A copy of what stands behind the slate.
  [[nodiscard]] std::string trail() const {
    return std::string(static_cast<const char*>(page_.data()) + kTrail, kSlateSize - kTrail);
  }

  /// A copy of the page, which its writers may change at any time.
  [[nodiscard]] Slate slate() const {
    Slate copy;
    std::memcpy(&copy, page_.data(), sizeof copy);
    return copy;
  }

  /// In the order in which they are handed to a zygote (protocol/README.md).
  [[nodiscard]] std::vector<int> descriptors() const { return {out.get(), err.get(), stacks.get(), slate_file.get()}; }

  os::Fd out, err, stacks, slate_file;
  os::Fd findings;  ///< Of the tool that the test runs under; only for slots.

 private:
  os::Mapping page_;
};

}  // namespace holdfast::run
