#include "serve/service.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <openssl/rand.h>
#include <poll.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "fault/control.h"
#include "os/sys.h"
#include "serve/api.h"
#include "serve/undo.h"

namespace holdfast::serve {

namespace {

namespace fs = std::filesystem;

double now() { return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count(); }

int give_up(const std::string& command, const std::string& what) {
  std::fprintf(stderr, "holdfast %s: failed to %s\n", command.c_str(), what.c_str());
  return 4;
}

fs::path state_folder(const ServiceOptions& options) {
  if (!options.state.empty()) return options.state;
  if (const char* state = std::getenv("XDG_STATE_HOME"); state != nullptr && state[0] == '/')
    return fs::path(state) / "holdfast-faultd";
  const char* home = std::getenv("HOME");
  return fs::path(home != nullptr ? home : "/tmp") / ".local" / "state" / "holdfast-faultd";
}

/// The folder, for this user alone, and locked: one service a folder, and no sweep while it runs.
Result<os::Fd> lock_folder(const fs::path& folder) {
  std::error_code problem;
  fs::create_directories(folder, problem);
  if (problem) return fail(ErrorKind::UserMistake, fmt::format("make the folder {}: {}", folder.string(), problem.message()));
  if (::chmod(folder.c_str(), 0700) != 0) return fail_errno(ErrorKind::UserMistake, "use the folder " + folder.string());
  os::Fd lock(::open((folder / "lock").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  if (!lock.valid()) return fail_errno(ErrorKind::UserMistake, "open " + (folder / "lock").string());
  if (::flock(lock.get(), LOCK_EX | LOCK_NB) != 0) {
    return fail(ErrorKind::UserMistake,
                fmt::format("use {}: a fault service is running there, and undoes what it does itself; stop it first",
                            folder.string()));
  }
  return lock;
}

/// Undoes what is open. Returns how many changes that were.
Result<int> undo_all(UndoLog& log, const std::string& command) {
  Result<std::vector<Change>> changes = log.open_changes();
  if (!changes) return tl::unexpected(changes.error());
  for (const Change& change : *changes) {
    std::string outcome = undo(change.undo);
    std::printf("holdfast %s: %s: %s (%s%s%s)\n", command.c_str(), change.what.c_str(), outcome.c_str(), change.fault.c_str(),
                change.owner.empty() ? "" : ", of ", change.owner.c_str());
    if (Status settled = log.settle(change.id, outcome); !settled) return tl::unexpected(settled.error());
  }
  std::fflush(stdout);
  return static_cast<int>(changes->size());
}

Result<std::string> read_token(const std::string& path) {
  std::ifstream file(path);
  std::string token;
  if (!(file >> token)) return fail(ErrorKind::UserMistake, fmt::format("read a token from {}", path));
  if (token.size() < 16)
    return fail(ErrorKind::UserMistake, fmt::format("use the token in {}: it has fewer than 16 characters", path));
  return token;
}

Result<std::string> make_token(const fs::path& path) {
  unsigned char random[24];
  if (RAND_bytes(random, sizeof random) != 1) return fail(ErrorKind::StopRun, "draw a token");
  std::string token;
  for (unsigned char byte : random) token += fmt::format("{:02x}", byte);
  fs::remove(path);
  os::Fd file(::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
  std::string line = token + "\n";
  if (!file.valid() || ::write(file.get(), line.data(), line.size()) < 0)
    return fail_errno(ErrorKind::UserMistake, "write " + path.string());
  return token;
}

/// What a program prints within a time; it is killed afterwards in any case.
std::string output_of(const std::vector<std::string>& command, int milliseconds) {
  std::string text;
  Result<std::pair<os::Fd, os::Fd>> pipe = os::open_pipe();
  if (!pipe) return text;
  Result<pid_t> pid = os::spawn(command, os::own_environment(), "/", {{1, pipe->second.get()}});
  pipe->second.reset();
  if (!pid) return text;
  auto end = std::chrono::steady_clock::now() + std::chrono::milliseconds(milliseconds);
  char buffer[4096];
  while (true) {
    auto left = std::chrono::duration_cast<std::chrono::milliseconds>(end - std::chrono::steady_clock::now()).count();
    pollfd wait{pipe->first.get(), POLLIN, 0};
    if (left <= 0 || ::poll(&wait, 1, static_cast<int>(left)) <= 0) break;
    ssize_t got = ::read(pipe->first.get(), buffer, sizeof buffer);
    if (got <= 0) break;
    text.append(buffer, static_cast<std::size_t>(got));
  }
  ::kill(*pid, SIGKILL);
  ::waitpid(*pid, nullptr, 0);
  return text;
}

/// As `holdfast gpus` finds them, a process of its own since a driver may hang; empty where it says nothing in time.
std::vector<Device> find_devices() {
  constexpr int kLimitMs = 10000;
  std::vector<Device> devices;
  Json found = Json::parse(output_of({os::own_program(), "gpus"}, kLimitMs), nullptr, false);
  if (!found.is_object()) return devices;
  for (const Json& gpu : found.value("gpus", Json::array())) devices.push_back({gpu.value("uuid", ""), gpu.value("pci", "")});
  return devices;
}

bool is_loopback(const std::string& address) { return address == "::1" || address.compare(0, 4, "127.") == 0; }

/// HOST:PORT, [HOST]:PORT.
Result<HttpSettings> read_listen(const ServiceOptions& options) {
  HttpSettings settings;
  std::size_t colon = options.listen.rfind(':');
  std::string port = colon == std::string::npos ? "" : options.listen.substr(colon + 1);
  if (port.empty() || port.size() > 5 || port.find_first_not_of("0123456789") != std::string::npos || std::stoi(port) > 65535) {
    return fail(ErrorKind::UserMistake, fmt::format("listen on '{}': give ADDRESS:PORT, as in 127.0.0.1:8080", options.listen));
  }
  settings.address = options.listen.substr(0, colon);
  if (settings.address.size() > 2 && settings.address.front() == '[')
    settings.address = settings.address.substr(1, settings.address.size() - 2);
  settings.port = std::stoi(port);
  settings.certificate = options.certificate;
  settings.key = options.key;
  if (options.certificate.empty() != options.key.empty())
    return fail(ErrorKind::UserMistake, "use TLS: it needs --tls-cert and --tls-key");
  if (!is_loopback(settings.address) && options.certificate.empty()) {
    return fail(
        ErrorKind::UserMistake,
        fmt::format("listen on {}: other machines reach it, so it needs TLS (--tls-cert, --tls-key)", settings.address));
  }
  return settings;
}

Result<std::string> make_page(const fs::path& folder) {
  fs::path path = folder / "page";
  std::error_code ignored;
  fs::remove(path, ignored);
  char problem[512] = "";
  hf_control* page = hf_control_create(path.c_str(), 0, problem, sizeof problem);
  if (page == nullptr) return fail(ErrorKind::UserMistake, std::string("make the page for faults: ") + problem);
  hf_control_close(page);
  return path.string();
}

}  // namespace

int sweep(const ServiceOptions& options) {
  fs::path folder = state_folder(options);
  if (!fs::exists(folder / "changes.db")) {
    std::printf("holdfast sweep: nothing to undo: no fault service has used %s\n", folder.c_str());
    return 0;
  }
  Result<os::Fd> lock = lock_folder(folder);
  if (!lock) return give_up("sweep", lock.error().message());
  Result<UndoLog> log = UndoLog::open((folder / "changes.db").string());
  if (!log) return give_up("sweep", log.error().message());
  Result<int> undone = undo_all(*log, "sweep");
  if (!undone) return give_up("sweep", undone.error().message());
  if (*undone == 0) std::printf("holdfast sweep: nothing to undo in %s\n", folder.c_str());
  return 0;
}

// 1. Take the folder: from here on nobody else uses it.
// 2. Undo what an earlier service has left.
// 3. Serve; the changes are undone when that ends.
int serve_faults(const ServiceOptions& options) {
  // Both show as errors of the write: a client that has gone, a disk that is full.
  ::signal(SIGPIPE, SIG_IGN);
  ::signal(SIGXFSZ, SIG_IGN);
  fs::path folder = state_folder(options);
  Result<HttpSettings> http = read_listen(options);
  if (!http) return give_up("faultd", http.error().message());
  Result<os::Fd> lock = lock_folder(folder);
  if (!lock) return give_up("faultd", lock.error().message());
  Result<UndoLog> log = UndoLog::open((folder / "changes.db").string());
  if (!log) return give_up("faultd", log.error().message());
  if (Result<int> undone = undo_all(*log, "faultd"); !undone) return give_up("faultd", undone.error().message());
  Result<KernelLog> kernel = KernelLog::open(options.kernel_log);
  if (!kernel) return give_up("faultd", kernel.error().message());
  Result<std::string> token = options.token_file.empty() ? make_token(folder / "token") : read_token(options.token_file);
  if (!token) return give_up("faultd", token.error().message());
  Result<std::string> page = make_page(folder);
  if (!page) return give_up("faultd", page.error().message());
  http->token = *token;
  std::string where = kernel->where();
  Faults faults({options.node, *page, find_devices(), options.limit}, std::move(*log), std::move(*kernel));
  Result<std::unique_ptr<HttpServer>> server =
      HttpServer::open(*http, [&](const Request& request) { return answer(faults, request, now()); }, is_open);
  if (!server) return give_up("faultd", server.error().message());
  std::string token_at = options.token_file.empty() ? (folder / "token").string() : options.token_file;
  std::string host = http->address.find(':') != std::string::npos ? "[" + http->address + "]" : http->address;
  std::printf("holdfast faultd: %s://%s:%d, token in %s, kernel lines to %s\n", options.certificate.empty() ? "http" : "https",
              host.c_str(), (*server)->port(), token_at.c_str(), where.c_str());
  std::fflush(stdout);
  (*server)->run([&] { faults.tick(now()); });
  faults.end(now());
  return 0;
}

}  // namespace holdfast::serve
