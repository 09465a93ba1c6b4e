#include "mpi/launchers.h"

#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <utility>

#include "os/passing.h"
#include "os/sys.h"

namespace holdfast::mpi {

namespace {

// mpirun takes a second between asking its processes to end and killing them.
constexpr int kLastWaitMs = 3000;

}  // namespace

Launchers::~Launchers() {
  for (auto& [world, launch] : launches_) launch->end();
  os::Time deadline = loop_.clock().now() + std::chrono::milliseconds(kLastWaitMs);
  for (auto& [world, launch] : launches_) {
    auto rest = std::chrono::duration_cast<std::chrono::milliseconds>(deadline - loop_.clock().now()).count();
    launch->wait(std::max(0, static_cast<int>(rest)));
  }
}

void Launchers::begin(const std::string& world, int size, OnBegun then) {
  launches_[world] = std::make_unique<Launch>(
      loop_, command_, size,
      Launch::Host{std::move(then), [this, world] { on_lost_(world); }, [this, world] { launches_.erase(world); }});
}

void Launchers::end(const std::string& world) {
  if (auto found = launches_.find(world); found != launches_.end()) found->second->end();
}

bool Launchers::explain(const std::string& world, const OnWords& then) {
  auto found = launches_.find(world);
  return found != launches_.end() && found->second->explain(then);
}

bool Launchers::owns(pid_t pid) const {
  for (const auto& [world, launch] : launches_) {
    if (launch->owns(pid)) return true;
  }
  return false;
}

int lend(const std::string& name) {
  Result<os::Fd> engine = os::dial_name(name);
  if (!engine) {
    std::fprintf(stderr, "holdfast lend: failed to %s (this command is for the engine's launchers)\n",
                 engine.error().message().c_str());
    return 1;
  }
  std::vector<os::Fd> fds;
  // The simple PMI client's socket, which was inherited: the rank is to have it.
  if (const char* pmi = ::getenv("PMI_FD")) fds.emplace_back(::dup(std::atoi(pmi)));
  if (!fds.empty() && !fds.front().valid()) fds.clear();
  nlohmann::json frame = {{"t", "lend"}, {"environment", os::own_variables()}};
  std::string bytes = wire::encode(frame.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace));
  for (std::size_t sent = 0; sent < bytes.size();) {
    pollfd room{engine->get(), POLLOUT, 0};
    ::poll(&room, 1, -1);
    ssize_t n = os::send_with_fds(engine->get(), bytes.data() + sent, bytes.size() - sent, fds);
    if (n < 0 && errno != EAGAIN && errno != EINTR) return 1;
    if (n > 0) sent += static_cast<std::size_t>(n);
    if (n > 0) fds.clear();
  }
  char word = 0;
  return ::read(engine->get(), &word, 1) == 1 ? 0 : 1;
}

}  // namespace holdfast::mpi
