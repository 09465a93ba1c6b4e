#include "inventory/gpu_helper.h"

#include <fmt/format.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>

#include "inventory/visible_gpus.h"
#include "os/procfs.h"

namespace holdfast::inventory {

namespace {

// Seconds. Drivers that are not kept loaded take their time at first.
constexpr double kFirstLook = 15;
constexpr double kLook = 5;
constexpr double kProbe = 15;
constexpr double kSample = 0.05;
// Between two looks.
constexpr std::size_t kMostSamples = 4000;

}  // namespace

// ---- the engine's end ------------------------------------------------------------------------------------------------------

HelperProbe::~HelperProbe() {
  for (auto& [number, pending] : pending_) loop_.cancel(pending.timer);
}

bool HelperProbe::start() {
  if (helper_.runs()) return true;
  bool started = helper_.start(
      {"gpu-helper"}, [this](const wire::Json& frame) { on_frame(frame); },
      [this](const std::string&) { lost("the process that asks the drivers has died"); });
  if (started && watching_) helper_.send({{"t", "watch"}, {"on", true}});
  return started;
}

void HelperProbe::ask(wire::Json request, Pending pending, double limit) {
  int number = ++last_;
  bool started = start();
  // Answered from the loop also where nothing can be asked.
  pending.timer = loop_.call_after(started ? os::seconds(limit) : os::Duration{},
                                   [this, limit] { lost(fmt::format("the drivers do not answer within {:g} s", limit)); });
  pending_.emplace(number, std::move(pending));
  request["n"] = number;
  if (started) helper_.send(request);
}

void HelperProbe::look(OnLook then) {
  ask({{"t", "look"}}, Pending{std::move(then), nullptr}, has_answered_ ? kLook : kFirstLook);
}

void HelperProbe::probe(const Gpu& gpu, OnProbed then) {
  wire::Json environment = wire::Json::object();
  for (const auto& [name, value] : environment_for({gpu})) environment[name] = value;
  ask({{"t", "probe"}, {"vendor", gpu.vendor}, {"environment", std::move(environment)}}, Pending{nullptr, std::move(then)},
      kProbe + kLook);
}

void HelperProbe::watch(bool on) {
  if (on == watching_) return;
  watching_ = on;
  helper_.send({{"t", "watch"}, {"on", on}});
}

void HelperProbe::on_frame(const wire::Json& frame) {
  const std::string type = frame.value("t", "");
  if (type == "event") {
    if (on_event) on_event(GpuEvent{frame.value("uuid", ""), frame.value("xid", 0)});
    return;
  }
  auto found = pending_.find(frame.value("n", 0));
  if (found == pending_.end()) return;
  Pending pending = std::move(found->second);
  pending_.erase(found);
  loop_.cancel(pending.timer);
  has_answered_ = true;
  if (pending.probed) pending.probed(frame.value("good", false), frame.value("text", ""));
  if (!pending.looked) return;
  GpuLook look;
  look.answered = true;
  for (const wire::Json& gpu : frame.value("gpus", wire::Json::array())) look.gpus.push_back(gpu_of_json(gpu));
  for (const wire::Json& sample : frame.value("samples", wire::Json::array())) {
    look.samples.push_back({sample.at(0).get<std::string>(), sample.at(1).get<double>(), sample.at(2).get<std::uint64_t>()});
  }
  look.problems = frame.value("problems", std::vector<std::string>{});
  for (const wire::Json& peak : frame.value("peaks", wire::Json::array())) {
    look.peaks.push_back(
        {peak.value("uuid", ""), peak.value("pids", std::vector<int>{}), peak.value("bytes", std::uint64_t{0})});
  }
  pending.looked(look);
}

/// Everything that waits is told so, after this call: the callbacks may ask again.
void HelperProbe::lost(const std::string& why) {
  std::shared_ptr<wire::Channel> old = helper_.stop();
  std::map<int, Pending> waiting = std::exchange(pending_, {});
  for (auto& [number, pending] : waiting) loop_.cancel(pending.timer);
  loop_.call_after({}, [old, waiting, why] {
    for (const auto& [number, pending] : waiting) {
      if (pending.looked) pending.looked(GpuLook{false, {}, {why}, {}, {}});
      if (pending.probed) pending.probed(false, why);
    }
  });
}

// ---- the helper ------------------------------------------------------------------------------------------------------------

namespace {

class Helper {
 public:
  explicit Helper(os::Loop& loop) : loop_(loop) {}

