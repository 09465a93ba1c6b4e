// The part of Dispatcher that joins tests to GPUs (run/devices.h, plan/device_book.h).
//
// A test begins with its lease. When it is over, its devices are looked at before they go to the next one; if it has failed and
// something speaks against them, it is judged again on others: what passes there was the device's fault (`infra`), what fails
// there, too, is the test's own.
#include <algorithm>

#include "inventory/gpu_helper.h"
#include "run/dispatcher.h"

namespace holdfast::run {

namespace {

// Other devices that a test is tried on where the devices themselves say that they are at fault; on suspicion one.
constexpr int kMostDevicesTried = 3;
// Seconds between two looks at devices that are out of use (--hf-no-gpu=wait:SECONDS).
constexpr double kTryAgain = 1;

}  // namespace

DevicesHost Dispatcher::devices_host() {
  DevicesHost host;
  host.note = [this](const std::string& text) { note(text); };
  host.log = [this](const char* kind, const nlohmann::ordered_json& fields) { log_event(kind, fields); };
  host.on_usable = [this](int device, bool usable) {
    if (device >= static_cast<int>(queue_.devices().size())) return;  // Before the scheduler knows of any.
    // One that comes back may have been unknown until now.
    if (usable) queue_.devices().change(device) = devices_->for_plan()[static_cast<std::size_t>(device)];
    queue_.devices().change(device).usable = usable;
    // Not from inside of what is going on there.
    loop_.call_after({}, [this] {
      settle_hopeless();
      wake_idle();
      check_end();
    });
  };
  host.on_foreign = [this](int device, std::uint64_t bytes) {
    if (device < static_cast<int>(queue_.devices().size())) queue_.devices().change(device).foreign = bytes;
  };
  return host;
}

/// True where the run has to wait until it is known what GPUs there are; it then goes on by itself.
bool Dispatcher::await_gpus() {
  bool wanted = gpu_options_.per_slot > 0 || wishes_.any_gpus();
  if (!wanted || gpus_known_) return false;
  if (gpus_asked_) return true;
  gpus_asked_ = true;
  if (gpu_options_.most == 0) {
    gpus_known_ = true;
    return false;
  }
  devices_ = std::make_unique<Devices>(loop_, std::make_unique<inventory::HelperProbe>(loop_), devices_host());
  devices_->open(gpu_options_.most, [this](const Status& status) {
    gpus_known_ = true;
    if (!status) {
      running_ = true;
      fail_run("usage", status.error().message());
      check_end();
      return;
    }
    if (devices_->size() == 0 && !gpu_options_.soft) note("no GPU can be used: " + devices_->why_none());
    run_tests();
  });
  return true;
}

/// What the tests ask for, in terms of the devices that there are.
void Dispatcher::resolve_gpus() {
  std::vector<inventory::Gpu> gpus;
  for (std::size_t i = 0; devices_ != nullptr && i < devices_->size(); ++i) gpus.push_back(devices_->gpu(static_cast<int>(i)));
  wishes_.set_gpus(gpus, gpu_options_.per_slot, gpu_options_.soft);
  dealing_.devices = devices_ != nullptr ? devices_->for_plan() : std::vector<plan::Device>();
}

/// Why the test cannot be given the GPUs that it asks for; empty if it can. `ever`: also with those that are out of use.
std::string Dispatcher::why_no_gpus(const plan::DeviceDemand& demand, bool ever) const {
  if (demand.count == 0) return "";
  std::vector<plan::Device> devices = devices_ != nullptr ? devices_->for_plan() : std::vector<plan::Device>();
  int all = static_cast<int>(devices.size());
  int suiting = 0;
  std::uint64_t largest = 0;
  for (std::size_t i = 0; i < devices.size(); ++i) {
    if (!ever && !devices[i].usable) continue;
    bool allowed = (demand.allowed >> i & 1U) != 0;
    if (allowed) largest = std::max(largest, devices[i].total);
    suiting += allowed && demand.memory <= devices[i].total ? 1 : 0;
  }
  if (suiting >= demand.count) return "";
  if (all == 0) {
    std::string why = devices_ == nullptr ? "--hf-gpus=none" : devices_->why_none();
    return fmt::format("it asks for {} GPU(s), and there is none: {}", demand.count, why);
  }
  if (!ever && !devices_->why_unusable().empty()) {
    return fmt::format("it asks for {} GPU(s), and {} of {} can be used: {}", demand.count, suiting, all,
                       devices_->why_unusable());
  }
  std::string what =
      demand.memory > 0 ? fmt::format(" with {:.1f} GiB each", static_cast<double>(demand.memory) / (1U << 30U)) : "";
  std::string kind = demand.allowed != ~plan::DeviceSet{0} ? " of the architecture that it names" : "";
  return fmt::format("it asks for {} GPU(s){}{}, and {} of the {} here suit(s); the largest has {:.1f} GiB", demand.count, what,
                     kind, suiting, all, static_cast<double>(largest) / (1U << 30U));
}

/// Whether the GPUs that a waiting test asks for are not there (any more).
bool Dispatcher::is_hopeless(std::size_t test) {
  if (tests_[test].settled || !queue_.is_waiting(test)) return false;
  const plan::DeviceDemand& demand = queue_.demand_of(test).devices;
  return demand.count > 0 && !queue_.devices().is_possible(demand);
}

/// Tests that were to run on GPUs of which none is left (or was there from the start) end here.
void Dispatcher::settle_hopeless() {
  if (!running_ || stopping_ || ending_ || ledger_ == nullptr || gpu_wait_ == Wait::Waiting) return;
  for (std::size_t i = 0; i < tests_.size(); ++i) {
    if (!is_hopeless(i)) continue;
    if (gpu_options_.no_gpu == "wait" && gpu_wait_ == Wait::NotYet) {
      wait_for_gpus();
      return;
    }
    const plan::DeviceDemand& demand = queue_.demand_of(i).devices;
    std::string reason = why_no_gpus(demand, false);
    bool skip = gpu_options_.no_gpu == "skip";
    journal::Record record;
    record.test = static_cast<std::int64_t>(i);
    record.verdict = skip ? "skipped" : devices_ != nullptr && devices_->size() > 0 ? "infra" : "error";
    record.attempts = tests_[i].attempts + 1;
    wire::Json detail = {{"problem", reason}, {"phase", "setup"}};
    wire::Json notes = wire::Json::array();
    if (!tests_[i].earlier.empty()) {
      wire::Json reports = wire::Json::array();
      weigh(tests_[i].earlier, sternness_, record, reports, notes, detail);
      record.notes = notes.dump();
    }
    judged_again_ -= std::exchange(tests_[i].urgent, false) ? 1 : 0;
    if (!settle_without_run(std::move(record), ids_[i], std::move(detail))) return;
  }
  check_end();
}

void Dispatcher::wait_for_gpus() {
  gpu_wait_ = Wait::Waiting;
  os::Time deadline = loop_.clock().now() + os::seconds(gpu_options_.wait);
  note(fmt::format("tests wait for GPUs that cannot be used at the moment ({}); looking again for {:g} s",
                   devices_->why_unusable(), gpu_options_.wait));
  ++parked_;
  auto again = std::make_shared<std::function<void()>>();
  *again = [this, again, deadline] {
    devices_->try_again([this, again, deadline] {
      bool hopeless = false;
      for (std::size_t i = 0; i < tests_.size() && !hopeless; ++i) hopeless = is_hopeless(i);
      if (hopeless && !stopping_ && loop_.clock().now() < deadline) {
        loop_.call_after(os::seconds(kTryAgain), [again] { (*again)(); });
        return;
      }
      --parked_;
      gpu_wait_ = hopeless ? Wait::GaveUp : Wait::NotYet;
      loop_.call_after({}, [this, again] {
        *again = nullptr;
        settle_hopeless();
        wake_idle();
        check_end();
      });
    });
  };
  (*again)();
}

// ---- leases ----------------------------------------------------------------------------------------------------------------

/// Gives the devices of its lease to a test that is about to begin.
void Dispatcher::lend(Order& order, int slot) {
  if (tests_[order.test].hides_gpus) {
    order.gpus = Devices::order_for_none();
    return;
  }
  const plan::Lease* lease = queue_.lease_of(slot, order.test);
  if (lease == nullptr || devices_ == nullptr) return;
  order.gpus = devices_->order_for(*lease);
  if (queue_.has_own_lease(order.test)) {
    devices_->begin(*lease, order.id);
  } else if (kept_begun_.insert(slot).second) {
    devices_->begin(*lease, worker_name(slot));
  }
}

std::string Dispatcher::worker_name(int slot) { return fmt::format("worker gw{}", slot); }

/// A test's lease has become that of the process in which its scope was set up.
void Dispatcher::keep_lease(std::size_t test, int slot) {
  const plan::Lease* lease = queue_.kept_lease(slot);
  if (lease == nullptr || devices_ == nullptr || !kept_begun_.insert(slot).second) return;
  devices_->rename(*lease, ids_[test], worker_name(slot));
}

/// The test did not run, or was ended by us.
void Dispatcher::drop_lease(std::size_t test) {
  const plan::Lease* lease = queue_.has_own_lease(test) ? queue_.lease_of(-1, test) : nullptr;
  if (lease == nullptr || devices_ == nullptr) return;
  devices_->end(*lease, ids_[test]);
  queue_.returned(test);
}

/// The slot's kept process has ended. What it had goes to others, unless a test waits that is to have it in the next one.
void Dispatcher::kept_process_gone(int slot) {
  const plan::Lease* kept = queue_.kept_lease(slot);
  if (kept == nullptr || devices_ == nullptr) return;
  for (const auto* waiting : {&reserved_, &staged_}) {
    auto found = waiting->find(slot);
    if (found != waiting->end() && found->second.reuse && queue_.demand_of(found->second.test).devices.count > 0) return;
  }
  plan::Lease lease = *queue_.process_gone(slot);
  bool begun = kept_begun_.erase(slot) > 0;
  if (!begun) {
    queue_.release(lease);
    return;
  }
  ++parked_;
  Devices::Ended ended;
  ended.lease = lease;
  ended.id = worker_name(slot);
  ended.began = os::to_seconds(loop_.clock().now().time_since_epoch());
  devices_->settle(std::move(ended), [this, lease, slot](const Settled& settled) {
    --parked_;
    for (const Leak& leak : settled.leaks) note(fmt::format("the worker of slot {} left behind: {}", slot, leak.text));
    queue_.release(lease);
    wake_idle();
    check_end();
  });
}

/// True if the attempt had devices, and is kept back until these have been looked at.
bool Dispatcher::await_devices(Attempt& attempt) {
  const plan::Lease* lease = devices_ != nullptr ? queue_.lease_of(attempt.slot, attempt.test) : nullptr;
  if (lease == nullptr) return false;
  bool own = queue_.has_own_lease(attempt.test);
  std::string verdict = judge(attempt.evidence);
  bool good = is_good(verdict);
  if (good && !own) {
    devices_->worked(*lease);
    return false;
  }
  Devices::Ended ended;
  ended.lease = *lease;
  ended.id = attempt.test < ids_.size() ? ids_[attempt.test] : "";
  ended.pid = attempt.pid;
  ended.began = os::to_seconds(loop_.clock().now().time_since_epoch()) - attempt.duration;
  ended.lives_on = !own;
  ended.failed = !good && !stopping_;
  ended.dead = ended.failed && !is_pytest_verdict(verdict);
  bool faulted = attempt.test < tests_.size() && tests_[attempt.test].faulted;
  if (ended.failed && !faulted) {
    ended.failure = attempt.reports.dump(-1, ' ', false, wire::Json::error_handler_t::replace) + attempt.out + attempt.err;
  }
  ++parked_;
  auto parked = std::make_shared<Attempt>(std::move(attempt));
  devices_->settle(std::move(ended), [this, parked, own, good, lease = *lease](Settled settled) {
    --parked_;
    if (own) queue_.returned(parked->test);
    if (good) devices_->worked(lease);
    parked->vram = settled.peak;
    parked->suspicion = std::move(settled.suspicion);
    for (Leak& leak : settled.leaks) parked->evidence.leaks.push_back(std::move(leak));
    if (!await_check(*parked)) decide(std::move(*parked));
    resume_staged();
    wake_idle();
    check_end();
  });
  return true;
}

/// Whether the test is to be judged again because its devices may be to blame, and can be.
bool Dispatcher::may_blame_devices(const Attempt& attempt) const {
  const Suspicion& suspicion = attempt.suspicion;
  if (suspicion.devices == 0) return false;
  const std::vector<Earlier>& earlier = tests_[attempt.test].earlier;
  auto tried = std::count_if(earlier.begin(), earlier.end(), [](const Earlier& one) { return one.cause == kOtherDevice; });
  if (suspicion.crowded) return tried == 0;
  if (tried >= (suspicion.proved ? kMostDevicesTried : 1)) return false;
  plan::DeviceSet avoid = queue_.avoided_by(attempt.test) | suspicion.devices;
  return queue_.devices().is_possible(queue_.demand_of(attempt.test).devices, avoid);
}

/// What is known now of the devices of earlier attempts. Returns the words for people, if one of them was to blame.
std::string Dispatcher::blame_devices(Test& test, const std::string& id, bool good) {
  std::string blamed;
  for (Earlier& attempt : test.earlier) {
    if (attempt.cause != kOtherDevice || attempt.suspicion.crowded || !(good || attempt.suspicion.proved)) continue;
    if (attempt.verdict == "infra") continue;
    attempt.detail["was"] = attempt.verdict;
    attempt.verdict = "infra";
    blamed = fmt::format("{} ({})", devices_->names_of(attempt.suspicion.devices), fmt::join(attempt.suspicion.evidence, "; "));
    devices_->strike(attempt.suspicion.devices,
                     fmt::format("{} failed here, and {}", id, good ? "passed elsewhere" : "that was proved"));
  }
  return blamed;
}

}  // namespace holdfast::run
