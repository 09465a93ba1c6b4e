#define DOCTEST_CONFIG_IMPLEMENT_WITH_MAIN
#include <doctest/doctest.h>

#include "ran.h"

TEST_CASE("plain") { ran("plain"); }
TEST_CASE("plain and more") { ran("plain and more"); }
TEST_CASE("with, comma [and] \"quotes\" \\ back & <xml>") { ran("with, comma [and] \"quotes\" \\ back & <xml>"); }
TEST_CASE("PLAIN AND MORE") { ran("PLAIN AND MORE"); }
TEST_CASE("fails if it is to") {
  ran("fails if it is to");
  int x = std::getenv("FAIL") == nullptr ? 1 : 2;
  CHECK(x == 1);
  SUBCASE("inner") { CHECK_THROWS(x == 1 ? throw 1 : 2); }
}
TEST_CASE("dies if it is to") {
  ran("dies if it is to");
  if (std::getenv("FAIL") != nullptr) std::abort();
}
TEST_SUITE("inner") {
  TEST_CASE("plain") { ran("inner/plain"); }
  TEST_CASE("alone") { ran("alone"); }
}
TEST_CASE("off" * doctest::skip()) { ran("off"); }
TEST_CASE_TEMPLATE("typed", T, int, char) { ran(sizeof(T) == 1 ? "typed<char>" : "typed<int>"); }
