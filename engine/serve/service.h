// `holdfast faultd` and `holdfast sweep`.
#pragma once

#include <string>

namespace holdfast::serve {

struct ServiceOptions {
  std::string state;  ///< Folder; empty: below the user's state folder.
  std::string listen = "127.0.0.1:8080";
  std::string token_file;  ///< Empty: `token` in the state folder, made anew.
  std::string certificate, key;
  std::string kernel_log = "auto";
  std::string node;
  double limit = 3600;  ///< Seconds.
};

/// Serves until it is told to end; then everything is undone. Returns the exit code.
int serve_faults(const ServiceOptions& options);
/// Undoes what a service that is no more has left. Returns the exit code.
int sweep(const ServiceOptions& options);

}  // namespace holdfast::serve
