// Result<T>: the one way in which a function of the engine fails. Ours never throw.
#pragma once

#include <fmt/format.h>

#include <cerrno>
#include <cstring>
#include <string>
#include <tl/expected.hpp>
#include <utility>

namespace holdfast {

/// What the caller should do about an error. Classified by reaction, not by errno.
enum class ErrorKind {
  UserMistake,  ///< An option, a file or the environment is wrong: say it, exit code 4.
  GiveUpTest,   ///< This test (or its process) cannot go on; the others can.
  StopRun,      ///< The engine can no longer keep its promises: stop, keep what is recorded.
};

/// A failed operation. `what` is a lower-case fragment that reads after "failed to".
struct Error {
  ErrorKind kind = ErrorKind::StopRun;
  std::string what;
  int sys_errno = 0;

  /// The message with the system's reason, if there is one.
  [[nodiscard]] std::string message() const {
    return sys_errno == 0 ? what : fmt::format("{}: {}", what, std::strerror(sys_errno));
  }
};

template <typename T>
using Result = tl::expected<T, Error>;
using Status = Result<void>;

inline tl::unexpected<Error> fail(ErrorKind kind, std::string what) {
  return tl::unexpected<Error>(Error{kind, std::move(what), 0});
}

/// Takes the reason from errno, so call it before anything else can change errno.
inline tl::unexpected<Error> fail_errno(ErrorKind kind, std::string what) {
  int saved = errno;
  return tl::unexpected<Error>(Error{kind, std::move(what), saved});
}

}  // namespace holdfast

/// Returns the error of `expr` to the caller, if there is one. For functions that return a Result.
#define HOLDFAST_TRY(expr)                                                      \
  do {                                                                          \
    if (auto try_status_ = (expr); !try_status_) {                              \
      return tl::unexpected<::holdfast::Error>(std::move(try_status_).error()); \
    }                                                                           \
  } while (false)
