// The command line of the engine binary. `holdfast engine` is started by the pytest plugin and speaks protocol/ on a socket.
#include <signal.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <memory>

#include "base/version.h"
#include "inventory/cpus.h"
#include "inventory/gpu_helper.h"
#include "inventory/memory.h"
#include "mpi/launchers.h"
#include "mpi/pmix_link.h"
#include "os/tcp.h"
#include "run/dispatcher.h"
#include "serve/hold.h"
#include "serve/service.h"
#include "wire/secure_link.h"

namespace {

using namespace holdfast;

// Seconds for an agent to reach the engine that has asked for it, and to be believed.
constexpr double kDialLimit = 30;
constexpr double kProofLimit = 20;
constexpr int kLastWordsMs = 2000;
constexpr const char* kTokenVariable = "HOLDFAST_AGENT_TOKEN";

/// What an agent is told on its command line.
struct Agent {
  std::string connect;
  std::string node;
  int nodes = 1;
};

std::string host_name() {
  char name[256] = "";
  return ::gethostname(name, sizeof name - 1) == 0 && name[0] != '\0' ? name : "node";
}

// Out of the environment, also as /proc shows it: no test is to find it there.
std::string take_token() {
  char* value = ::getenv(kTokenVariable);
  if (value == nullptr) return "";
  std::string token = value;
  std::fill(value, value + token.size(), '\0');
  ::unsetenv(kTokenVariable);
  return token;
}

/// The connection to the engine that the user has started; empty, and said why, where there can be none.
std::unique_ptr<wire::SecureLink> dial_home(os::Loop& loop, const Agent& agent) {
  std::string token = take_token();
  std::string problem;
  std::unique_ptr<wire::SecureLink> link;
  if (token.size() < 16) {
    problem = fmt::format("find the run's token in {}", kTokenVariable);
  } else if (Result<os::Fd> tcp = os::dial(agent.connect, kDialLimit); !tcp) {
    problem = tcp.error().message();
  } else {
    link = std::make_unique<wire::SecureLink>(loop, std::move(*tcp), wire::SecureLink::Side::Dials, std::move(token));
    Status status = link->open(kProofLimit, [&](const std::string& said) {
      problem = said;
      loop.stop();
    });
    if (status) status = loop.run();
    if (!status) problem = status.error().message();
  }
  if (problem.empty()) return link;
  std::fprintf(stderr, "holdfast agent on %s: failed to reach %s: %s\n", agent.node.c_str(), agent.connect.c_str(),
               problem.c_str());
  return nullptr;
}

// The engine's life, once it knows whom it serves.
int serve(os::Loop& loop, const run::Options& options, const os::Fd& signal_fd) {
  run::Dispatcher dispatcher(loop, options);
  Status status = loop.watch(signal_fd.get(), EPOLLIN, [&](std::uint32_t) {
    signalfd_siginfo info{};
    bool terminated = false;
    while (::read(signal_fd.get(), &info, sizeof info) == sizeof info) terminated |= info.ssi_signo != SIGCHLD;
    dispatcher.reap_children();
    if (terminated) dispatcher.on_terminated();
  });
  if (status) status = dispatcher.open();
  // A child may have ended before its signal was watched.
  if (status) dispatcher.reap_children();
  if (status) status = loop.run();
  if (!status) {
    std::fprintf(stderr, "holdfast: failed to %s\n", status.error().message().c_str());
    return 4;
  }
  return 0;
}

// 1. Become the reaper of everything below, so that nothing a test starts can leave this tree.
// 2. Take signals through the loop: SIGCHLD to reap, SIGTERM and SIGINT to end; SIGPIPE shows as an error of the write.
// 3. Run until the controller says so or goes away. For an agent that is the engine which it has dialled.
int run_engine(run::Options options, const std::string& slots, const Agent& agent) {
  ::prctl(PR_SET_CHILD_SUBREAPER, 1);
  ::signal(SIGPIPE, SIG_IGN);
  sigset_t signals;
  sigemptyset(&signals);
  for (int signal : {SIGCHLD, SIGTERM, SIGINT, SIGHUP}) sigaddset(&signals, signal);
  sigprocmask(SIG_BLOCK, &signals, nullptr);
  os::Fd signal_fd(::signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK));
  options.slots = slots == "auto" ? inventory::usable_cpus() : std::max(1, std::atoi(slots.c_str()));

  os::SystemClock clock;
  Result<os::Loop> loop = os::Loop::open(clock);
  if (!loop) {
    std::fprintf(stderr, "holdfast: failed to %s\n", loop.error().message().c_str());
    return 4;
  }
  std::unique_ptr<wire::SecureLink> home;
  if (!agent.connect.empty()) {
    home = dial_home(*loop, agent);
    if (home == nullptr) return 4;
    options.control_fd = home->take_plain().release();
    options.node = agent.node;
    options.nodes = agent.nodes;
  }
  int code = serve(*loop, options, signal_fd);
  if (home != nullptr) home->flush(kLastWordsMs);
  return code;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app{"Holdfast: a fault-tolerant test engine. Run suites with `pytest --holdfast`."};
  app.set_version_flag("--version", std::string("holdfast ") + holdfast::kVersion);
  app.require_subcommand(1);
  app.footer(
      "Of ledgers and histories: holdfast history | show | shard | merge | pollution (each with --help). Of a suite's "
      "deadlines: holdfast check-guards. Of processes that hang: holdfast diagnose. GPUs: holdfast "
      "devices | simgpu | suggest-marks.");

