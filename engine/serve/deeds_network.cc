// Faults of the network: a namespace that the service owns (link.h), and what packets meet on their way there and back.
#include <fmt/format.h>
#include <unistd.h>

#include <cctype>

#include "serve/container.h"
#include "serve/deeds.h"
#include "serve/link.h"
#include "serve/undo.h"

namespace holdfast::serve {

namespace {

class NamespaceDeed : public Deed {
 public:
  NamespaceDeed(Networks& networks, std::string name) : networks_(networks), name_(std::move(name)) {}

  std::vector<Change> changes() override {
    Change change;
    change.what = fmt::format("the network namespace {}, and a device of that name", name_);
    change.undo = {{"do", "namespace"}, {"name", name_}};
    return {change};
  }
  Status trigger() override {
    Result<std::unique_ptr<Link>> made = Link::create(name_);
    if (!made) return tl::unexpected(made.error());
    link_ = std::move(*made);
    networks_[name_] = link_;
    return {};
  }
  Json verify() override {
    bool there = link_ != nullptr && ::access(namespace_path(name_).c_str(), F_OK) == 0;
    Json evidence = {{"namespace", name_}, {"enter", fmt::format("ip netns exec {} COMMAND", name_)}};
    if (link_ != nullptr) {
      evidence.update({{"path", namespace_path(name_)}, {"address", link_->there()}, {"gateway", link_->here()}});
      evidence.update({{"passed", link_->passed()}, {"dropped", link_->dropped()}, {"delayed", link_->delayed()}});
    }
    return {{"verified", there}, {"evidence", evidence}};
  }

 private:
  Networks& networks_;
  std::string name_;
  std::shared_ptr<Link> link_;
};

class WeatherDeed : public Deed {
 public:
  WeatherDeed(const std::shared_ptr<Link>& link, const Weather& weather, std::string name)
      : link_(link), weather_(weather), name_(std::move(name)) {}
  ~WeatherDeed() override {
    if (std::shared_ptr<Link> link = link_.lock()) link->give_up_claim();
  }
  WeatherDeed(const WeatherDeed&) = delete;
  WeatherDeed& operator=(const WeatherDeed&) = delete;

  std::vector<Change> changes() override {
    Change change;
    change.what =
        fmt::format("packets to and from {} are late by {:g} s, {:g} of them are lost", name_, weather_.delay, weather_.loss);
    change.undo = {{"do", "nothing"}, {"why", "it has ended with the service"}};
    return {change};
  }
  Status trigger() override {
    std::shared_ptr<Link> link = link_.lock();
    if (link == nullptr) return fail(ErrorKind::GiveUpTest, fmt::format("begin it: the namespace {} is gone", name_));
    dropped_ = link->dropped();
    delayed_ = link->delayed();
    link->set_weather(weather_);
    return {};
  }
  void stop() override {
    if (std::shared_ptr<Link> link = link_.lock()) link->set_weather({});
  }
  Json verify() override {
    std::shared_ptr<Link> link = link_.lock();
    if (link == nullptr) return {{"verified", false}, {"evidence", {{"namespace", name_ + " is gone"}}}};
    std::uint64_t dropped = link->dropped() - dropped_, delayed = link->delayed() - delayed_;
    bool seen = (weather_.loss == 0 || dropped > 0) && (weather_.delay == 0 || delayed > 0 || weather_.loss == 1);
    return {{"verified", seen}, {"evidence", {{"namespace", name_}, {"dropped", dropped}, {"delayed", delayed}}}};
  }

 private:
  std::weak_ptr<Link> link_;
  Weather weather_;
  std::string name_;
  std::uint64_t dropped_ = 0, delayed_ = 0;
};

/// A container's cable is pulled: its other end is down.
class CutDeed : public Deed {
 public:
  CutDeed(Cable cable, std::string who) : cable_(std::move(cable)), who_(std::move(who)) {}

  std::vector<Change> changes() override {
    Change change;
    change.what = fmt::format("{} is cut off: {} is down", who_, cable_.name);
    change.undo = {{"do", "cable"}, {"name", cable_.name}, {"index", cable_.index}};
    return {change};
  }
  Status trigger() override { return set_cable(cable_, false); }
  Json verify() override {
    Result<bool> up = cable_is_up(cable_);
    std::string state = !up ? "gone" : *up ? "up" : "down";
    return {{"verified", up.has_value() && !*up}, {"evidence", {{"device", cable_.name}, {"state", state}}}};
  }

