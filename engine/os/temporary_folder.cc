#include "os/temporary_folder.h"

#include <cstdlib>
#include <filesystem>
#include <system_error>
#include <utility>

namespace holdfast::os {

Result<TemporaryFolder> TemporaryFolder::make(std::string_view prefix) {
  std::error_code problem;
  std::filesystem::path base = std::filesystem::temp_directory_path(problem);
  if (problem) return tl::unexpected<Error>(Error{ErrorKind::StopRun, "find the temporary directory", problem.value()});
  std::string made = (base / prefix).string() + "-XXXXXX";
  if (::mkdtemp(made.data()) == nullptr)
    return fail_errno(ErrorKind::StopRun, fmt::format("make a folder in {}", base.string()));
  TemporaryFolder result;
  result.path_ = std::move(made);
  return result;
}

TemporaryFolder::~TemporaryFolder() {
  std::error_code ignored;
  if (!path_.empty()) std::filesystem::remove_all(path_, ignored);
}

TemporaryFolder::TemporaryFolder(TemporaryFolder&& other) noexcept : path_(std::exchange(other.path_, {})) {}

TemporaryFolder& TemporaryFolder::operator=(TemporaryFolder&& other) noexcept {
  std::swap(path_, other.path_);
  return *this;
}

}  // namespace holdfast::os