  holdfast::run::Options options;
  std::string slots = "auto";
  CLI::App* engine = app.add_subcommand("engine", "the engine process of a pytest run (started by the plugin)");
  engine->add_option("--control-fd", options.control_fd, "socket to the controller")->required();
  engine->add_option("--zygote-fd", options.zygote_fd, "socket to a root zygote that runs already");
  engine->add_option("--zygote-pid", options.zygote_pid, "its process id");
  engine->add_option("--slots", slots, "number of tests at a time, or auto");
  CLI::App* cpus = app.add_subcommand("cpus", "print how many CPUs this process may use (what --hf-slots=auto takes)");
  CLI::App* memory =
      app.add_subcommand("memory", "print how many bytes tests may use together, and how many are available now");
  CLI::App* gpus = app.add_subcommand("gpus", "print the GPUs of this machine as JSON (`holdfast devices` prints a table)");
  CLI::App* helper = app.add_subcommand("gpu-helper", "the process of an engine that talks to the GPUs' drivers")->group("");
  int helper_fd = -1;
  helper->add_option("--fd", helper_fd, "socket to the engine")->required();
  CLI::App* probe = app.add_subcommand("gpu-probe", "use the one GPU that the environment shows, once")->group("");
  std::string vendor = "nvidia";
  probe->add_option("--vendor", vendor, "nvidia or amd");
  CLI::App* pmix = app.add_subcommand("pmix-helper", "the PMIx server of an engine")->group("");
  std::string pmix_folder;
  pmix->add_option("--fd", helper_fd, "socket to the engine")->required();
  pmix->add_option("--folder", pmix_folder, "for its files")->required();
  CLI::App* lender = app.add_subcommand("lend", "what mpirun or srun starts for a rank")->group("");
  std::string lend_to;
  lender->add_option("name", lend_to, "the engine's socket")->required();
  CLI::App* agent_command =
      app.add_subcommand("agent", "the engine of a node of a job: runs tests for the engine that it dials");
  Agent agent;
  agent_command->add_option("--connect", agent.connect, "HOST:PORT of that engine")->required();
  agent_command->add_option("--node", agent.node, "what this machine is called (default: its host name)");
  agent_command->add_option("--nodes", agent.nodes, "how many agents the job starts");
  agent_command->add_option("--slots", slots, "number of tests at a time, or auto");
  agent_command->footer("The run's token is in the variable HOLDFAST_AGENT_TOKEN.");
  CLI::App* holder = app.add_subcommand("hold", "what a fault service starts to take memory or disk")->group("");
  holdfast::serve::Hold held;
  holder->add_option("what", held.what)->required();
  holder->add_option("bytes", held.bytes)->required();
  holder->add_option("place", held.place)->required();
  holdfast::serve::ServiceOptions service;
  CLI::App* faultd =
      app.add_subcommand("faultd", "the fault service: breaks GPUs and processes on request, and puts them back");
  CLI::App* sweep = app.add_subcommand("sweep", "undo what a fault service that was killed has left");
  for (CLI::App* command : {faultd, sweep}) {
    command->add_option("--state", service.state, "folder for what it has changed (default: ~/.local/state/holdfast-faultd)");
  }
  faultd->add_option("--listen", service.listen, "ADDRESS:PORT (127.0.0.1:8080); port 0: one that is free");
  faultd->add_option("--token-file", service.token_file, "file with the token (default: a new one in the state folder)");
  faultd->add_option("--tls-cert", service.certificate, "certificate chain, PEM; needed where other machines can reach it");
  faultd->add_option("--tls-key", service.key, "its key, PEM");
  faultd->add_option("--kernel-log", service.kernel_log, "where lines of XIDs go: auto, kmsg, journald, none, or a file");
  faultd->add_option("--node", service.node, "what this machine is called (default: its host name)");
  faultd->add_option("--limit", service.limit, "seconds that a fault may last (3600)")->check(CLI::Range(1.0, 1e8));
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& mistake) {
    return app.exit(mistake) == 0 ? 0 : 4;  // 0: it was --help or --version.
  }

  if (gpus->parsed()) return holdfast::inventory::print_gpus();
  if (helper->parsed()) return holdfast::inventory::serve_gpus(helper_fd);
  if (pmix->parsed()) return holdfast::mpi::serve_pmix(helper_fd, pmix_folder);
  if (lender->parsed()) return holdfast::mpi::lend(lend_to);
  if (probe->parsed()) return holdfast::inventory::probe_gpu(vendor);

  if (cpus->parsed()) {
    std::printf("%d\n", holdfast::inventory::usable_cpus());
    return 0;
  }
  if (memory->parsed()) {
    holdfast::inventory::Memory found = holdfast::inventory::memory();
    std::printf("%llu %llu\n", static_cast<unsigned long long>(found.limit), static_cast<unsigned long long>(found.available));
    return 0;
  }
  if (service.node.empty()) service.node = host_name();
  if (holder->parsed()) return holdfast::serve::hold(held);
  if (faultd->parsed()) return holdfast::serve::serve_faults(service);
  if (sweep->parsed()) return holdfast::serve::sweep(service);
  if (agent.node.empty()) agent.node = host_name();
  return run_engine(options, slots, agent);
}