  Status open(os::Fd socket) {
    channel_ = std::make_unique<wire::Channel>(loop_, std::move(socket), wire::kTrustedFrameLimit);
    return channel_->start([this](const wire::Json& frame) { on_frame(frame); }, [this](const std::string&) { loop_.stop(); });
  }

 private:
  void on_frame(const wire::Json& frame) {
    const std::string type = frame.value("t", "");
    if (type == "look") look(frame.value("n", 0));
    if (type == "probe") probe(frame);
    if (type == "watch") {
      watching_ = frame.value("on", false);
      loop_.cancel(timer_);
      if (watching_) sample();
    }
  }

  std::vector<Gpu> take_a_look() {
    if (!opened_) {
      opened_ = true;
      sources_ = open_gpu_sources(problems_);
    }
    std::vector<Gpu> gpus;
    for (const auto& source : sources_) {
      for (Gpu& gpu : source->look()) gpus.push_back(std::move(gpu));
    }
    for (const Gpu& gpu : gpus) {
      if (samples_.size() < kMostSamples) {
        samples_.push_back({gpu.uuid, os::to_seconds(loop_.clock().now().time_since_epoch()), gpu.used});
      }
      for (const GpuProcess& process : gpu.processes) {
        GpuPeak& peak = peaks_[{gpu.uuid, process.pid}];
        peak.bytes = std::max(peak.bytes, process.bytes);
        if (peak.pids.empty()) peak.pids = line_of(process.pid);
      }
    }
    return gpus;
  }

  static std::vector<int> line_of(int pid) {
    std::vector<int> line;
    constexpr std::size_t kMost = 32;
    for (int at = pid; at > 1 && line.size() < kMost; at = os::parent_of(at)) line.push_back(at);
    return line;
  }

  void tell_events() {
    for (const auto& source : sources_) {
      for (const GpuEvent& event : source->events()) channel_->send({{"t", "event"}, {"uuid", event.uuid}, {"xid", event.xid}});
    }
  }

  void look(int number) {
    wire::Json gpus = wire::Json::array();
    for (const Gpu& gpu : take_a_look()) gpus.push_back(to_json(gpu));
    tell_events();
    wire::Json peaks = wire::Json::array();
    for (const auto& [key, peak] : peaks_) {
      peaks.push_back({{"uuid", key.first}, {"pids", peak.pids}, {"bytes", peak.bytes}});
    }
    // What has ended is not told again.
    for (auto it = peaks_.begin(); it != peaks_.end();)
      it = os::is_running(it->first.second) ? std::next(it) : peaks_.erase(it);
    channel_->send({{"t", "look"},
                    {"n", number},
                    {"gpus", gpus},
                    {"problems", problems_},
                    {"peaks", peaks},
                    {"samples", std::exchange(samples_, wire::Json::array())}});
  }

  void sample() {
    take_a_look();
    tell_events();
    timer_ = loop_.call_after(os::seconds(kSample), [this] { sample(); });
  }

  struct Probing {
    os::Fd output, pidfd;
    os::TimerId timer = 0;
  };

