#include "serve/faults.h"

#include <fmt/chrono.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <random>

#include "inventory/memory.h"
#include "serve/deeds.h"
#include "serve/undo.h"

namespace holdfast::serve {

namespace {

// Faults that have ended and are still shown.
constexpr std::size_t kKept = 1000;
constexpr std::size_t kActive = 256;

std::string new_id(const std::string& type) {
  static std::random_device random;
  return fmt::format("{}-{:08x}", type, static_cast<std::uint32_t>(random()));
}

Json time_of(double seconds) {
  if (seconds == 0) return nullptr;
  auto whole = static_cast<std::time_t>(seconds);
  return fmt::format("{:%Y-%m-%dT%H:%M:%S}.{:03d}Z", fmt::gmtime(whole),
                     static_cast<int>((seconds - std::floor(seconds)) * 1000));
}

Reply reply_of(const Error& error) {
  int status = error.kind == ErrorKind::UserMistake ? 400 : error.kind == ErrorKind::GiveUpTest ? 404 : 500;
  return refuse(status, error.message());
}

}  // namespace

Reply refuse(int status, std::string detail) { return {status, {{"detail", std::move(detail)}}}; }

double number_of(const Json& body, const char* name, double otherwise, double least, double most, std::string& problem) {
  auto found = body.find(name);
  if (found == body.end() || found->is_null()) return otherwise;
  if (!found->is_number() || found->get<double>() < least || found->get<double>() > most) {
    problem = fmt::format("{}: {} is no number from {:g} to {:g}", name, found->dump().substr(0, 100), least, most);
    return otherwise;
  }
  return found->get<double>();
}

bool flag_of(const Json& body, const char* name, bool otherwise, std::string& problem) {
  Json found = body.value(name, Json(otherwise));
  if (found.is_boolean()) return found.get<bool>();
  problem = fmt::format("{}: give true or false", name);
  return otherwise;
}

std::string text_of(const Json& body, const char* name, const std::string& otherwise, std::string& problem) {
  auto found = body.find(name);
  if (found == body.end() || found->is_null()) return otherwise;
  if (!found->is_string()) {
    problem = fmt::format("{}: {} is no text", name, found->dump().substr(0, 100));
    return otherwise;
  }
  return found->get<std::string>();
}

struct Faults::Fault {
  std::string id, type, target, owner, message;
  std::string status = "pending";  ///< pending, active, recovered, failed
  double asked = 0, injected = 0, ended = 0, duration = 0;
  std::unique_ptr<Deed> deed;
  std::vector<std::int64_t> changes;
  std::vector<Json> undone;
  Json verified;  ///< What verify() said last, also after the end.

