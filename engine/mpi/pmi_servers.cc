#include "mpi/pmi_servers.h"

#include <utility>

namespace holdfast::mpi {

void PmiServers::begin(const std::string& world, int size, OnBegun then) {
  auto begun = std::make_shared<Begun>(open(world, size));
  loop_.call_after({}, [this, world, begun, then = std::move(then)] {
    if (!begun->problem.empty() || servers_.count(world) != 0) then(std::move(*begun));
  });
}

Manager::Begun PmiServers::open(const std::string& world, int size) {
  auto server =
      std::make_shared<PmiServer>(loop_, size, world, [this, world](int rank, int code) { on_abort_(world, rank, code); });
  Begun begun;
  for (int rank = 0; rank < size; ++rank) {
    Result<os::Fd> socket = server->connect(rank);
    if (!socket) {
      begun.problem = fmt::format("no socket for rank {}: {}", rank, socket.error().message());
      return begun;
    }
    begun.sockets.push_back(std::move(*socket));
    begun.environments.push_back({{"PMI_RANK", std::to_string(rank)}, {"PMI_SIZE", std::to_string(size)}});
  }
  servers_[world] = std::move(server);
  return begun;
}

int PmiServers::absent(const std::string& world) const {
  auto found = servers_.find(world);
  return found == servers_.end() ? -1 : found->second->absent();
}

void PmiServers::end(const std::string& world) {
  auto found = servers_.extract(world);
  // It may be what has called us.
  if (!found.empty()) loop_.call_after({}, [server = std::move(found.mapped())]() mutable { server.reset(); });
}

}  // namespace holdfast::mpi
