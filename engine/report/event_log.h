// EventLog: --hf-log, one JSON object a line. Exactly one {"event":"verdict"} a test. Described in docs/log.md.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "base/result.h"
#include "os/fd.h"

namespace holdfast::report {

/// One of the six seams: who hears of what happened.
class Reporter {
 public:
  virtual ~Reporter() = default;
  virtual Status record(const nlohmann::ordered_json& event) = 0;
};

class EventLog final : public Reporter {
 public:
  /// Truncates the file. An empty path gives a log that writes nothing.
  static Result<EventLog> open(const std::string& path);
  Status record(const nlohmann::ordered_json& event) override;

 private:
  EventLog(std::string path, os::Fd fd) : path_(std::move(path)), fd_(std::move(fd)) {}
  std::string path_;
  os::Fd fd_;
};

}  // namespace holdfast::report
