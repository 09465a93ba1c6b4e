// PmiServers: a PmiServer for each world, in this process.
#pragma once

#include <map>
#include <memory>
#include <string>

#include "mpi/manager.h"
#include "mpi/pmi_server.h"
#include "os/loop.h"

namespace holdfast::mpi {

class PmiServers final : public Manager {
 public:
  PmiServers(os::Loop& loop, OnAbort on_abort) : loop_(loop), on_abort_(std::move(on_abort)) {}

  void begin(const std::string& world, int size, OnBegun then) override;
  void end(const std::string& world) override;
  [[nodiscard]] int absent(const std::string& world) const override;

 private:
  Begun open(const std::string& world, int size);

  os::Loop& loop_;
  OnAbort on_abort_;
  std::map<std::string, std::shared_ptr<PmiServer>> servers_;  ///< By world.
};

}  // namespace holdfast::mpi
