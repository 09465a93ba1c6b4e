// The part of Slot that has to do with scopes: their processes are set up and torn down as tests are run, and are zygotes
// between.
#include <signal.h>
#include <sys/epoll.h>

#include <algorithm>

#include "os/procfs.h"
#include "run/slot.h"

namespace holdfast::run {

namespace {

// A replica is a fork and a handful of calls; one that takes longer has a parent that does not answer.
constexpr double kReplicaLimit = 10;

}  // namespace

void Slot::set_up(int scope, int above, const Order& first) {
  begin_setup(zygote_of(above), scope, first, {{"t", "scope"}, {"scope", scope}});
}

void Slot::make(int resource, const std::string& id, const std::string& name, const Order& first) {
  begin_setup(*own_, resource, first, {{"t", "resource"}, {"resource", id}, {"name", name}});
}

void Slot::begin_setup(Zygote& from, int scope, const Order& first, wire::Json order) {
  if (!take_process(from, first)) return;
  from_ = &from;
  files_.clear();
  announced_.clear();
  start_attempt(first);
  attempt_.scope = scope;
  test_limit_ = 0;  // The test's own limit is for the test.
  order.update({{"test", first.test}, {"id", first.id}});
  if (!first.resources.is_null()) order["resources"] = first.resources;
  if (!first.gpus.is_null()) order["gpus"] = first.gpus;
  go_ = std::move(order);
  send_go();
  check_deadline();
}

// The process that has set the scope up lives on: as a zygote, or, where it cannot be forked, as the slot's worker.
void Slot::on_set_up(const wire::Json& frame) {
  if (ladder_ != Ladder::None) {
    climb(Ladder::Killed);
    return;
  }
  if (current_->pid == 0) {
    // It speaks over its own socket, and was quicker than its parent, which is to tell its number: without it nobody would see
    // its end.
    early_ready_ = frame;
    return;
  }
  loop_.cancel(timer_);
  int scope = attempt_.scope;
  const std::string reason = frame.value("reason", "");
  std::unique_ptr<Process> process = std::move(current_);
  read_stream();
  attempt_ = Attempt{};
  if (!reason.empty()) {
    worker_ = std::move(process);
  } else {
    auto zygote = std::make_unique<Zygote>();
    zygote->number = process->number;
    zygote->scope = scope;
    zygote->owner = true;
    zygote->parent = process->from;
    zygote->pid = process->pid;
    zygote->pidfd = std::move(process->pidfd);
    zygote->channel = std::move(process->channel);
    zygote->resident = frame.value("resident", std::uint64_t{0});
    zygote->residents = os::children_of(zygote->pid);
    int number = zygote->number;
    Status watched = loop_.watch(zygote->pidfd.get(), EPOLLIN, [this, number](std::uint32_t) { on_scope_gone(number); });
    scopes_[scope] = std::move(zygote);
    if (!watched) {
      host_.on_broken(id_, watched.error().message());
      return;
    }
  }
  host_.on_scope_ready(id_, scope, frame);
}

void Slot::replicate(int scope, Slot& owner) {
  auto pair = os::open_channel_pair();
  auto origin = owner.scopes_.find(scope);
  if (!pair || origin == owner.scopes_.end()) {
    loop_.call_after({}, [this, scope] { host_.on_replica(id_, scope, false); });
    return;
  }
  coming_ = std::make_unique<Zygote>();
  coming_->number = ++last_number_;
  coming_->scope = scope;
  coming_->channel = std::make_unique<wire::Channel>(loop_, std::move(pair->first), wire::kTrustedFrameLimit);
  if (Status started = listen(*coming_->channel, coming_->number); !started) {
    host_.on_broken(id_, started.error().message());
    return;
  }
  owner.fork_from(*origin->second, pair->second, [](pid_t) {});
  coming_->channel->send({{"t", "replica"}});
  after(kReplicaLimit, [this] {
    if (coming_ != nullptr) on_copied(false);
  });
}

void Slot::on_copied(bool good) {
  loop_.cancel(timer_);
  int scope = coming_->scope;
  if (good) {
    scopes_[scope] = std::move(coming_);
  } else {
    coming_.reset();
  }
  host_.on_replica(id_, scope, good);
}

void Slot::tear_down(int scope, const Order& last, bool fork_next) {
  auto found = scopes_.find(scope);
  std::unique_ptr<Zygote> zygote = std::move(found->second);
  scopes_.erase(found);
  if (next_ != nullptr && next_->from == zygote.get()) discard_next();
  loop_.unwatch(zygote->pidfd.get());
  current_ = std::make_unique<Process>();
  current_->number = zygote->number;
  current_->from = zygote->parent;
  current_->pid = zygote->pid;
  current_->pidfd = std::move(zygote->pidfd);
  current_->channel = std::move(zygote->channel);
  from_ = zygote->parent;
  files_.clear();
  announced_.clear();
  start_attempt(last);
  attempt_.scope = scope;
  attempt_.tearing_down = true;
  current_->channel->send({{"t", "down"}});
  current_->channel->send({{"t", "last"}, {"test", last.test}, {"id", last.id}});
  check_deadline();
  if (fork_next && next_ == nullptr && from_ != nullptr) fork_process(*from_);
}

void Slot::close(const std::string& node, const Order& order) {
  if (!take_process(*own_, order)) return;
  from_ = own_.get();
  files_.clear();
  announced_.clear();
  start_attempt(order);
  attempt_.tearing_down = true;
  attempt_.node = node;
  go_ = wire::Json{{"t", "close"}, {"node", node}, {"test", order.test}, {"id", order.id}};
  send_go();
  check_deadline();
}

void Slot::drop(int scope) {
  auto found = scopes_.find(scope);
  if (found == scopes_.end()) return;
  std::unique_ptr<Zygote> zygote = std::move(found->second);
  scopes_.erase(found);
  leaving_.push_back(zygote->pid);
  forget(*zygote);
}

void Slot::discard(int scope) {
  auto found = scopes_.find(scope);
  if (found != scopes_.end()) os::send_signal(found->second->pidfd, SIGKILL);
}

std::vector<int> Slot::replicas() const {
  std::vector<int> found;
  for (const auto& [scope, zygote] : scopes_) {
    if (!zygote->owner) found.push_back(scope);
  }
  return found;
}

bool Slot::owns(pid_t pid) const {
  // Numbers of processes that have ended may be given to others.
  leaving_.erase(std::remove_if(leaving_.begin(), leaving_.end(), [](pid_t old) { return os::process_state(old) == '\0'; }),
                 leaving_.end());
  return pid == zygote_pid() || std::find(leaving_.begin(), leaving_.end(), pid) != leaving_.end() ||
         std::any_of(scopes_.begin(), scopes_.end(), [pid](const auto& entry) { return entry.second->pid == pid; });
}

// Not asked for: something has killed it.
void Slot::on_scope_gone(int number) {
  auto found = std::find_if(scopes_.begin(), scopes_.end(), [number](const auto& s) { return s.second->number == number; });
  if (found == scopes_.end()) return;
  std::unique_ptr<Zygote> zygote = std::move(found->second);
  scopes_.erase(found);
  zygote->channel->drain();
  bool running = current_ != nullptr && current_->from == zygote.get();
  // Scopes below die with it, and say so themselves; their parent is gone.
  for (auto& [scope, below] : scopes_) {
    if (below->parent == zygote.get()) below->parent = own_.get();
  }
  forget(*zygote);
  if (running) {
    if (current_->channel) current_->channel->drain();
    os::send_signal(current_->pidfd, SIGKILL);
    current_->from = own_.get();
    kill_below();
    host_.kill_strays();
  }
  host_.on_scope_lost(id_, zygote->scope, zygote->owner);
  if (running && current_ != nullptr) finish();
}

}  // namespace holdfast::run
