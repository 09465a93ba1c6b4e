// Fields of frames, above all of those that a test's process has sent. nlohmann's value() throws where a field has another type
// than its default; what a test writes into our socket must not reach that.
#pragma once

#include <nlohmann/json.hpp>

namespace holdfast::wire {

/// Removes the fields that the protocol knows (protocol/README.md) and that have another type than it says: they count as
/// missing.
void drop_wrong_fields(nlohmann::json& frame);

/// A field that should be a number, or `fallback`.
double number(const nlohmann::json& object, const char* key, double fallback);

}  // namespace holdfast::wire
