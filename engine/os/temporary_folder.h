// A folder of its own in the temporary directory, which goes with its owner.
#pragma once

#include <string>
#include <string_view>

#include "base/result.h"

namespace holdfast::os {

class TemporaryFolder {
 public:
  /// None, until one is moved here.
  TemporaryFolder() = default;
  /// Below TMPDIR or /tmp, for our user only; its name begins with `prefix`.
  static Result<TemporaryFolder> make(std::string_view prefix);
  /// Removes it, with all that is in it.
  ~TemporaryFolder();
  TemporaryFolder(TemporaryFolder&& other) noexcept;
  TemporaryFolder& operator=(TemporaryFolder&& other) noexcept;
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;

  /// Empty for none.
  [[nodiscard]] const std::string& path() const { return path_; }

 private:
  std::string path_;
};

}  // namespace holdfast::os
