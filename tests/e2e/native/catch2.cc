// For Catch2 v2 and, with AMALGAMATED, v3.
#ifdef AMALGAMATED
#include "catch_amalgamated.hpp"
#else
#define CATCH_CONFIG_MAIN
#include <catch2/catch.hpp>
#endif

#include "ran.h"

TEST_CASE("plain", "[quick][net]") { ran("plain"); }
TEST_CASE("plain and more") { ran("plain and more"); }
TEST_CASE("with, comma [and] \"quotes\" \\ back; $HOME") { ran("with, comma [and] \"quotes\" \\ back; $HOME"); }
TEST_CASE(" begins with a space") { ran(" begins with a space"); }
TEST_CASE("fails if it is to") {
  ran("fails if it is to");
  int x = std::getenv("FAIL") == nullptr ? 1 : 2;
  CHECK(x == 1);
  SECTION("inner") { CHECK_THROWS(x == 1 ? throw 1 : 2); }
}
TEST_CASE("dies if it is to") {
  ran("dies if it is to");
  if (std::getenv("FAIL") != nullptr) std::abort();
}
TEST_CASE("skips if it can") {
  ran("skips if it can");
#ifdef SKIP
  if (std::getenv("FAIL") != nullptr) SKIP("has no time");
#endif
}
TEST_CASE("~tilde*") { ran("~tilde*"); }
TEST_CASE("-v") { ran("-v"); }
TEST_CASE("exclude:this") { ran("exclude:this"); }
TEST_CASE("hidden", "[.]") { ran("hidden"); }
TEMPLATE_TEST_CASE("typed", "[t]", int, char) { ran(sizeof(TestType) == 1 ? "typed - char" : "typed - int"); }
