#include "mpi/pmi_server.h"

#include <fmt/format.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdlib>
#include <utility>

#include "os/sys.h"

namespace holdfast::mpi {

namespace {

// What MPICH is told in `maxes`; our own limits are above.
constexpr int kNameMax = 256;
constexpr int kKeyMax = 64;
constexpr int kValueMax = 1024;
constexpr std::size_t kLineLimit = std::size_t{64} << 10U;
constexpr std::size_t kStoreLimit = std::size_t{16} << 20U;

/// `cmd=put kvsname=x key=y value=z z`: the last value of some verbs has blanks.
std::map<std::string, std::string> words_of(const std::string& line) {
  std::map<std::string, std::string> words;
  std::size_t at = 0;
  while (at < line.size()) {
    if (line[at] == ' ') {
      ++at;
      continue;
    }
    std::size_t equals = line.find('=', at);
    if (equals == std::string::npos) break;
    std::string key = line.substr(at, equals - at);
    std::size_t end = key == "value" ? line.size() : std::min(line.find(' ', equals), line.size());
    words[key] = line.substr(equals + 1, end - equals - 1);
    at = end;
  }
  return words;
}

std::string word(const std::map<std::string, std::string>& words, const char* key) {
  auto found = words.find(key);
  return found == words.end() ? "" : found->second;
}

}  // namespace

PmiServer::PmiServer(os::Loop& loop, int size, std::string name, OnAbort on_abort)
    : loop_(loop), size_(size), name_(std::move(name)), on_abort_(std::move(on_abort)) {
  // All ranks are on this node: they may share memory.
  values_["PMI_process_mapping"] = fmt::format("(vector,(0,1,{}))", size_);
}

PmiServer::~PmiServer() {
  while (!peers_.empty()) drop(peers_.begin()->first);
}

Result<os::Fd> PmiServer::connect(int rank) {
  auto pair = os::open_channel_pair();
  if (!pair) return tl::unexpected<Error>(pair.error());
  int fd = pair->first.get();
  HOLDFAST_TRY(loop_.watch(fd, EPOLLIN, [this, rank](std::uint32_t) { read_from(rank); }));
  peers_[rank].fd = std::move(pair->first);
  return std::move(pair->second);
}

void PmiServer::drop(int rank) {
  auto peer = peers_.find(rank);
  if (peer == peers_.end()) return;
  loop_.unwatch(peer->second.fd.get());
  peers_.erase(peer);
}

void PmiServer::read_from(int rank) {
  char bytes[16384];
  ssize_t n = ::read(peers_.at(rank).fd.get(), bytes, sizeof bytes);
  if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (n <= 0) {
    drop(rank);
    return;
  }
  peers_.at(rank).buffer.append(bytes, static_cast<std::size_t>(n));
  // A line may end the connection.
  for (auto peer = peers_.find(rank); peer != peers_.end(); peer = peers_.find(rank)) {
    std::string& buffer = peer->second.buffer;
    std::size_t end = buffer.find('\n');
    if (end == std::string::npos) {
      if (buffer.size() > kLineLimit) drop(rank);
      return;
    }
    std::string line = buffer.substr(0, end);
    buffer.erase(0, end + 1);
    on_line(rank, line);
  }
}

int PmiServer::absent() const {
  for (int rank = 0; rank < size_; ++rank) {
    if (heard_.count(rank) == 0) return rank;
  }
  return -1;
}

void PmiServer::on_line(int rank, const std::string& line) {
  heard_.insert(rank);
  Peer& peer = peers_.at(rank);
  if (peer.spawning) {
    if (line != "endcmd") return;
    peer.spawning = false;
    say(rank, "cmd=spawn_result rc=-1 errcodes=1");
    return;
  }
  if (line.rfind("mcmd=", 0) == 0) {
    peer.spawning = true;
    return;
  }
  Words words = words_of(line);
  std::string verb = word(words, "cmd");
  if (verb == "barrier_in") {
    enter_barrier(rank);
  } else if (verb == "abort") {
    on_abort_(rank, std::atoi(word(words, "exitcode").c_str()));
  } else {
    say(rank, answer(rank, verb, words));
  }
}

std::string PmiServer::answer(int rank, const std::string& verb, const Words& words) {
  if (verb == "init") return "cmd=response_to_init pmi_version=1 pmi_subversion=1 rc=0";
  if (verb == "initack") return fmt::format("cmd=initack rc=0\ncmd=set size={}\ncmd=set rank={}\ncmd=set debug=0", size_, rank);
  if (verb == "get_maxes")
    return fmt::format("cmd=maxes kvsname_max={} keylen_max={} vallen_max={} rc=0", kNameMax, kKeyMax, kValueMax);
  if (verb == "get_appnum") return "cmd=appnum appnum=0 rc=0";
  if (verb == "get_universe_size") return fmt::format("cmd=universe_size size={} rc=0", size_);
  if (verb == "get_my_kvsname") return fmt::format("cmd=my_kvsname kvsname={} rc=0", name_);
  if (verb == "put") return put(words);
  if (verb == "get") return get(words);
  if (verb == "publish_name") return publish(words);
  if (verb == "lookup_name") return look_up(words);
  if (verb == "unpublish_name") {
    bool known = published_.erase(word(words, "service")) > 0;
    return fmt::format("cmd=unpublish_result rc={} info={}", known ? 0 : 1, known ? "ok" : "unknown_service");
  }
  if (verb == "finalize") return "cmd=finalize_ack rc=0";
  return fmt::format("cmd={}_result rc=-1 msg=unknown_command", verb.substr(0, kKeyMax));
}

std::string PmiServer::put(const Words& words) {
  std::string key = word(words, "key");
  std::string value = word(words, "value");
  if (stored_ + key.size() + value.size() > kStoreLimit) return "cmd=put_result rc=-1 msg=no_room";
  stored_ += key.size() + value.size();
  values_[key] = value;
  return "cmd=put_result rc=0 msg=success";
}

std::string PmiServer::get(const Words& words) const {
  auto found = values_.find(word(words, "key"));
  if (found == values_.end()) return "cmd=get_result rc=-1 msg=key_not_found value=unknown";
  return "cmd=get_result rc=0 msg=success value=" + found->second;
}

std::string PmiServer::publish(const Words& words) {
  std::string service = word(words, "service");
  std::string port = word(words, "port");
  bool fits = stored_ + service.size() + port.size() <= kStoreLimit;
  bool is_new = fits && published_.emplace(service, port).second;
  if (is_new) stored_ += service.size() + port.size();
  return fmt::format("cmd=publish_result rc={} info={}", is_new ? 0 : 1, is_new ? "ok" : "duplicate_service");
}

std::string PmiServer::look_up(const Words& words) const {
  auto found = published_.find(word(words, "service"));
  if (found == published_.end()) return "cmd=lookup_result rc=1 info=unknown_service";
  return fmt::format("cmd=lookup_result rc=0 info=ok port={}", found->second);
}

void PmiServer::enter_barrier(int rank) {
  in_barrier_.insert(rank);
  if (static_cast<int>(in_barrier_.size()) < size_) return;
  in_barrier_.clear();
  for (auto next = peers_.begin(); next != peers_.end();) {
    int other = next->first;
    ++next;  // One that does not read any more goes.
    say(other, "cmd=barrier_out rc=0");
  }
}

/// The socket's buffer holds far more than a rank can have asked for without reading: it sends one line and waits.
void PmiServer::say(int rank, const std::string& line) {
  auto peer = peers_.find(rank);
  if (peer == peers_.end()) return;
  std::string data = line + "\n";
  if (::send(peer->second.fd.get(), data.data(), data.size(), MSG_NOSIGNAL) != static_cast<ssize_t>(data.size())) drop(rank);
}

}  // namespace holdfast::mpi