  // In a process of its own: a context that fails may poison everything in it.
  void probe(const wire::Json& frame) {
    int number = frame.value("n", 0);
    std::vector<std::string> environment;
    const wire::Json added = frame.value("environment", wire::Json::object());
    for (const std::string& entry : os::own_environment()) {
      if (!added.contains(entry.substr(0, entry.find('=')))) environment.push_back(entry);
    }
    for (const auto& [name, value] : added.items()) environment.push_back(name + "=" + value.get<std::string>());
    auto probing = std::make_shared<Probing>();
    Result<os::Fd> output = os::open_memfd("holdfast-gpu-probe", 0);
    if (output) probing->output = std::move(*output);
    Result<pid_t> pid = os::spawn({os::own_program(), "gpu-probe", "--vendor", frame.value("vendor", "nvidia")}, environment,
                                  "/", {{1, probing->output.get()}});
    if (pid) {
      if (Result<os::Fd> pidfd = os::open_pidfd(*pid)) probing->pidfd = std::move(*pidfd);
    }
    if (!probing->pidfd.valid()) {
      channel_->send({{"t", "probe"}, {"n", number}, {"good", false}, {"text", "no process for it could be started"}});
      return;
    }
    probing->timer = loop_.call_after(os::seconds(kProbe), [probing] { os::send_signal(probing->pidfd, SIGKILL); });
    [[maybe_unused]] Status watched =
        loop_.watch(probing->pidfd.get(), EPOLLIN, [this, probing, number, pid = *pid](std::uint32_t) {
          loop_.cancel(probing->timer);
          loop_.unwatch(probing->pidfd.get());
          int status = 0;
          ::waitpid(pid, &status, 0);
          bool good = WIFEXITED(status) && WEXITSTATUS(status) == 0;
          std::string text = os::read_tail(probing->output.get(), 1000);
          if (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL)
            text = fmt::format("it does not answer within {:g} s", kProbe);
          if (!good && text.empty()) text = fmt::format("the process that probed it ended with status {:#x}", status);
          channel_->send({{"t", "probe"}, {"n", number}, {"good", good}, {"text", text}});
        });
  }

  os::Loop& loop_;
  std::unique_ptr<wire::Channel> channel_;
  std::vector<std::unique_ptr<GpuSource>> sources_;
  std::vector<std::string> problems_;
  std::map<std::pair<std::string, int>, GpuPeak> peaks_;
  wire::Json samples_ = wire::Json::array();
  os::TimerId timer_ = 0;
  bool opened_ = false;
  bool watching_ = false;
};

}  // namespace

int serve_gpus(int fd) {
  // It has no use without the engine, and must not outlive it where a driver hangs.
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  ::signal(SIGPIPE, SIG_IGN);
  os::set_close_on_exec(fd);
  os::Fd socket(fd);
  os::set_nonblocking(socket.get());
  os::SystemClock clock;
  Result<os::Loop> loop = os::Loop::open(clock);
  if (!loop) return 4;
  Helper helper(*loop);
  if (!helper.open(std::move(socket))) return 4;
  return loop->run() ? 0 : 4;
}

int print_gpus() {
  std::vector<std::string> problems;
  nlohmann::json gpus = nlohmann::json::array();
  std::vector<Gpu> all;
  for (const auto& source : open_gpu_sources(problems)) {
    for (const Gpu& gpu : source->look()) all.push_back(gpu);
  }
  Result<std::vector<Gpu>> seen = visible_gpus(all, [](const char* name) { return ::getenv(name); });
  for (const Gpu& gpu : all) {
    nlohmann::json entry = to_json(gpu);
    entry["visible"] =
        seen && std::any_of(seen->begin(), seen->end(), [&](const Gpu& other) { return other.uuid == gpu.uuid; });
    gpus.push_back(std::move(entry));
  }
  if (!seen) problems.push_back(seen.error().message());
  nlohmann::json result = {{"gpus", gpus}, {"problems", problems}, {"visible_is_wrong", !seen}};
  std::puts(result.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace).c_str());
  return 0;
}

}  // namespace holdfast::inventory
