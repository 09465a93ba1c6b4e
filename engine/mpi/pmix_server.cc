// The helper's side: PMIx's server library, opened at run time.
#include <dlfcn.h>
#include <fmt/format.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <climits>
#include <condition_variable>
#include <cstdlib>
#include <cstring>
#include <mutex>

#include "mpi/pmix_abi.h"
#include "mpi/pmix_link.h"
#include "wire/frame.h"

namespace holdfast::mpi {

namespace {

using pmix::Code;
using pmix::Type;

// Debian keeps it apart from the linker's path on some versions; HOLDFAST_PMIX names another.
constexpr const char* kInstead = "; --hf-mpi=mpirun does without";
constexpr std::array<const char*, 3> kLibraries = {"libpmix.so.2", "/usr/lib/x86_64-linux-gnu/pmix2/lib/libpmix.so.2",
                                                   "/usr/lib/aarch64-linux-gnu/pmix2/lib/libpmix.so.2"};

int the_socket = -1;
std::mutex sending;

// Also called by the library's thread.
void tell(const wire::Json& frame) {
  std::string bytes = wire::encode(frame.dump(-1, ' ', false, wire::Json::error_handler_t::replace));
  std::lock_guard lock(sending);
  std::size_t sent = 0;
  while (sent < bytes.size()) {
    ssize_t n = ::send(the_socket, bytes.data() + sent, bytes.size() - sent, MSG_NOSIGNAL);
    if (n <= 0) return;
    sent += static_cast<std::size_t>(n);
  }
}

/// What a call of the library will call back.
class Waiter {
 public:
  static void call(Code code, void* self) { static_cast<Waiter*>(self)->set(code); }
  /// The outcome, whether `returned` says that it comes later or not.
  Code outcome(Code returned) {
    if (returned == pmix::kDone) return pmix::kSuccess;
    if (returned != pmix::kSuccess) return returned;
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return done_; });
    return code_;
  }

 private:
  void set(Code code) {
    std::lock_guard lock(mutex_);
    code_ = code;
    done_ = true;
    changed_.notify_one();
  }
  std::mutex mutex_;
  std::condition_variable changed_;
  bool done_ = false;
  Code code_ = 0;
};

// ---- callbacks: in the library's thread, so nothing here waits -------------------------------------------------------------

Code on_client(const pmix::Process*, void*, pmix::OnDone, void*) { return pmix::kDone; }

// Before PMIx_Init returns there: our word is on its way when the rank goes on.
Code on_connected(const pmix::Process* who, void*, pmix::OnDone, void*) {
  tell({{"t", "joined"}, {"name", who->name.data()}, {"rank", who->rank}});
  return pmix::kDone;
}

Code on_abort(const pmix::Process* who, void*, int status, const char*, pmix::Process*, std::size_t, pmix::OnDone, void*) {
  tell({{"t", "abort"}, {"name", who->name.data()}, {"rank", who->rank}, {"code", status}});
  return pmix::kDone;
}

// Called when all ranks have come, and all are here: what they have brought is the answer.
Code on_fence(const pmix::Process*, std::size_t, const pmix::Info*, std::size_t, char* data, std::size_t size,
              pmix::OnFence then, void* with) {
  char* copy = nullptr;
  if (size > 0) {
    copy = static_cast<char*>(std::malloc(size));
    std::memcpy(copy, data, size);
  }
  then(pmix::kSuccess, copy, size, with, [](void* old) { std::free(old); }, copy);
  return pmix::kSuccess;
}

Code on_direct_modex(const pmix::Process*, const pmix::Info*, std::size_t, pmix::OnFence, void*) { return pmix::kNotFound; }

// ---- the server ------------------------------------------------------------------------------------------------------------

