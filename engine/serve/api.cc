#include "serve/api.h"

#include <fmt/format.h>

#include "serve/deeds.h"
#include "serve/openapi.h"

namespace holdfast::serve {

namespace {

constexpr std::string_view kFaults = "/api/v1/faults";

Response json(const Reply& reply) { return {reply.status, reply.body.dump(-1, ' ', false, Json::error_handler_t::replace)}; }

Reply xid_types() {
  Json types = Json::array();
  for (const Json& entry : xid_table()) {
    std::string remedy = entry.value("remedy", "");
    types.push_back({{"code", entry.value("xid", 0)},
                     {"name", entry.value("name", "")},
                     {"description", entry.value("meaning", "")},
                     {"severity", remedy == "none"          ? "info"
                                  : remedy == "restart_app" ? "warning"
                                                            : "critical"},
                     {"remedy", remedy},
                     {"reach", entry.value("reach", "")},
                     {"error", entry.value("driver", 0)}});
  }
  return {200, types};
}

/// What stands behind `prefix` in `path`, if it does.
std::optional<std::string> behind(const std::string& path, std::string_view prefix) {
  if (path.compare(0, prefix.size(), prefix) != 0) return std::nullopt;
  return path.substr(prefix.size());
}

/// Upstream's: the network is as it was.
Reply clean_network(Faults& faults, double now) {
  Reply listed = faults.list(true);
  Json recovered = Json::array();
  for (const Json& fault : listed.body["faults"]) {
    if (fault["fault_type"].get<std::string>().rfind("network_", 0) != 0) continue;
    recovered.push_back(fault["fault_id"]);
    faults.recover(fault["fault_id"], now);
  }
  std::size_t count = recovered.size();
  return {200, {{"recovered", std::move(recovered)}, {"count", count}}};
}

Reply inject(Faults& faults, const Request& request, const std::string& what, double now) {
  Json body = request.body.empty() ? Json::object() : Json::parse(request.body, nullptr, false);
  if (body.is_discarded()) return refuse(400, "the body is not JSON");
  if (what == "network/namespace") return faults.inject(what, std::move(body), now);
  for (const char* kind : {"gpu", "process", "memory", "disk", "network"}) {
    if (what == fmt::format("{}/inject", kind)) return faults.inject(kind, std::move(body), now);
  }
  std::optional<std::string> xid = behind(what, "gpu/inject/xid-");
  if (!xid || xid->empty() || xid->size() > 4 || xid->find_first_not_of("0123456789") != std::string::npos ||
      !body.is_object()) {
    return refuse(xid && !body.is_object() ? 400 : 404,
                  xid ? "give the number of an XID, and an object" : "there is no such route");
  }
  int number = std::stoi(*xid);
  if (body.contains("xid_type") && body["xid_type"] != number) {
    return refuse(400, fmt::format("xid_type: {} in the body, {} in the path", body["xid_type"].dump(), number));
  }
  body["fault_type"] = "xid_error";
  body["xid_type"] = number;
  return faults.inject("gpu", std::move(body), now);
}

Reply one_fault(Faults& faults, const Request& request, const std::string& rest, double now) {
  std::size_t slash = rest.find('/');
  std::string id = rest.substr(0, slash), action = slash == std::string::npos ? "" : rest.substr(slash + 1);
  if (action.empty() && request.method == "GET") return faults.show(id);
  if (action.empty() && request.method == "DELETE") return faults.recover(id, now);
  if (request.method != "POST") return refuse(405, fmt::format("{} is not for this route", request.method));
  if (action == "recover") return faults.recover(id, now);
  if (action == "trigger") return faults.trigger(id, now);
  if (action == "verify") return faults.verify(id);
  return refuse(404, "there is no such route; /openapi.json lists them");
}

Reply route(Faults& faults, const Request& request, double now) {
  const std::string& path = request.path;
  bool get = request.method == "GET";
  if (path == "/health" && get) return {200, faults.health()};
  if (path == "/api/v1/metrics/collect" && get) return {200, faults.measure()};
  if (path == "/api/v1/page" && get) return {200, faults.environment()};
  if (path == kFaults && get) {
    auto wish = request.query.find("active_only");
    return faults.list(wish != request.query.end() && (wish->second == "true" || wish->second == "1"));
  }
  if (std::optional<std::string> rest = behind(path, "/api/v1/faults/"); rest && !rest->empty()) {
    if (*rest == "network/cleanup") {
      return request.method == "POST" ? clean_network(faults, now) : refuse(405, "POST is for this route");
    }
    if (*rest == "gpu/xid-types") return get ? xid_types() : refuse(405, "GET is for this route");
    if (rest->find("/inject") != std::string::npos || *rest == "network/namespace") {
      return request.method == "POST" ? inject(faults, request, *rest, now) : refuse(405, "POST is for this route");
    }
    return one_fault(faults, request, *rest, now);
  }
  for (std::string_view known :
       {"/health", "/openapi.json", "/metrics", "/api/v1/metrics/collect", "/api/v1/page", kFaults.data()}) {
    if (path == known) return refuse(405, "GET is for this route");
  }
  return refuse(404, "there is no such route; /openapi.json lists them");
}

}  // namespace

bool is_open(const Request& request) { return request.path == "/health" || request.path == "/openapi.json"; }

Response answer(Faults& faults, const Request& request, double now) {
  if (request.method == "GET" && request.path == "/openapi.json") return {200, kOpenApi};
  if (request.method == "GET" && request.path == "/metrics") return {200, faults.metrics(), "text/plain; version=0.0.4"};
  return json(route(faults, request, now));
}

}  // namespace holdfast::serve
