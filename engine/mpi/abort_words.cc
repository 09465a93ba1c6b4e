#include "mpi/abort_words.h"

#include <cstdlib>

namespace holdfast::mpi {

namespace {

/// The number behind the first `words` after `at`, none where they are too far away to belong to it.
std::optional<int> number_after(const std::string& text, std::size_t at, const std::string& words) {
  constexpr std::size_t kNear = 400;
  std::size_t found = text.find(words, at);
  if (found == std::string::npos || found - at > kNear) return std::nullopt;
  return std::atoi(text.c_str() + found + words.size());
}

std::optional<AbortCall> of_open_mpi(const std::string& text) {
  const std::string words = "MPI_ABORT was invoked on rank ";
  std::size_t at = text.rfind(words);
  if (at == std::string::npos) return std::nullopt;
  AbortCall call;
  call.rank = std::atoi(text.c_str() + at + words.size());
  for (const char* code : {"errorcode", "Errorcode:"}) {
    if (std::optional<int> number = number_after(text, at, code)) call.code = *number;
  }
  return call;
}

std::optional<AbortCall> of_mpich(const std::string& text) {
  std::size_t at = text.rfind("application called MPI_Abort(");
  if (at == std::string::npos) return std::nullopt;
  AbortCall call;
  call.code = number_after(text, at, ", ").value_or(0);
  call.rank = number_after(text, at, ") - process ").value_or(-1);
  return call;
}

}  // namespace

std::optional<AbortCall> abort_call_in(const std::string& text) {
  std::optional<AbortCall> call = of_open_mpi(text);
  return call ? call : of_mpich(text);
}

}  // namespace holdfast::mpi
