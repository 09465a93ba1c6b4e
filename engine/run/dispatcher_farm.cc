// The part of Dispatcher that has its tests run by engines on other machines; and, below, what it does as such an engine.
#include <fmt/format.h>

#include <algorithm>
#include <unordered_map>

#include "run/dispatcher.h"
#include "wire/fields.h"

namespace holdfast::run {

// ---- the user's side -------------------------------------------------------------------------------------------------------

/// `configuration`: what the controller has configured us with.
void Dispatcher::configure_farm(const wire::Json& configuration) {
  const wire::Json& backend = configuration["backend"];
  FarmOptions options;
  options.listen = backend.value("listen", "127.0.0.1");
  options.wait = wire::number(backend, "wait", 0);
  options.helper = backend.value("helper", std::vector<std::string>{});
  options.job = backend.value("job", wire::Json::object());
  farm_configuration_ = configuration;
  // Records are kept here, and nowhere else.
  for (const char* ours : {"backend", "journal", "history", "log", "resume"}) farm_configuration_.erase(ours);
  farm_ = std::make_unique<Farm>(loop_, std::move(options), farm_host());
}

FarmHost Dispatcher::farm_host() {
  FarmHost host;
  host.configuration = [this] { return farm_configuration_; };
  host.ids = [this]() -> const std::vector<std::string>& { return ids_; };
  host.width = [this](std::size_t test) { return std::max(1, tests_[test].ranks); };
  host.usual = [this](std::size_t test) { return tests_[test].usual; };
  host.on_result = [this](const FarmNode& node, const wire::Json& frame) { on_farm_result(node, frame); };
  host.on_frame = [this](const FarmNode& node, const wire::Json& frame) { on_farm_frame(node, frame); };
  host.on_lost = [this](const std::vector<std::size_t>& tests, const std::string& why, bool begun) {
    const std::string when = begun ? "may have been running when" : "had not begun when";
    for (std::size_t test : tests)
      settle_unrun(test, "infra", {{"problem", fmt::format("this test {} {}", when, why)}, {"lost", true}});
  };
  host.on_too_wide = [this](const std::vector<std::size_t>& tests, int widest) {
    for (std::size_t test : tests) {
      settle_unrun(
          test, "skipped",
          {{"problem", fmt::format("it asks for {} ranks, and the widest node has {} slots", tests_[test].ranks, widest)}});
    }
  };
  host.on_refused = [this](const std::string& text) {
    fail_run("usage", text);
    check_end();
  };
  host.note = [this](const std::string& text) { note(text); };
  host.on_keeper = [this](pid_t pid) { tell({{"t", "keeper"}, {"pid", pid}}); };
  // Never from inside: it may be in the middle of its own affairs.
  host.on_change = [this] { loop_.call_after({}, [this] { check_end(); }); };
  return host;
}

namespace {

// Sets of numbers that only grow together (disjoint sets; Tarjan 1975).
class Joined {
 public:
  std::uint32_t of(std::uint32_t number) {
    std::uint32_t root = number;
    for (auto up = above_.find(root); up != above_.end(); up = above_.find(root)) root = up->second;
    if (number != root) above_[number] = root;
    return root;
  }
  void join(std::uint32_t one, std::uint32_t other) {
    if (of(one) != of(other)) above_[of(one)] = of(other);
  }

