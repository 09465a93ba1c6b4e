#include "run/farm.h"

#include <fmt/format.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <algorithm>

#include "base/version.h"
#include "os/tcp.h"

namespace holdfast::run {

namespace {

// Seconds. For a handshake and the first word, which take milliseconds,
constexpr double kGreetLimit = 20;
// from the job's start to the first word of its nodes: commands of the user come before (modules, environments),
constexpr double kDialLimit = 120;
// for the batch system to say why a job's nodes have gone,
constexpr double kReasonLimit = 6;
// for nodes and the job to end when they have been told to.
constexpr double kEndLimit = 30;
// A test that was on so many nodes that were lost is not tried on another.
constexpr int kMostLosses = 2;
// Strangers that have connected and said nothing yet.
constexpr int kMostStrangers = 64;
// Lines about such.
constexpr int kMostRefusals = 5;

}  // namespace

Farm::Farm(os::Loop& loop, FarmOptions options, FarmHost host)
    : loop_(loop), options_(std::move(options)), host_(std::move(host)), helper_(loop) {}

Farm::~Farm() {
  close_all();
  for (os::TimerId timer : {wait_timer_, dial_timer_, reason_timer_, end_timer_}) loop_.cancel(timer);
  if (listening_.valid()) loop_.unwatch(listening_.get());
  helper_.end();
}

// ---- the job ---------------------------------------------------------------------------------------------------------------

Status Farm::begin(plan::Portions portions) {
  portions_ = std::move(portions);
  Result<os::Fd> listening = os::listen_on(options_.listen);
  if (!listening) return tl::unexpected<Error>(listening.error());
  listening_ = std::move(*listening);
  token_ = wire::new_token();
  if (token_.empty()) return fail(ErrorKind::StopRun, "get random bytes for the run's token");
  HOLDFAST_TRY(loop_.watch(listening_.get(), EPOLLIN, [this](std::uint32_t) { on_dialled(); }));
  bool started = helper_.start_program(
      options_.helper, [this](const wire::Json& frame) { on_helper_frame(frame); },
      [this](const std::string&) { on_helper_end(); });
  if (!started) return fail(ErrorKind::StopRun, "start the program that talks to the batch system");
  host_.on_keeper(helper_.pid());
  std::string host = os::host_of(options_.listen);
  if (host.find(':') != std::string::npos) host = fmt::format("[{}]", host);
  wire::Json job = options_.job;
  job["t"] = "submit";
  job["connect"] = fmt::format("{}:{}", host, os::port_of(listening_));
  job["token"] = token_;
  helper_.send(job);
  submitted_ = true;
  return {};
}

void Farm::on_helper_frame(const wire::Json& frame) {
  const std::string type = frame.value("t", "");
  if (type == "job") {
    job_ = frame.value("name", "the job");
    host_.note(fmt::format("{} was submitted", job_));
    if (options_.wait > 0) {
      wait_timer_ = loop_.call_after(os::seconds(options_.wait), [this] {
        settle_rest(fmt::format("{} has not started within {:g} s", job_, options_.wait));
      });
    }
  } else if (type == "state") {
    host_.note(fmt::format("{} waits: {}", job_, frame.value("text", "")));
  } else if (type == "running") {
    on_running();
  } else if (type == "hopeless") {
    settle_rest(fmt::format("{} cannot start: {}", job_, frame.value("text", "")));
  } else if (type == "failed") {
    gone_ = over_ = true;
    portions_.take_all();
    host_.on_refused(frame.value("text", ""));
  } else if (type == "gone") {
    gone_ = true;
    // Nodes that are still there have their last words to say.
    end_ = fmt::format("{} {}", job_, frame.value("text", "has ended"));
    if (live() == 0) settle_rest(end_);
    check_finished();
  }
}

/// It ends when it is told to, or has told that nothing can be submitted.
void Farm::on_helper_end() {
  // Its channel is what has called.
  loop_.call_after({}, [old = helper_.stop()] {});
  if (!gone_ && then_ == nullptr) {
    gone_ = true;
    end_ = "the program that talks to the batch system has died";
    if (live() == 0) settle_rest(end_);
  }
  gone_ = true;
  check_finished();
}

void Farm::on_running() {
  loop_.cancel(wait_timer_);
  dial_timer_ = loop_.call_after(os::seconds(kDialLimit), [this] { dial_is_over(); });
}

/// Those that have come have to do.
void Farm::dial_is_over() {
  over_ = true;
  expected_ = std::max(1, live());
  if (live() == 0) {
    settle_rest(fmt::format("no node of {} has dialled back to {} within {:g} s. Can nodes reach that address (--hf-listen)?",
                            job_, options_.listen, kDialLimit));
    return;
  }
  refuse_wide();
  for (auto& [number, node] : nodes_) deal(*node);
  tell_all();
}

// ---- nodes -----------------------------------------------------------------------------------------------------------------

void Farm::on_dialled() {
  for (;;) {
    os::Fd fd(::accept4(listening_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (!fd.valid()) return;
    auto strangers = std::count_if(nodes_.begin(), nodes_.end(), [](const auto& entry) { return !entry.second->greeted; });
    if (strangers >= kMostStrangers) continue;
    auto node = std::make_unique<Node>();
    node->number = ++last_node_;
    int number = node->number;
    node->link = std::make_unique<wire::SecureLink>(loop_, std::move(fd), wire::SecureLink::Side::Listens, token_);
    Status opened = node->link->open(kGreetLimit, [this, number](const std::string& problem) { on_open(number, problem); });
    if (opened) nodes_[number] = std::move(node);
  }
}

void Farm::on_open(int number, const std::string& problem) {
  auto found = nodes_.find(number);
  if (found == nodes_.end()) return;
  Node& node = *found->second;
  if (!problem.empty()) {
    nodes_.erase(found);
    if (++refused_ <= kMostRefusals)
      host_.note(fmt::format("somebody has dialled {} and was refused: {}", options_.listen, problem));
    return;
  }
  node.channel = std::make_unique<wire::Channel>(loop_, node.link->take_plain(), wire::kTrustedFrameLimit);
  node.timer = loop_.call_after(os::seconds(kGreetLimit), [this, number] { lose(number, "has not said who it is"); });
  Status started = node.channel->start(
      [this, number](const wire::Json& frame) { on_node_frame(number, frame); },
      [this, number](const std::string& why) { lose(number, why.empty() ? "was lost: its connection has ended" : why); });
  if (!started) lose(number, started.error().message());
}

void Farm::on_node_frame(int number, const wire::Json& frame) {
  auto found = nodes_.find(number);
  if (found == nodes_.end()) return;
  Node& node = *found->second;
  const std::string type = frame.value("t", "");
  if (!node.greeted) {
    greet(node, frame);
  } else if (type == "items") {
    for (const wire::Json& item : frame.value("items", wire::Json::array())) node.found.push_back(item.value("id", ""));
  } else if (type == "restart") {
    node.found.clear();
  } else if (type == "ready") {
    on_collected(node);
  } else if (type == "result") {
    wire::Json test = frame.value("test", wire::Json());
    if (test.is_number_unsigned()) node.has.erase(test.get<std::size_t>());
    host_.on_result(node, frame);
    if (nodes_.count(number) != 0) deal(node);
    host_.on_change();
  } else if (type == "end") {
    node.ended = true;
    host_.on_change();
  } else if (type == "error") {
    lose(number, fmt::format("cannot run tests: {}", frame.value("text", "")));
  } else {
    host_.on_frame(node, frame);
  }
}

void Farm::greet(Node& node, const wire::Json& frame) {
  loop_.cancel(node.timer);
  const std::string version = frame.value("version", "");
  node.name = frame.value("node", "?");
  if (frame.value("t", "") != "hello" || frame.value("v", 0) != wire::kProtocolVersion || version != kVersion) {
    lose(node.number, fmt::format("has another holdfast ({}; here it is {})", version, kVersion));
    return;
  }
  node.greeted = true;
  node.slots = std::max(1, frame.value("slots", 1));
  node.first_slot = next_slot_;
  next_slot_ += node.slots;
  expected_ = std::max(expected_, frame.value("nodes", 1));
  loop_.cancel(wait_timer_);  // Its word may come before the batch system's.
  host_.note(fmt::format("node {} has dialled back: {} slot(s)", node.name, node.slots));
  wire::Json configuration = host_.configuration();
  configuration["node"] = {{"name", node.name}, {"first_slot", node.first_slot}};
  node.channel->send(configuration);
}

void Farm::on_collected(Node& node) {
  const std::vector<std::string>& ids = host_.ids();
  auto [here, there] = std::mismatch(ids.begin(), ids.end(), node.found.begin(), node.found.end());
  if (here != ids.end() || there != node.found.end()) {
    const std::string& first = here != ids.end() ? *here : *there;
    lose(node.number,
         fmt::format("has collected other tests than this machine ({} there, {} here; the first that differs is {}). "
                     "Is the suite the same there?",
                     node.found.size(), ids.size(), first));
    return;
  }
  node.collected = true;
  node.found.clear();
  see_who_is_there();
  deal(node);
  tell_all();
  host_.on_change();
}

/// When all nodes of the job have collected, none more will come.
void Farm::see_who_is_there() {
  auto there_are = std::count_if(nodes_.begin(), nodes_.end(), [](const auto& entry) { return entry.second->collected; });
  if (over_ || there_are < expected_) return;
  over_ = true;
  loop_.cancel(dial_timer_);
  refuse_wide();
}

void Farm::deal(Node& node) {
  if (!node.collected || stopping_) return;
  std::vector<std::size_t> tests = portions_.take(node.slots, node.has.size(), expected_);
  if (!tests.empty() || !node.told) send_tests(node, std::move(tests));
  if (portions_.empty()) tell_all();
}

void Farm::send_tests(Node& node, std::vector<std::size_t> tests) {
  node.has.insert(tests.begin(), tests.end());
  node.told = true;
  node.told_all = portions_.empty();
  node.ended = false;
  std::vector<double> usual;
  usual.reserve(tests.size());
  for (std::size_t test : tests) usual.push_back(host_.usual(test));
  node.channel->send({{"t", "run"}, {"tests", std::move(tests)}, {"usual", std::move(usual)}, {"more", !node.told_all}});
}

/// That nothing more will come, so that shared fixtures are torn down.
void Farm::tell_all() {
  if (!portions_.empty() || stopping_) return;
  for (auto& [number, node] : nodes_) {
    if (node->told && !node->told_all) send_tests(*node, {});
  }
}

/// When it is known how wide the widest node is.
void Farm::refuse_wide() {
  int widest = 0;
  for (const auto& [number, node] : nodes_) widest = std::max(widest, node->collected ? node->slots : 0);
  if (widest == 0) return;
  if (std::vector<std::size_t> tests = portions_.take_wider_than(widest); !tests.empty()) host_.on_too_wide(tests, widest);
}

int Farm::live() const {
  return static_cast<int>(std::count_if(nodes_.begin(), nodes_.end(), [](const auto& entry) { return entry.second->greeted; }));
}

void Farm::lose(int number, const std::string& why) {
  auto found = nodes_.find(number);
  if (found == nodes_.end()) return;
  std::shared_ptr<Node> node(std::move(found->second));
  nodes_.erase(found);
  loop_.cancel(node->timer);
  loop_.call_after({}, [node] {});  // Its channel may be what has called.
  bool expected_to_go = then_ != nullptr || (stopping_ && node->ended);
  if (!expected_to_go) host_.note(fmt::format("node {} {}", node->name, why));
  if (!stopping_ && then_ == nullptr) {
    bool others = live() > 0;
    std::vector<std::size_t> lost;
    for (auto test = node->has.rbegin(); test != node->has.rend(); ++test) {
      // Where nobody is left, settle_rest() says why.
      if (++losses_[*test] < kMostLosses || !others) {
        portions_.give_back(*test, host_.width(*test));
      } else {
        lost.push_back(*test);
      }
    }
    if (node->greeted) expected_ = std::max(1, expected_ - 1);
    if (others) {
      if (!lost.empty()) host_.on_lost(lost, fmt::format("node {} {}", node->name, why), true);
      over_ ? refuse_wide() : see_who_is_there();
      for (auto& [other, left] : nodes_) deal(*left);
    } else {
      nobody_left();
    }
  }
  check_finished();
  host_.on_change();
}

/// The last node has gone: why, the batch system may know.
void Farm::nobody_left() {
  if (portions_.empty()) return;
  if (gone_) {
    settle_rest(end_);
    return;
  }
  helper_.send({{"t", "look"}});
  loop_.cancel(reason_timer_);
  reason_timer_ = loop_.call_after(os::seconds(kReasonLimit), [this] {
    if (live() == 0) settle_rest(fmt::format("all nodes of {} were lost", job_));
  });
}

/// Whatever has no result yet gets none from a node.
void Farm::settle_rest(const std::string& why) {
  over_ = true;
  std::vector<std::size_t> begun, waiting;
  for (std::size_t test : portions_.take_all()) (losses_.count(test) != 0 ? begun : waiting).push_back(test);
  if (!stopping_ && !begun.empty()) host_.on_lost(begun, why, true);
  if (!stopping_ && !waiting.empty()) host_.on_lost(waiting, why, false);
  end_job();
  host_.on_change();
}

// ---- the end ---------------------------------------------------------------------------------------------------------------

bool Farm::idle() const {
  if (!submitted_) return true;
  return portions_.empty() && std::all_of(nodes_.begin(), nodes_.end(), [](const auto& entry) {
           const Node& node = *entry.second;
           return !node.told || node.ended;
         });
}

void Farm::seen() {
  for (auto& [number, node] : nodes_) {
    if (node->told) node->channel->send({{"t", "seen"}});
  }
}

void Farm::stop(double grace) {
  stopping_ = true;
  portions_.take_all();
  for (auto& [number, node] : nodes_) {
    if (node->told && !node->ended) node->channel->send({{"t", "stop"}, {"grace", grace}});
  }
  drop_unused("is not needed any more");
  loop_.cancel(end_timer_);
  end_timer_ = loop_.call_after(os::seconds(grace + kEndLimit), [this] { close_all(); });
  if (live() == 0) end_job();
  host_.on_change();
}

/// Nodes that have got no tests, not even none.
void Farm::drop_unused(const std::string& why) {
  std::vector<int> unused;
  for (auto& [number, node] : nodes_) {
    if (!node->told) unused.push_back(number);
  }
  for (int number : unused) lose(number, why);
}

/// Nobody uses it any more.
void Farm::end_job() {
  for (os::TimerId timer : {wait_timer_, dial_timer_, reason_timer_}) loop_.cancel(timer);
  if (!gone_) helper_.send({{"t", "cancel"}});
}

void Farm::finish(int exit_status, std::function<void()> then) {
  then_ = std::move(then);
  for (auto& [number, node] : nodes_) {
    if (node->told) node->channel->send({{"t", "finish"}, {"exitstatus", exit_status}});
  }
  drop_unused("");
  loop_.cancel(end_timer_);
  end_timer_ = loop_.call_after(os::seconds(kEndLimit), [this] {
    close_all();
    helper_.end();
    gone_ = true;
    check_finished();
  });
  check_finished();
}

void Farm::shut_down(std::function<void()> then) {
  stopping_ = true;
  portions_.take_all();
  close_all();
  finish(0, std::move(then));
}

void Farm::close_all() {
  std::map<int, std::unique_ptr<Node>> nodes = std::exchange(nodes_, {});
  for (auto& [number, node] : nodes) loop_.cancel(node->timer);
  if (!nodes.empty()) {
    loop_.call_after({}, [nodes = std::make_shared<std::map<int, std::unique_ptr<Node>>>(std::move(nodes))] {});
    host_.on_change();
  }
}

/// When the nodes have gone the job is ended, and when that has gone too, everything is over.
void Farm::check_finished() {
  if (then_ == nullptr || !nodes_.empty()) return;
  if (helper_.runs()) {
    // A job whose nodes have ended ends by itself; one that has never started does not.
    helper_.send({{"t", gone_ ? "leave" : "cancel"}});
    return;
  }
  loop_.cancel(end_timer_);
  loop_.call_after({}, std::exchange(then_, nullptr));
}

}  // namespace holdfast::run
