#include "mpi/pmix_link.h"

#include <fmt/format.h>

#include <utility>

namespace holdfast::mpi {

namespace {

// Seconds. PMIx_server_init takes some tens of milliseconds, and what comes after it less than one.
constexpr double kLimit = 20;

// Open MPI 4 does not look for a PMIx server unless it thinks that a launcher which it knows has started it. (This one is
// IBM's jsrun. With the address of a daemon of its own, `OMPI_MCA_orte_local_daemon_uri`, it also tries to talk to that, and
// one rank in two hundred died in MPI_Finalize where CPUs were short.) And it is not to bind ranks to cores that it has not
// asked anybody for.
const std::vector<std::pair<const char*, const char*>> kOpenMpi = {
    {"JSM_JSRUN_PORT", "1"},
    {"OMPI_MCA_hwloc_base_binding_policy", "none"},
};

}  // namespace

PmixLink::~PmixLink() {
  for (auto& [name, waiting] : waiting_) loop_.cancel(waiting.timer);
  helper_.end();
}

bool PmixLink::start() {
  if (helper_.runs()) return true;
  if (folder_.path().empty()) {
    Result<os::TemporaryFolder> made = os::TemporaryFolder::make("holdfast-pmix");
    if (!made) return false;
    folder_ = std::move(*made);
  }
  return helper_.start(
      {"pmix-helper", "--folder", folder_.path()}, [this](const wire::Json& frame) { on_frame(frame); },
      [this](const std::string&) { lost("the PMIx server has died"); });
}

void PmixLink::begin(const std::string& world, int size, OnBegun then) {
  Waiting& waiting = waiting_[world];
  waiting.then = std::move(then);
  if (!start()) {
    lost("the PMIx server cannot be started");
    return;
  }
  waiting.timer = loop_.call_after(os::seconds(kLimit),
                                   [this] { lost(fmt::format("the PMIx server does not answer within {:g} s", kLimit)); });
  for (int rank = 0; rank < size; ++rank) absent_[world].insert(rank);
  helper_.send({{"t", "begin"}, {"name", world}, {"size", size}});
}

void PmixLink::end(const std::string& world) {
  if (auto waiting = waiting_.extract(world); !waiting.empty()) loop_.cancel(waiting.mapped().timer);
  absent_.erase(world);
  helper_.send({{"t", "end"}, {"name", world}});
}

int PmixLink::absent(const std::string& world) const {
  auto found = absent_.find(world);
  return found == absent_.end() || found->second.empty() ? -1 : *found->second.begin();
}

void PmixLink::on_frame(const wire::Json& frame) {
  const std::string type = frame.value("t", "");
  const std::string name = frame.value("name", "");
  if (type == "abort") {
    on_abort_(name, frame.value("rank", 0), frame.value("code", 0));
    return;
  }
  if (type == "joined") {
    if (auto world = absent_.find(name); world != absent_.end()) world->second.erase(frame.value("rank", 0));
    return;
  }
  auto found = waiting_.find(name);
  if (type != "begun" || found == waiting_.end()) return;
  OnBegun then = std::move(found->second.then);
  loop_.cancel(found->second.timer);
  waiting_.erase(found);
  Begun begun{frame.value("ranks", std::vector<wire::Json>{}), {}, frame.value("problem", "")};
  for (wire::Json& environment : begun.environments) {
    for (const auto& [key, value] : kOpenMpi) environment[key] = value;
  }
  then(std::move(begun));
}

void PmixLink::lost(const std::string& why) {
  std::shared_ptr<wire::Channel> old = helper_.stop();
  std::map<std::string, Waiting> gangs = std::exchange(waiting_, {});
  for (auto& [name, waiting] : gangs) loop_.cancel(waiting.timer);
  loop_.call_after({}, [old, gangs, why] {
    for (const auto& [name, waiting] : gangs) waiting.then(Begun{{}, {}, why});
  });
}

}  // namespace holdfast::mpi