class Server {
 public:
  /// What is wrong, if anything.
  std::string open(const std::string& folder) {
    folder_ = folder;
    if (std::string problem = load(); !problem.empty()) return problem;
    std::array<pmix::Info, 2> infos{};
    library_.info_load(&infos[0], "pmix.srvr.tmpdir", folder.c_str(), Type::String);
    library_.info_load(&infos[1], "pmix.sys.tmpdir", folder.c_str(), Type::String);
    module_ = pmix::Module{on_connected, on_client, on_abort, on_fence, on_direct_modex, {}};
    Code code = library_.server_init(&module_, infos.data(), infos.size());
    if (code != pmix::kSuccess) return fmt::format("PMIx_server_init: {}", library_.error_string(code));
    std::array<char, 256> host{};
    ::gethostname(host.data(), host.size() - 1);
    host_ = host.data();
    return "";
  }

  wire::Json begin(const std::string& name, std::uint32_t size) {
    wire::Json answer = {{"t", "begun"}, {"name", name}};
    Code code = register_gang(name, size);
    for (std::uint32_t rank = 0; rank < size && code == pmix::kSuccess; ++rank) {
      pmix::Process process = process_of(name, rank);
      Waiter waiter;
      code = waiter.outcome(library_.register_client(&process, ::getuid(), ::getgid(), nullptr, Waiter::call, &waiter));
      char** environment = nullptr;
      if (code == pmix::kSuccess) code = library_.setup_fork(&process, &environment);
      wire::Json added = wire::Json::object();
      for (char** entry = environment; entry != nullptr && *entry != nullptr; ++entry) {
        std::string text = *entry;
        std::size_t equals = text.find('=');
        if (equals != std::string::npos) added[text.substr(0, equals)] = text.substr(equals + 1);
      }
      answer["ranks"].push_back(std::move(added));
    }
    if (code != pmix::kSuccess) answer["problem"] = fmt::format("PMIx: {}", library_.error_string(code));
    return answer;
  }

  void end(const std::string& name) {
    Waiter waiter;
    library_.deregister_nspace(padded(name).data(), Waiter::call, &waiter);
    waiter.outcome(pmix::kSuccess);
  }

 private:
  std::string load() {
    void* handle = nullptr;
    if (const char* named = std::getenv("HOLDFAST_PMIX")) handle = ::dlopen(named, RTLD_NOW | RTLD_GLOBAL);
    for (const char* path : kLibraries) {
      if (handle == nullptr) handle = ::dlopen(path, RTLD_NOW | RTLD_GLOBAL);
    }
    if (handle == nullptr) return fmt::format("libpmix.so.2 is not installed (Debian: libpmix2){}", kInstead);
    std::string missing;
    auto find = [&](auto& function, const char* name) {
      void* found = ::dlsym(handle, name);
      if (found == nullptr) missing = name;
      function = reinterpret_cast<std::decay_t<decltype(function)>>(found);
    };
    find(library_.info_load, "PMIx_Info_load");
    find(library_.server_init, "PMIx_server_init");
    find(library_.register_nspace, "PMIx_server_register_nspace");
    find(library_.register_client, "PMIx_server_register_client");
    find(library_.setup_fork, "PMIx_server_setup_fork");
    find(library_.deregister_nspace, "PMIx_server_deregister_nspace");
    find(library_.generate_regex, "PMIx_generate_regex");
    find(library_.generate_ppn, "PMIx_generate_ppn");
    find(library_.error_string, "PMIx_Error_string");
    return missing.empty() ? "" : fmt::format("libpmix.so.2 has no {}: version 4.2 or later is needed{}", missing, kInstead);
  }

  static std::array<char, pmix::kName> padded(const std::string& name) {
    std::array<char, pmix::kName> result{};
    name.copy(result.data(), result.size() - 1);
    return result;
  }

  static pmix::Process process_of(const std::string& name, std::uint32_t rank) { return {padded(name), rank}; }

