#include "wire/fields.h"

namespace holdfast::wire {

namespace {

using Json = nlohmann::json;

struct Known {
  const char* name;
  bool (Json::*fits)() const noexcept;
};

// Numbers that are counts, or ids of processes, are never negative here.
constexpr Known kKnown[] = {{"t", &Json::is_string},
                            {"verdict", &Json::is_string},
                            {"node", &Json::is_string},
                            {"fixture", &Json::is_string},
                            {"reason", &Json::is_string},
                            {"skip", &Json::is_string},
                            {"problem", &Json::is_string},
                            {"stop", &Json::is_string},
                            {"exit", &Json::is_object},
                            {"shared", &Json::is_boolean},
                            {"poisoned", &Json::is_boolean},
                            {"unsettled", &Json::is_boolean},
                            {"spent", &Json::is_boolean},
                            {"duration", &Json::is_number},
                            {"user", &Json::is_number},
                            {"system", &Json::is_number},
                            {"pid", &Json::is_number_unsigned},
                            {"resident", &Json::is_number_unsigned},
                            {"maxrss", &Json::is_number_unsigned},
                            {"in", &Json::is_number_unsigned},
                            {"out", &Json::is_number_unsigned},
                            {"test", &Json::is_number_unsigned},
                            {"status", &Json::is_number_integer}};

}  // namespace

void drop_wrong_fields(Json& frame) {
  for (const Known& known : kKnown) {
    auto found = frame.find(known.name);
    if (found != frame.end() && !((*found).*known.fits)()) frame.erase(found);
  }
}

double number(const Json& object, const char* key, double fallback) {
  auto found = object.find(key);
  return found != object.end() && found->is_number() ? found->get<double>() : fallback;
}

}  // namespace holdfast::wire