 private:
  Cable cable_;
  std::string who_;
};

Result<std::unique_ptr<Deed>> make_cut_deed(const Json& body, std::string& type, std::string& target) {
  std::string problem;
  std::string id = container_id(text_of(body, "container", "", problem));
  if (problem.empty() && id.empty()) problem = "container: that is no id of one";
  if (problem.empty() && !flag_of(body, "partition", false, problem))
    problem = "container: it can be cut off (partition: true)";
  for (const char* other : {"namespace", "delay", "loss", "seed"}) {
    if (problem.empty() && body.contains(other)) problem = fmt::format("{}: not together with container", other);
  }
  if (!problem.empty()) return fail(ErrorKind::UserMistake, problem);
  Result<pid_t> process = process_in_container(id, 1);
  if (!process) return tl::unexpected(process.error());
  Result<Cable> cable = cable_of(*process);
  if (!cable) return tl::unexpected(cable.error());
  Result<bool> up = cable_is_up(*cable);
  // Otherwise this fault's end would be that of another one, too.
  if (up && !*up) return fail(ErrorKind::UserMistake, fmt::format("container: {} is down already", cable->name));
  type = "network_partition";
  target = fmt::format("container {}", id.substr(0, 12));
  return std::unique_ptr<Deed>(new CutDeed(*cable, target));
}

/// The namespace's full name; empty where that is none.
std::string full_name(const Json& body, const char* field, std::string& problem) {
  std::string name = text_of(body, field, "", problem);
  if (name.rfind("hf-", 0) == 0) name.erase(0, 3);
  bool good = !name.empty() && name.size() <= 12;  // A device's name has 15 characters at most.
  for (char letter : name)
    good = good &&
           (std::islower(static_cast<unsigned char>(letter)) != 0 || std::isdigit(static_cast<unsigned char>(letter)) != 0);
  if (problem.empty() && !good) problem = fmt::format("{}: '{}' is none; give 1 to 12 small letters and digits", field, name);
  return "hf-" + name;
}

}  // namespace

Result<std::unique_ptr<Deed>> make_namespace_deed(Networks& networks, const Json& body, std::string& type,
                                                  std::string& target) {
  std::string problem;
  std::string name = full_name(body, "name", problem);
  if (!problem.empty()) return fail(ErrorKind::UserMistake, problem);
  if (::access(namespace_path(name).c_str(), F_OK) == 0) {
    return fail(ErrorKind::UserMistake, fmt::format("name: there is a namespace {} already", name));
  }
  type = "network_namespace";
  target = name;
  return std::unique_ptr<Deed>(new NamespaceDeed(networks, name));
}

Result<std::unique_ptr<Deed>> make_network_deed(Networks& networks, const Json& body, std::string& type, std::string& target) {
  if (body.contains("container")) return make_cut_deed(body, type, target);
  std::string problem;
  std::string name = full_name(body, "namespace", problem);
  Weather weather;
  weather.delay = number_of(body, "delay", 0, 0, 600, problem);
  weather.loss = number_of(body, "loss", 0, 0, 1, problem);
  weather.seed = static_cast<std::uint64_t>(number_of(body, "seed", 0, 0, 9e15, problem));
  bool partition = flag_of(body, "partition", false, problem);
  if (problem.empty() && partition && (weather.delay > 0 || weather.loss > 0)) {
    problem = "partition: no packet comes through, so leave out delay and loss";
  }
  if (problem.empty() && !partition && weather.delay == 0 && weather.loss == 0) {
    problem = "delay (seconds), loss (a share), partition (true): which?";
  }
  if (!problem.empty()) return fail(ErrorKind::UserMistake, problem);
  if (partition) weather.loss = 1;
  std::shared_ptr<Link> link = networks[name].lock();
  if (link == nullptr) {
    networks.erase(name);
    return fail(ErrorKind::GiveUpTest,
                fmt::format("namespace: this service has made no {}; POST network/namespace does", name));
  }
  if (!link->claim()) {
    return fail(ErrorKind::UserMistake, fmt::format("namespace: {} has a fault already; recover it first", name));
  }
  type = partition ? "network_partition" : weather.delay > 0 ? "network_delay" : "network_loss";
  target = name;
  return std::unique_ptr<Deed>(new WeatherDeed(link, weather, name));
}

}  // namespace holdfast::serve
