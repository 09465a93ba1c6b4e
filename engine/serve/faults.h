// The faults of a fault service: armed, triggered, verified, healed; each in one place, with what it has changed. No sockets
// here.
//
// It promises: no change is made before its undo is on disk; every fault ends, by its duration or the service's limit; a fault
// that fails halfway is undone.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/result.h"
#include "serve/kernel_log.h"
#include "serve/undo_log.h"

namespace holdfast::serve {

using Json = nlohmann::json;

/// What became of a request: a status of HTTP, and what is said.
struct Reply {
  int status = 200;
  Json body;
};
Reply refuse(int status, std::string detail);

struct Device {
  std::string uuid, pci;
};

struct Settings {
  std::string node;             ///< What this machine is called.
  std::string page;             ///< The page for CUDA faults; it exists.
  std::vector<Device> devices;  ///< Of this machine, by number; empty where nobody knows.
  double limit = 3600;          ///< Seconds that a fault may last.
};

class Link;
/// The namespaces that this service has made and that are there still, by name.
using Networks = std::map<std::string, std::weak_ptr<Link>>;

/// Something that a fault does to the machine.
class Deed {
 public:
  virtual ~Deed() = default;
  /// What will be changed, with its undo, before it is done.
  [[nodiscard]] virtual std::vector<Change> changes() = 0;
  /// Does it. `problem` in words.
  virtual Status trigger() = 0;
  /// Whether it has had an effect: {"verified": true|false, "evidence": {...}}.
  [[nodiscard]] virtual Json verify() = 0;
  /// Called about every 50 ms while it lasts.
  virtual void tick() {}
  /// Before its changes are undone.
  virtual void stop() {}
};

class Faults {
 public:
  Faults(Settings settings, UndoLog log, KernelLog kernel);
  ~Faults();

  /// POST .../inject: `kind` is gpu, process, memory, disk, network or network/namespace. `now`: seconds since 1970.
  Reply inject(const std::string& kind, Json body, double now);
  Reply trigger(const std::string& id, double now);
  Reply verify(const std::string& id);
  Reply recover(const std::string& id, double now);
  [[nodiscard]] Reply show(const std::string& id) const;
  [[nodiscard]] Reply list(bool active_only) const;
  [[nodiscard]] Json health() const;
  [[nodiscard]] Json environment() const;
  /// The machine, and the faults on it, in numbers.
  [[nodiscard]] Json measure() const;
  /// In Prometheus' text format.
  [[nodiscard]] std::string metrics() const;
  /// Ends what has lasted long enough. Call about every 50 ms.
  void tick(double now);
  /// Undoes everything: the service ends.
  void end(double now);

 private:
  struct Fault;
  Result<std::unique_ptr<Deed>> make(const std::string& kind, const Json& body, Fault& fault);
  Status begin(Fault& fault, double now);
  void finish(Fault& fault, const std::string& status, double now);
  Fault* find(const std::string& id) const;
  void forget_old();

  Settings settings_;
  UndoLog log_;
  KernelLog kernel_;
  Networks networks_;  ///< Before the faults, which refer to it.
  std::map<std::string, std::unique_ptr<Fault>> faults_;
  std::vector<std::string> order_;  ///< Ids, the oldest first.
  std::map<std::string, std::int64_t> injected_, failed_;
  std::int64_t recovered_ = 0;
};

}  // namespace holdfast::serve
