#include "mpi/pmix_link.h"

#include <fmt/format.h>
#include <signal.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <utility>

namespace holdfast::mpi {

namespace {

constexpr int kMostStarts = 3;
// Seconds. PMIx_server_init takes some tens of milliseconds, and what comes after it less than one.
constexpr double kLimit = 20;
constexpr int kSocket = 3;  // Where the helper finds it.

}  // namespace

PmixLink::~PmixLink() {
  if (pidfd_.valid()) os::send_signal(pidfd_, SIGKILL);
  std::error_code ignored;
  if (!folder_.empty()) std::filesystem::remove_all(folder_, ignored);
}

bool PmixLink::start() {
  if (channel_ != nullptr) return true;
  if (starts_++ >= kMostStarts) return false;
  if (folder_.empty()) {
    std::error_code problem;
    std::string made = (std::filesystem::temp_directory_path(problem) / "holdfast-pmix-XXXXXX").string();
    if (problem || ::mkdtemp(made.data()) == nullptr) return false;
    folder_ = made;
  }
  Result<std::pair<os::Fd, os::Fd>> pair = os::open_channel_pair();
  if (!pair) return false;
  Result<pid_t> pid = os::spawn({os::own_program(), "pmix-helper", "--fd", std::to_string(kSocket), "--folder", folder_},
                                os::own_environment(), "/", {{2, 2}, {kSocket, pair->second.get()}});
  if (!pid) return false;
  pid_ = *pid;
  if (Result<os::Fd> pidfd = os::open_pidfd(pid_)) pidfd_ = std::move(*pidfd);
  channel_ = std::make_unique<wire::Channel>(loop_, std::move(pair->first), wire::kTrustedFrameLimit);
  Status status = channel_->start([this](const wire::Json& frame) { on_frame(frame); },
                                  [this](const std::string&) { lost("the PMIx server has died"); });
  if (!status) lost(status.error().message());
  return status.has_value();
}

void PmixLink::begin(const std::string& name, int size, OnBegun then) {
  waiting_[name] = std::move(then);
  if (start()) {
    channel_->send({{"t", "begin"}, {"name", name}, {"size", size}});
    loop_.call_after(os::seconds(kLimit), [this, alive = std::weak_ptr<int>(alive_), name] {
      if (alive.expired() || waiting_.count(name) == 0) return;
      lost(fmt::format("the PMIx server does not answer within {:g} s", kLimit));
    });
  } else {
    lost("the PMIx server cannot be started");
  }
}

void PmixLink::end(const std::string& name) {
  if (channel_ != nullptr) channel_->send({{"t", "end"}, {"name", name}});
}

void PmixLink::on_frame(const wire::Json& frame) {
  const std::string type = frame.value("t", "");
  const std::string name = frame.value("name", "");
  if (type == "abort") {
    on_abort_(name, frame.value("rank", 0), frame.value("code", 0));
    return;
  }
  auto found = waiting_.find(name);
  if (type != "begun" || found == waiting_.end()) return;
  OnBegun then = std::move(found->second);
  waiting_.erase(found);
  then(Begun{frame.value("ranks", std::vector<wire::Json>{}), frame.value("problem", "")});
}

void PmixLink::lost(const std::string& why) {
  if (pidfd_.valid()) os::send_signal(pidfd_, SIGKILL);
  pidfd_.reset();
  pid_ = 0;
  // The channel may be calling us.
  std::shared_ptr<wire::Channel> old(std::move(channel_));
  std::map<std::string, OnBegun> waiting = std::exchange(waiting_, {});
  loop_.call_after({}, [old, waiting, why] {
    for (const auto& [name, then] : waiting) then(Begun{{}, why});
  });
}

}  // namespace holdfast::mpi