  // What a rank may ask of its job, all on this node (PMIx standard, 13.2.2: "assigned at the time of registration").
  Code register_gang(const std::string& name, std::uint32_t size) {
    std::string peers;
    for (std::uint32_t rank = 0; rank < size; ++rank) peers += fmt::format("{}{}", rank > 0 ? "," : "", rank);
    char* nodes = nullptr;
    char* ranks = nullptr;
    library_.generate_regex(host_.c_str(), &nodes);
    library_.generate_ppn(peers.c_str(), &ranks);
    const std::uint32_t one = 1;
    const std::uint32_t zero = 0;
    const bool no = false;
    std::vector<pmix::Info> infos;
    auto add = [&](const char* key, const void* data, Type type) {
      library_.info_load(&infos.emplace_back(pmix::Info{}), key, data, type);
    };
    for (const char* key : {"pmix.univ.size", "pmix.job.size", "pmix.local.size", "pmix.node.size", "pmix.max.size"})
      add(key, &size, Type::Uint32);
    add("pmix.spawned", &no, Type::Bool);
    add("pmix.job.napps", &one, Type::Uint32);
    add("pmix.num.nodes", &one, Type::Uint32);
    add("pmix.nmap", nodes, Type::Regex);
    add("pmix.pmap", ranks, Type::Regex);
    add("pmix.lpeers", peers.c_str(), Type::String);
    add("pmix.lldr", &zero, Type::Rank);
    add("pmix.nodeid", &zero, Type::Uint32);
    add("pmix.tmpdir", folder_.c_str(), Type::String);
    add("pmix.jobid", name.c_str(), Type::String);
    std::vector<std::array<pmix::Info, 6>> of_ranks(size);
    std::vector<pmix::Array> arrays(size);
    for (std::uint32_t rank = 0; rank < size; ++rank) {
      auto local = static_cast<std::uint16_t>(rank);
      std::array<pmix::Info, 6>& mine = of_ranks[rank];
      library_.info_load(&mine[0], "pmix.rank", &rank, Type::Rank);
      library_.info_load(&mine[1], "pmix.lrank", &local, Type::Uint16);
      library_.info_load(&mine[2], "pmix.nrank", &local, Type::Uint16);
      library_.info_load(&mine[3], "pmix.appnum", &zero, Type::Uint32);
      library_.info_load(&mine[4], "pmix.nodeid", &zero, Type::Uint32);
      library_.info_load(&mine[5], "pmix.hname", host_.c_str(), Type::String);
      arrays[rank] = {Type::Info, mine.size(), mine.data()};
      pmix::Info& info = infos.emplace_back(pmix::Info{});
      std::strcpy(info.key.data(), "pmix.pdata");
      info.value.type = Type::Array;
      info.value.data.array = &arrays[rank];
    }
    Waiter waiter;
    Code code = waiter.outcome(library_.register_nspace(padded(name).data(), static_cast<int>(size), infos.data(), infos.size(),
                                                        Waiter::call, &waiter));
    std::free(nodes);
    std::free(ranks);
    return code;
  }

  pmix::Library library_{};
  pmix::Module module_{};
  std::string folder_;
  std::string host_;
};

}  // namespace

int serve_pmix(int fd, const std::string& folder) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  ::signal(SIGPIPE, SIG_IGN);
  os::set_close_on_exec(fd);
  the_socket = fd;
  Server server;
  std::string problem = server.open(folder);
  wire::Decoder decoder(wire::kTrustedFrameLimit);
  std::array<char, 65536> bytes{};
  ssize_t n = 0;
  while ((n = ::read(fd, bytes.data(), bytes.size())) > 0 || (n < 0 && errno == EINTR)) {
    if (n < 0) continue;
    decoder.feed({bytes.data(), static_cast<std::size_t>(n)});
    std::string payload;
    for (Result<bool> more = decoder.next(payload); more && *more; more = decoder.next(payload)) {
      const wire::Json order = wire::Json::parse(payload, nullptr, false);
      const std::string name = order.value("name", "");
      if (order.value("t", "") == "end") {
        if (problem.empty()) server.end(name);
      } else if (problem.empty()) {
        tell(server.begin(name, order.value("size", 1U)));
      } else {
        tell({{"t", "begun"}, {"name", name}, {"problem", problem}});
      }
    }
  }
  // Without PMIx_server_finalize: a rank that still speaks could keep it.
  ::_exit(0);
}

}  // namespace holdfast::mpi
