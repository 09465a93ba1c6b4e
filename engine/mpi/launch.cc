#include "mpi/launch.h"

#include <poll.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <filesystem>
#include <utility>

#include "os/passing.h"
#include "os/sys.h"
#include "wire/secure_link.h"

namespace holdfast::mpi {

namespace {

constexpr std::size_t kFrameLimit = std::size_t{4} << 20U;  // An environment and its JSON; the kernel allows 2 MiB or so.
constexpr std::size_t kWordsLimit = 4096;
constexpr const char* kFolder = "{folder}";
// Seconds. A busy machine starts mpirun in one or two.
constexpr double kStartLimit = 60;
// For a launcher to say why it has ended its ranks: it ends them first.
constexpr double kWordsWait = 0.5;
// To go when its processes have; then it is asked, and then killed.
constexpr double kGoes = 5;
constexpr double kTerminates = 2;
constexpr int kDiesMs = 1000;

// How launchers number their processes, the one that a library believes first.
constexpr std::array<const char*, 4> kRanks = {"PMIX_RANK", "PMI_RANK", "SLURM_PROCID", "OMPI_COMM_WORLD_RANK"};
// What a process has wherever it runs: nothing of it is about MPI, and the rank has its own.
constexpr std::array<const char*, 10> kOwn = {"PATH", "LD_LIBRARY_PATH", "PWD",   "OLDPWD", "HOME",
                                              "USER", "LOGNAME",         "SHELL", "SHLVL",  "TMPDIR"};

std::map<std::string, std::string> environment_for(const LaunchCommand& command) {
  std::map<std::string, std::string> result = os::own_variables();
  for (auto each = result.begin(); each != result.end();) {
    bool goes = std::any_of(command.without.begin(), command.without.end(),
                            [&](const std::string& prefix) { return each->first.rfind(prefix, 0) == 0; });
    each = goes ? result.erase(each) : std::next(each);
  }
  for (const auto& [name, value] : command.environment) result[name] = value;
  return result;
}

}  // namespace

int rank_in(const nlohmann::json& environment) {
  for (const char* name : kRanks) {
    auto found = environment.find(name);
    if (found == environment.end() || !found->is_string()) continue;
    const auto& text = found->get_ref<const std::string&>();
    bool number = !text.empty() && text.size() < 8 && text.find_first_not_of("0123456789") == std::string::npos;
    return number ? std::atoi(text.c_str()) : -1;
  }
  return -1;
}

nlohmann::json given(const nlohmann::json& environment, const std::map<std::string, std::string>& base) {
  nlohmann::json result = nlohmann::json::object();
  for (const auto& [name, value] : environment.items()) {
    if (!value.is_string() || std::find(kOwn.begin(), kOwn.end(), name) != kOwn.end()) continue;
    auto before = base.find(name);
    if (before == base.end() || before->second != value.get_ref<const std::string&>()) result[name] = value;
  }
  return result;
}

Launch::Launch(os::Loop& loop, const LaunchCommand& command, int size, Host host)
    : loop_(loop), host_(std::move(host)), size_(size) {
  program_ = command.argv.empty() ? "" : std::filesystem::path(command.argv.front()).filename().string();
  if (Status started = start(command); !started) {
    gone_ = !pidfd_.valid();
    std::string why = fmt::format("failed to {}", started.error().message());
    timer_ = loop_.call_after({}, [this, why] { fail(why); });
    return;
  }
  timer_ = loop_.call_after(os::seconds(kStartLimit), [this] {
    fail(fmt::format("{} has not started {} rank(s) within {:g} s{}", program_, size_, kStartLimit, words()));
  });
}

Launch::~Launch() {
  loop_.cancel(timer_);
  loop_.cancel(patience_);
  while (!lenders_.empty()) drop(lenders_.begin()->first);
  if (listening_.valid()) loop_.unwatch(listening_.get());
  if (output_.valid()) loop_.unwatch(output_.get());
  if (!pidfd_.valid()) return;
  loop_.unwatch(pidfd_.get());
  if (gone_) return;
  os::send_signal(pidfd_, SIGKILL);
  wait(kDiesMs);  // Its folder is removed after it.
}

Status Launch::start(const LaunchCommand& command) {
  std::string name = "holdfast-lend-" + wire::new_token();
  Result<os::Fd> listening = os::listen_on_name(name);
  if (!listening) return tl::unexpected<Error>(listening.error());
  HOLDFAST_TRY(loop_.watch(listening->get(), EPOLLIN, [this](std::uint32_t) { on_dialled(); }));
  listening_ = std::move(*listening);
  // Not a file: programs that it spawns may write without end.
  auto output = os::open_pipe();
  if (!output) return tl::unexpected<Error>(output.error());
  HOLDFAST_TRY(loop_.watch(output->first.get(), EPOLLIN, [this](std::uint32_t) { hear(); }));
  output_ = std::move(output->first);

  std::vector<std::string> argv = command.argv;
  std::replace(argv.begin(), argv.end(), std::string("{ranks}"), std::to_string(size_));
  argv.insert(argv.end(), {os::own_program(), "lend", name});
  base_ = environment_for(command);
  for (const auto& [key, value] : command.environment) {
    if (value != kFolder) continue;
    if (folder_.path().empty()) {
      Result<os::TemporaryFolder> made = os::TemporaryFolder::make("holdfast-launch");
      if (!made) return tl::unexpected<Error>(made.error());
      folder_ = std::move(*made);
    }
    base_[key] = folder_.path();
  }
  std::vector<std::string> environment;
  environment.reserve(base_.size());
  for (const auto& [key, value] : base_) environment.push_back(fmt::format("{}={}", key, value));
  std::error_code nowhere;
  std::string cwd = std::filesystem::current_path(nowhere).string();
  Result<pid_t> pid = os::spawn(argv, environment, nowhere ? "/" : cwd, {{1, output->second.get()}, {2, output->second.get()}});
  if (!pid) return tl::unexpected<Error>(pid.error());
  pid_ = *pid;
  Result<os::Fd> pidfd = os::open_pidfd(pid_);
  if (!pidfd) {
    ::kill(pid_, SIGKILL);
    return tl::unexpected<Error>(pidfd.error());
  }
  // pidfd_open(2): readable when the process has ended, whoever waits for it.
  HOLDFAST_TRY(loop_.watch(pidfd->get(), EPOLLIN, [this](std::uint32_t) { on_exit(); }));
  pidfd_ = std::move(*pidfd);
  return {};
}

void Launch::on_dialled() {
  for (;;) {
    os::Fd fd(::accept4(listening_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (!fd.valid()) return;
    if (!os::is_ours(fd)) continue;
    int number = fd.get();
    if (!loop_.watch(number, EPOLLIN, [this, number](std::uint32_t) { read_from(number); })) continue;
    lenders_.emplace(number, Lender{std::move(fd), wire::Decoder(kFrameLimit), {}, -1, {}});
  }
}

void Launch::read_from(int fd) {
  Lender& lender = lenders_.at(fd);
  std::array<char, 65536> buffer;
  std::vector<os::Fd> passed;
  ssize_t n = os::receive_with_fds(fd, buffer.data(), buffer.size(), passed);
  // One is expected, with the first byte.
  if (lender.rank < 0 && lender.passed.empty()) lender.passed = std::move(passed);
  if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (n <= 0) {
    bool had_lent = lender.rank >= 0;
    drop(fd);
    // A launcher that ends its processes has given up on all of them.
    if (had_lent) lose();
    return;
  }
  if (lender.rank >= 0) return;
  lender.frames.feed({buffer.data(), static_cast<std::size_t>(n)});
  std::string payload;
  Result<bool> whole = lender.frames.next(payload);
  if (whole && !*whole) return;
  if (!whole || !on_lent(lender, payload)) {
    drop(fd);
    fail(fmt::format("{} has started something that does not say which of {} rank(s) it is{}", program_, size_, words()));
    return;
  }
  begin_if_complete();
}

bool Launch::on_lent(Lender& lender, const std::string& payload) {
  nlohmann::json frame = nlohmann::json::parse(payload, nullptr, /*allow_exceptions=*/false);
  if (!frame.is_object() || !frame.value("environment", nlohmann::json()).is_object()) return false;
  int rank = rank_in(frame["environment"]);
  bool taken = std::any_of(lenders_.begin(), lenders_.end(), [rank](const auto& each) { return each.second.rank == rank; });
  if (rank < 0 || rank >= size_ || taken) return false;
  lender.rank = rank;
  lender.environment = given(frame["environment"], base_);
  return true;
}

void Launch::begin_if_complete() {
  std::vector<Lender*> ranks(static_cast<std::size_t>(size_), nullptr);
  for (auto& [fd, lender] : lenders_) {
    if (lender.rank >= 0) ranks[static_cast<std::size_t>(lender.rank)] = &lender;
  }
  if (begun_ || std::count(ranks.begin(), ranks.end(), nullptr) != 0) return;
  loop_.unwatch(listening_.get());
  listening_.reset();
  Manager::Begun begun;
  bool sockets = std::all_of(ranks.begin(), ranks.end(), [](Lender* lender) { return !lender->passed.empty(); });
  for (Lender* lender : ranks) {
    begun.environments.push_back(std::move(lender->environment));
    if (sockets) begun.sockets.push_back(std::move(lender->passed.front()));
    lender->passed.clear();
  }
  tell(std::move(begun));
}

void Launch::tell(Manager::Begun begun) {
  begun_ = true;
  loop_.cancel(timer_);
  auto shared = std::make_shared<Manager::Begun>(std::move(begun));
  timer_ = loop_.call_after({}, [this, shared] { host_.on_begun(std::move(*shared)); });
}

void Launch::drop(int fd) {
  auto found = lenders_.find(fd);
  if (found == lenders_.end()) return;
  loop_.unwatch(fd);
  lenders_.erase(found);
}

void Launch::fail(const std::string& problem) {
  if (begun_ || ending_) return;
  lost_ = true;
  tell(Manager::Begun{{}, {}, problem});
}

void Launch::lose() {
  if (ending_ || !begun_ || std::exchange(lost_, true)) return;
  loop_.call_after({}, host_.on_lost);
}

void Launch::hear() {
  std::array<char, 65536> buffer;
  ssize_t n = 0;
  // A few, so that who writes without end does not keep us.
  for (int i = 0; i < 16 && (n = ::read(output_.get(), buffer.data(), buffer.size())) > 0; ++i) {
    said_.append(buffer.data(), static_cast<std::size_t>(n));
    if (said_.size() > kWordsLimit) said_.erase(0, said_.size() - kWordsLimit);
  }
  if (n != 0) return;
  loop_.unwatch(output_.get());
  output_.reset();
}

void Launch::on_exit() {
  gone_ = true;
  if (output_.valid()) hear();
  loop_.unwatch(pidfd_.get());
  if (!begun_ && !ending_) {
    fail(fmt::format("{} has ended without having started {} rank(s){}", program_, size_, words()));
  } else {
    lose();
  }
  if (then_) {
    loop_.cancel(patience_);
    loop_.call_after({}, [then = std::exchange(then_, nullptr), text = words()] { then(text); });
  }
  if (ending_) loop_.call_after({}, host_.on_gone);
}

bool Launch::explain(const Manager::OnWords& then) {
  if (ending_ || !begun_) return false;
  then_ = then;
  patience_ = loop_.call_after(os::seconds(gone_ ? 0 : kWordsWait), [this] {
    if (Manager::OnWords waiting = std::exchange(then_, nullptr)) waiting(words());
  });
  return true;
}

void Launch::end() {
  if (std::exchange(ending_, true)) return;
  loop_.cancel(timer_);
  loop_.cancel(patience_);
  then_ = nullptr;
  for (auto& [fd, lender] : lenders_) {
    // One that has been killed has nothing to hear.
    [[maybe_unused]] ssize_t sent = ::send(fd, "0", 1, MSG_NOSIGNAL | MSG_DONTWAIT);
  }
  while (!lenders_.empty()) drop(lenders_.begin()->first);
  if (gone_ || !pidfd_.valid()) {
    gone_ = true;
    loop_.call_after({}, host_.on_gone);
    return;
  }
  if (!begun_ || lost_) os::send_signal(pidfd_, SIGTERM);
  kill_after(kGoes, SIGTERM);
}

void Launch::kill_after(double seconds, int signal) {
  timer_ = loop_.call_after(os::seconds(seconds), [this, signal] {
    if (gone_) return;
    os::send_signal(pidfd_, signal);
    if (signal != SIGKILL) kill_after(kTerminates, SIGKILL);
  });
}

void Launch::wait(int timeout_ms) const {
  if (gone_ || !pidfd_.valid()) return;
  pollfd over{pidfd_.get(), POLLIN, 0};
  ::poll(&over, 1, timeout_ms);
}

/// Of the launcher, as the rest of a sentence.
std::string Launch::words() const {
  std::size_t from = said_.find_first_not_of(" \n\t-");
  std::size_t to = said_.find_last_not_of(" \n\t-");
  return from == std::string::npos ? "" : "; it has said:\n" + said_.substr(from, to - from + 1);
}

}  // namespace holdfast::mpi
