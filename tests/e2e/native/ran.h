// Writes down which test has run, for tests that start programs.
#pragma once

#include <cstdio>
#include <cstdlib>

inline void ran(const char* name) {
  const char* path = std::getenv("RAN");
  if (path == nullptr) return;
  std::FILE* file = std::fopen(path, "a");
  if (file == nullptr) return;
  std::fprintf(file, "%s\n", name);
  std::fclose(file);
}