  [[nodiscard]] bool is_over() const { return status == "recovered" || status == "failed"; }
  [[nodiscard]] Json shown() const {
    Json shown = {{"fault_id", id},
                  {"status", status},
                  {"fault_type", type},
                  {"target", target},
                  {"owner", owner},
                  {"asked_at", time_of(asked)},
                  {"injected_at", time_of(injected)},
                  {"recovered_at", time_of(ended)},
                  {"duration", duration},
                  {"message", message}};
    if (verified.is_object()) shown.update(verified);
    return shown;
  }
};

Faults::Faults(Settings settings, UndoLog log, KernelLog kernel)
    : settings_(std::move(settings)), log_(std::move(log)), kernel_(std::move(kernel)) {}
Faults::~Faults() = default;

Faults::Fault* Faults::find(const std::string& id) const {
  auto found = faults_.find(id);
  return found == faults_.end() ? nullptr : found->second.get();
}

Result<std::unique_ptr<Deed>> Faults::make(const std::string& kind, const Json& body, Fault& fault) {
  if (kind == "gpu") return make_gpu_deed(settings_, kernel_, body, fault.type, fault.target);
  if (kind == "network/namespace") return make_namespace_deed(networks_, body, fault.type, fault.target);
  if (kind == "network") return make_network_deed(networks_, body, fault.type, fault.target);
  if (kind == "memory") return make_memory_deed(body, fault.type, fault.target);
  if (kind == "disk" && body.contains("bytes_per_second")) return make_throttle_deed(body, fault.type, fault.target);
  if (kind == "disk") return make_disk_deed(body, fault.type, fault.target);
  return make_process_deed(body, fault.type, fault.target);
}

Reply Faults::inject(const std::string& kind, Json body, double now) {
  std::string problem;
  if (body.is_null()) body = Json::object();
  if (!body.is_object()) return refuse(400, "the body is no object");
  auto active = std::count_if(faults_.begin(), faults_.end(), [](const auto& entry) { return !entry.second->is_over(); });
  if (static_cast<std::size_t>(active) >= kActive)
    return refuse(409, fmt::format("{} faults are active; recover some first", active));
  if (Json parameters = body.value("parameters", Json::object()); parameters.is_object()) {
    for (auto& [name, value] : parameters.items()) body.emplace(name, value);
  }
  std::string node = text_of(body, "node_name", settings_.node, problem);
  if (problem.empty() && node != settings_.node) problem = fmt::format("node_name: this is {}, not {}", settings_.node, node);
  auto fault = std::make_unique<Fault>();
  fault->duration = number_of(body, "duration", settings_.limit, 0.001, settings_.limit, problem);
  fault->owner = text_of(body, "owner", "", problem);
  bool armed_only = flag_of(body, "armed_only", false, problem);
  if (!problem.empty()) return refuse(400, problem);
  Result<std::unique_ptr<Deed>> deed = make(kind, body, *fault);
  if (!deed) return reply_of(deed.error());
  fault->deed = std::move(*deed);
  do {
    fault->id = new_id(fault->type);
  } while (find(fault->id) != nullptr);
  fault->asked = now;
  Fault& placed = *fault;
  order_.push_back(placed.id);
  faults_[placed.id] = std::move(fault);
  forget_old();
  if (armed_only) {
    placed.message = "armed; POST .../trigger begins it";
    return {200, placed.shown()};
  }
  return trigger(placed.id, now);
}

Status Faults::begin(Fault& fault, double now) {
  for (Change& change : fault.deed->changes()) {
    change.fault = fault.id;
    change.owner = fault.owner;
    change.made = now;
    change.expires = now + fault.duration;
    Result<std::int64_t> noted = log_.note(change);
    if (!noted) return tl::unexpected(noted.error());
    fault.changes.push_back(*noted);
    fault.undone.push_back(change.undo);
  }
  return fault.deed->trigger();
}

Reply Faults::trigger(const std::string& id, double now) {
  Fault* fault = find(id);
  if (fault == nullptr) return refuse(404, fmt::format("there is no fault {}", id));
  if (fault->status != "pending") return refuse(409, fmt::format("fault {} is {}", id, fault->status));
  Status begun = begin(*fault, now);
  fault->injected = now;
  if (!begun) {
    fault->message = "failed to " + begun.error().message();
    ++failed_[fault->type];
    finish(*fault, "failed", now);
    return {begun.error().kind == ErrorKind::GiveUpTest ? 404 : 500, {{"detail", fault->message}, {"fault_id", id}}};
  }
  fault->status = "active";
  fault->message = fmt::format("injected, for at most {:g} s; lines of XIDs go to: {}", fault->duration, kernel_.where());
  ++injected_[fault->type];
  return {200, fault->shown()};
}

Reply Faults::verify(const std::string& id) {
  Fault* fault = find(id);
  if (fault == nullptr) return refuse(404, fmt::format("there is no fault {}", id));
  if (!fault->is_over()) fault->verified = fault->deed->verify();
  Json said = {{"fault_id", id}, {"status", fault->status}};
  said.update(fault->verified.is_object() ? fault->verified : Json{{"verified", false}, {"evidence", Json::object()}});
  return {200, std::move(said)};
}

void Faults::finish(Fault& fault, const std::string& status, double now) {
  // What it has done is asked before it is undone.
  if (fault.injected != 0) fault.verified = fault.deed->verify();
  fault.deed->stop();
  for (std::size_t i = fault.changes.size(); i-- > 0;) {
    std::string outcome = undo(fault.undone[i]);
    if (Status settled = log_.settle(fault.changes[i], outcome); !settled) fault.message += "; " + settled.error().message();
  }
  fault.deed.reset();
  fault.status = status;
  fault.ended = now;
}

Reply Faults::recover(const std::string& id, double now) {
  Fault* fault = find(id);
  if (fault == nullptr) return refuse(404, fmt::format("there is no fault {}", id));
  if (!fault->is_over()) {
    finish(*fault, "recovered", now);
    fault->message = "recovered";
    ++recovered_;
  }
  return {200, fault->shown()};
}

Reply Faults::show(const std::string& id) const {
  Fault* fault = find(id);
  if (fault == nullptr) return refuse(404, fmt::format("there is no fault {}", id));
  Json shown = fault->shown();
  if (!fault->is_over()) shown.update(fault->deed->verify());
  return {200, std::move(shown)};
}

Reply Faults::list(bool active_only) const {
  Json faults = Json::array();
  for (const std::string& id : order_) {
    Fault* fault = find(id);
    if (!active_only || !fault->is_over()) faults.push_back(fault->shown());
  }
  std::size_t count = faults.size();
  return {200, {{"faults", std::move(faults)}, {"count", count}}};
}

Json Faults::health() const {
  return {{"status", "healthy"},
          {"service", "holdfast-faultd"},
          {"node", settings_.node},
          {"kernel_log", kernel_.where()},
          {"gpu_count", settings_.devices.size()}};
}

Json Faults::environment() const { return {{"page", settings_.page}, {"environment", {{"HOLDFAST_FAULTS", settings_.page}}}}; }

Json Faults::measure() const {
  double load[3] = {};
  ::getloadavg(load, 3);
  inventory::Memory memory = inventory::memory();
  auto active = std::count_if(faults_.begin(), faults_.end(), [](const auto& entry) { return !entry.second->is_over(); });
  return {{"node", settings_.node},
          {"load", {load[0], load[1], load[2]}},
          {"memory", {{"limit", memory.limit}, {"available", memory.available}}},
          {"gpu_count", settings_.devices.size()},
          {"faults", {{"active", active}, {"injected", injected_}, {"failed", failed_}, {"recovered", recovered_}}}};
}

std::string Faults::metrics() const {
  std::string text = "# TYPE holdfast_faults_injected_total counter\n";
  for (const auto& [type, count] : injected_)
    text += fmt::format("holdfast_faults_injected_total{{type=\"{}\"}} {}\n", type, count);
  text += "# TYPE holdfast_faults_failed_total counter\n";
  for (const auto& [type, count] : failed_)
    text += fmt::format("holdfast_faults_failed_total{{type=\"{}\"}} {}\n", type, count);
  auto active = std::count_if(faults_.begin(), faults_.end(), [](const auto& entry) { return !entry.second->is_over(); });
  text += fmt::format("# TYPE holdfast_faults_recovered_total counter\nholdfast_faults_recovered_total {}\n", recovered_);
  text += fmt::format("# TYPE holdfast_faults_active gauge\nholdfast_faults_active {}\n", active);
  return text;
}

void Faults::tick(double now) {
  for (auto& [id, fault] : faults_) {
    if (fault->is_over()) continue;
    double since = fault->injected != 0 ? fault->injected : fault->asked;
    if (now >= since + fault->duration) {
      finish(*fault, "recovered", now);
      fault->message = "its duration is over";
      ++recovered_;
    } else {
      fault->deed->tick();
    }
  }
}

void Faults::end(double now) {
  for (const std::string& id : order_) recover(id, now);
}

void Faults::forget_old() {
  for (std::size_t i = 0; i < order_.size() && order_.size() > kKept;) {
    if (find(order_[i])->is_over()) {
      faults_.erase(order_[i]);
      order_.erase(order_.begin() + static_cast<std::ptrdiff_t>(i));
    } else {
      ++i;
    }
  }
}

}  // namespace holdfast::serve
