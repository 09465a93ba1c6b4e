// From requests to the service's functions, and back to JSON: the routes of protocol/faultd.openapi.json.
#pragma once

#include <string>

#include "serve/faults.h"
#include "serve/http_server.h"

namespace holdfast::serve {

/// Answers one request. `now`: seconds since 1970.
Response answer(Faults& faults, const Request& request, double now);
/// /health and the API's own description need no token.
bool is_open(const Request& request);

}  // namespace holdfast::serve
