#define DOCTEST_CONFIG_IMPLEMENT_WITH_MAIN
#include <doctest/doctest.h>

#include "ran.h"

TEST_CASE("plain") { ran("plain"); }
TEST_CASE("plain and more") { ran("plain and more"); }
TEST_CASE("with, comma [and] \"quotes\" \\ back & <xml>") { ran("with, comma [and] \"quotes\" \\ back & <xml>"); }
TEST_CASE("PLAIN AND MORE") { ran("PLAIN AND MORE"); }
TEST_SUITE("inner") {
  TEST_CASE("plain") { ran("inner/plain"); }
  TEST_CASE("alone") { ran("alone"); }
}
TEST_CASE("off" * doctest::skip()) { ran("off"); }
TEST_CASE_TEMPLATE("typed", T, int, char) { ran(sizeof(T) == 1 ? "typed<char>" : "typed<int>"); }
