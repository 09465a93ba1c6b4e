#include "os/sockets.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <fmt/format.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <set>
#include <sstream>

namespace holdfast::os {

namespace {

// Inodes of a process's sockets.
std::set<std::string> sockets_of(pid_t pid) {
  std::set<std::string> found;
  std::string directory = fmt::format("/proc/{}/fd", pid);
  DIR* dir = ::opendir(directory.c_str());
  if (dir == nullptr) return found;
  while (dirent* entry = ::readdir(dir)) {
    std::array<char, 64> target{};
    ssize_t size = ::readlink((directory + "/" + entry->d_name).c_str(), target.data(), target.size() - 1);
    std::string_view text(target.data(), size > 0 ? static_cast<std::size_t>(size) : 0);
    if (text.substr(0, 8) == "socket:[") found.emplace(text.substr(8, text.size() - 9));
  }
  ::closedir(dir);
  return found;
}

// An address of /proc/net/tcp: hexadecimal words in the machine's byte order, a colon, and the port.
std::string address_of(const std::string& text) {
  std::size_t colon = text.find(':');
  if (colon == std::string::npos || colon % 8 != 0) return text;
  std::array<std::uint32_t, 4> words{};
  std::size_t count = std::min<std::size_t>(colon / 8, words.size());
  for (std::size_t i = 0; i < count; ++i) {
    words.at(i) = static_cast<std::uint32_t>(std::strtoul(text.substr(8 * i, 8).c_str(), nullptr, 16));
  }
  std::array<char, INET6_ADDRSTRLEN> name{};
  ::inet_ntop(count == 1 ? AF_INET : AF_INET6, words.data(), name.data(), name.size());
  unsigned long port = std::strtoul(text.substr(colon + 1).c_str(), nullptr, 16);
  return count == 1 ? fmt::format("{}:{}", name.data(), port) : fmt::format("[{}]:{}", name.data(), port);
}

std::vector<std::string> fields_of(const std::string& line) {
  std::istringstream words(line);
  std::vector<std::string> found;
  for (std::string word; words >> word;) found.push_back(word);
  return found;
}

}  // namespace

std::vector<std::string> listening_on(pid_t pid) {
  std::vector<std::string> found;
  std::set<std::string> own = sockets_of(pid);
  if (own.empty()) return found;
  for (const char* table : {"tcp", "tcp6"}) {
    std::ifstream file(fmt::format("/proc/{}/net/{}", pid, table));
    for (std::string line; std::getline(file, line);) {
      // proc(5): sl, local address, remote address, state (0A is LISTEN), ..., the tenth is the inode.
      std::vector<std::string> fields = fields_of(line);
      if (fields.size() > 9 && fields[3] == "0A" && own.count(fields[9]) != 0) found.push_back(address_of(fields[1]));
    }
  }
  std::ifstream file(fmt::format("/proc/{}/net/unix", pid));
  for (std::string line; std::getline(file, line);) {
    // Num, RefCount, Protocol, Flags (00010000: it accepts connections), Type, St, Inode, Path.
    std::vector<std::string> fields = fields_of(line);
    if (fields.size() > 6 && fields[3] == "00010000" && own.count(fields[6]) != 0) {
      found.push_back(fields.size() > 7 ? fields[7] : "a socket without a name");
    }
  }
  return found;
}

}  // namespace holdfast::os