 private:
  std::unordered_map<std::uint32_t, std::uint32_t> above_;
};

}  // namespace

void Dispatcher::begin_farm() {
  std::map<std::uint32_t, plan::Portion> portions;
  plan::Problem problem = wishes_.problem(dealing_);
  // A file of programs has no fixtures for which its tests should stay together: each is dealt by itself.
  auto chunk_of = [&](std::size_t test) {
    std::uint32_t chunk = problem.tasks[test].chunk;
    bool alone = tests_[test].program && problem.splittable[chunk] && (dealing_.dist == "dynamic" || dealing_.dist == "group");
    return alone ? static_cast<std::uint32_t>(problem.splittable.size() + test) : chunk;
  };
  // Only a machine that has both knows when a test is over for which another one waits.
  Joined chunks;
  for (auto [first, second] : precedence_.pairs()) chunks.join(chunk_of(first), chunk_of(second));
  for (std::size_t i = 0; i < tests_.size(); ++i) {
    if (tests_[i].settled) continue;
    plan::Portion& portion = portions[chunks.of(chunk_of(i))];
    portion.tests.push_back(i);
    portion.ranks = std::max({portion.ranks, 1, tests_[i].ranks});
    portion.expected += std::max(0.0, static_cast<double>(tests_[i].usual));
  }
  if (portions.empty()) return;
  std::vector<plan::Portion> list;
  list.reserve(portions.size());
  for (auto& [chunk, portion] : portions) list.push_back(std::move(portion));
  bool one_machine = dealing_.dist == "one" || dealing_.dist == "static" || dealing_.dist == "sequential";
  plan::Portions dealt;
  dealt.reset(std::move(list), dealing_.keep_order, one_machine);
  if (Status status = farm_->begin(std::move(dealt)); !status) {
    fail_run(status.error().kind == ErrorKind::UserMistake ? "usage" : "infra",
             "--hf-backend: failed to " + status.error().message());
  }
}

void Dispatcher::on_farm_result(const FarmNode& node, const wire::Json& frame) {
  Verdict verdict;
  journal::Record& record = verdict.record;
  record.verdict = frame.value("verdict", "error");
  record.attempts = frame.value("attempts", 1);
  record.duration = wire::number(frame, "duration", 0);
  record.slot = node.first_slot + frame.value("slot", 0);
  verdict.notes = frame.value("notes", wire::Json::array());
  verdict.reports = frame.value("reports", wire::Json::array());
  verdict.detail = frame.value("detail", wire::Json::object());
  verdict.detail["node"] = node.name;
  if (!frame.value("test", wire::Json()).is_number_unsigned()) {
    settle_extra_of_node(node, frame.value("id", ""), std::move(verdict));
    return;
  }
  verdict.test = frame["test"].get<std::size_t>();
  if (verdict.test >= tests_.size() || tests_[verdict.test].settled) return;
  record.test = static_cast<std::int64_t>(verdict.test);
  const wire::Json usage = verdict.detail.value("usage", wire::Json::object());
  verdict.cpu = wire::number(usage, "user", 0) + wire::number(usage, "system", 0);
  verdict.written = usage.value("written", std::uint64_t{0});
  verdict.vram = usage.value("vram", std::uint64_t{0});
  double began = loop_.clock().wall() - record.duration;
  if (!keep(ledger_->start_attempt(record.test, record.attempts, record.slot, began))) return;
  queue_.settle(verdict.test);
  conclude(std::move(verdict));
}

/// What is not a collected test: a worker's end.
void Dispatcher::settle_extra_of_node(const FarmNode& node, const std::string& name, Verdict verdict) {
  // A module that nobody can import is known here.
  if (verdict.detail.value("phase", "") == "collect") return;
  const std::string id = fmt::format("{} on {}", name, node.name);
  Result<std::int64_t> index = ledger_->add_extra_test(id);
  if (!index) {
    keep(tl::unexpected<Error>(index.error()));
    return;
  }
  verdict.record.test = *index;
  verdict.record.notes = verdict.notes.dump();
  settle_without_run(std::move(verdict.record), id, std::move(verdict.detail));
}

void Dispatcher::on_farm_frame(const FarmNode& node, const wire::Json& frame) {
  const std::string type = frame.value("t", "");
  wire::Json mine = frame;
  if (frame.contains("slot")) mine["slot"] = node.first_slot + frame.value("slot", 0);
  if (type == "note") {
    note(fmt::format("[{}] {}", node.name, frame.value("text", "")));
  } else if (type == "begun" || type == "output" || type == "stop" || type == "scope") {
    tell(mine);
  } else if (type == "exit") {
    tell(mine);
    stop(limits_.grace);
  } else if (type == "gpus") {
    for (wire::Json& device : mine["devices"]) {
      device["id"] = fmt::format("{} {}", node.name, device.value("id", ""));
      farm_gpus_.push_back(device);
    }
  }
}

/// A verdict on a test that nobody could run.
void Dispatcher::settle_unrun(std::size_t test, const std::string& verdict, wire::Json detail) {
  if (tests_[test].settled || ledger_ == nullptr) return;
  journal::Record record;
  record.test = static_cast<std::int64_t>(test);
  record.verdict = verdict;
  detail["phase"] = "setup";
  settle_without_run(std::move(record), ids_[test], std::move(detail));
}

/// When the root zygote, the resources and the nodes have ended.
void Dispatcher::end_when_over() {
  if (root_over_ && broker_.idle() && (farm_ == nullptr || farm_over_)) end();
}

void Dispatcher::on_farm_over() {
  farm_over_ = true;
  end_when_over();
}

// ---- a node's side ---------------------------------------------------------------------------------------------------------

/// The tests that are ours; more may come later. Shared fixtures stay as long as that is so.
void Dispatcher::take_tests(const wire::Json& frame) {
  bool more = frame.value("more", false);
  auto tests = frame.value("tests", std::vector<std::size_t>{});
  const auto usual = frame.value("usual", std::vector<double>{});
  bool first = !running_;
  chosen_.resize(tests_.size(), false);
  if (more != more_) {
    more_ = more;
    for (int scope = 0; tree_.has(scope); ++scope) {
      if (tree_.at(scope).parent == Tree::kNone) more ? tree_.hold(scope) : tree_.settle(scope);
    }
  }
  std::vector<bool> fresh(tests.size(), false);
  for (std::size_t i = 0; i < tests.size(); ++i) {
    fresh[i] = tests[i] < tests_.size() && !chosen_[tests[i]];
    if (fresh[i]) chosen_[tests[i]] = true;
  }
  // What runs elsewhere is not waited for. What does not, has come with those that wait for it, or before.
  for (auto [earlier, later] : precedence_.pairs()) {
    if (chosen_[later] && !chosen_[earlier]) precedence_.part(earlier, later);
  }
  // What is put back last is taken first.
  for (std::size_t i = tests.size(); i-- > 0;) {
    if (!fresh[i]) continue;
    std::size_t test = tests[i];
    // What run_tests() has from a history elsewhere.
    if (first && i < usual.size() && usual[i] >= 0) known_[ids_[test]] = journal::Known{usual[i]};
    if (first) continue;
    if (i < usual.size()) tests_[test].usual = static_cast<float>(usual[i]);
    tests_[test].settled = false;
    tree_.expect(tests_[test].scope);
    broker_.expect(needs_of(test));
    if (!precedence_.waits(test)) queue_.put_back(test);
  }
  if (first) {
    run_tests();
    return;
  }
  told_end_ = false;
  refuse_impossible();
  settle_hopeless();
  wake_idle();
  check_end();
}

}  // namespace holdfast::run
