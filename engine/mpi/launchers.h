// Launchers: a Launch for each world.
#pragma once

#include <list>
#include <map>
#include <memory>
#include <string>

#include "mpi/launch.h"

namespace holdfast::mpi {

class Launchers final : public Manager {
 public:
  /// `on_lost`: the launcher of that world has given up its ranks.
  using OnLost = std::function<void(const std::string& world)>;
  Launchers(os::Loop& loop, LaunchCommand command, OnLost on_lost)
      : loop_(loop), command_(std::move(command)), on_lost_(std::move(on_lost)) {}
  /// Gives those that are ending three seconds to be gone: killed, they leave their files.
  ~Launchers() override;

  void begin(const std::string& world, int size, OnBegun then) override;
  void end(const std::string& world) override;
  bool explain(const std::string& world, const OnWords& then) override;
  [[nodiscard]] bool owns(pid_t pid) const override;

 private:
  os::Loop& loop_;
  LaunchCommand command_;
  OnLost on_lost_;
  std::map<std::string, std::unique_ptr<Launch>> launches_;  ///< By world.
};

/// `holdfast lend NAME`: what a launcher starts for each rank. Lends the engine that listens under that name what it was given,
/// and waits for it. Returns the exit code: 0 when the engine has said so.
int lend(const std::string& name);

}  // namespace holdfast::mpi
