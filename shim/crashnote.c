// crashnote: writes why a process dies onto its slot's slate (engine/run/slate.h), and the native stack of the thread in which
// it dies beside the Python stacks, from a signal handler.
//
// Loaded with ctypes by python/holdfast/crash.py after faulthandler has been enabled, and by the loader into programs that are
// tests themselves (python/holdfast/targets/notes.py). For each fatal signal it keeps the
// handler that was there (faulthandler's, which writes the Python stacks) and calls it after having written its note.
// Nothing in the handler needs memory: stores into a shared page, a walk over the stack by the compiler's unwinder, writes, and
// a call of the previous handler. The unwinder takes the loader's lock, which the crashing thread may hold already: an alarm
// goes on without the stack then.
//
// Why not without it: si_code and si_addr exist only in the handler's siginfo. faulthandler does not show them and raises the
// signal again, so whoever looks later (waitid, a tracer) sees SI_TKILL.
#define _GNU_SOURCE
#include <execinfo.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <ucontext.h>
#include <unistd.h>

struct slate {
  uint32_t phase, reserved;
  double phase_start, test_start;
  uint32_t crash_set;
  int32_t signal, si_code, sender;
  uint64_t address;
};

static const int kSignals[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT};
#define COUNT (sizeof kSignals / sizeof kSignals[0])

static struct sigaction previous[COUNT];
static struct slate* slate;
static pid_t owner;
static int stacks_fd = -1;
static int keep;  // The process stops before it dies, for a debugger (--hf-debug).
// Of the crash that is being noted, for on_alarm().
static int current_signal;
static siginfo_t current_info;
static void* current_context;

enum { kFrames = 48, kSecondsForStack = 1 };

// Of each thread: it is inside of the handler before ours. A library that is loaded between two calls of crashnote_arm() (UCX)
// comes after us and before us: its handler calls ours, which has called it.
static __attribute__((tls_model("initial-exec"))) __thread int is_passed_on;

static void end_by(int signal) {
  // By the kernel's own call: such a library may have put itself in place of sigaction(), too.
  struct {
    void (*handler)(int);
    unsigned long flags, restorer, mask;
  } plain = {SIG_DFL, 0, 0, 0};
  syscall(SYS_rt_sigaction, signal, &plain, NULL, sizeof plain.mask);
  // A fault repeats itself when we return, a sent signal must be sent again.
  raise(signal);
}

static void go_on(int signal, siginfo_t* info, void* context) {
  for (size_t i = 0; i < COUNT; ++i) {
    if (kSignals[i] != signal) continue;
    bool again = is_passed_on;
    is_passed_on = 1;
    if (again) {
      end_by(signal);
    } else if (previous[i].sa_flags & SA_SIGINFO) {
      previous[i].sa_sigaction(signal, info, context);
    } else if (previous[i].sa_handler != SIG_DFL && previous[i].sa_handler != SIG_IGN) {
      previous[i].sa_handler(signal);
    } else {
      end_by(signal);
    }
    is_passed_on = again;
  }
}

static void say(const char* text) {
  // It is the last thing that this process does: there is nobody to tell of an error.
  ssize_t ignored = write(stacks_fd, text, strlen(text));
  (void)ignored;
}

static void on_alarm(int signal) {
  (void)signal;
  say("  (the unwinder did not end: the loader's lock was held)\n\n");
  go_on(current_signal, &current_info, current_context);
}

// Where the signal has interrupted the thread; NULL on a machine whose registers we do not know.
static void* place_of(void* context) {
#if defined(__x86_64__)
  return (void*)((ucontext_t*)context)->uc_mcontext.gregs[REG_RIP];
#elif defined(__aarch64__)
  return (void*)((ucontext_t*)context)->uc_mcontext.pc;
#else
  (void)context;
  return NULL;
#endif
}

static void write_native_stack(void* context) {
  void* frames[kFrames];
  struct sigaction action, before;
  memset(&action, 0, sizeof action);
  action.sa_handler = on_alarm;
  action.sa_flags = SA_ONSTACK | SA_NODEFER;
  if (sigaction(SIGALRM, &action, &before) != 0) return;
  sigset_t alarm_only;
  sigemptyset(&alarm_only);
  sigaddset(&alarm_only, SIGALRM);
  pthread_sigmask(SIG_UNBLOCK, &alarm_only, NULL);
  alarm(kSecondsForStack);
  say("Native stack of the thread that died (most recent call first):\n");
  int count = backtrace(frames, kFrames);
  // Above that place are our own frames, and the kernel's.
  int first = 0;
  while (first < count && frames[first] != place_of(context)) ++first;
  if (first == count) first = 0;
  backtrace_symbols_fd(frames + first, count - first, stacks_fd);
  alarm(0);
  sigaction(SIGALRM, &before, NULL);
  say("\n");
}

static void take_note(int signal, siginfo_t* info, void* context) {
  // A child that the test forked shares the page but not the verdict.
  if (slate != NULL && getpid() == owner && !slate->crash_set) {
    slate->signal = signal;
    slate->si_code = info->si_code;
    slate->sender = info->si_code <= 0 ? info->si_pid : 0;
    slate->address = (uint64_t)(uintptr_t)info->si_addr;
    slate->crash_set = 1;
    current_signal = signal;
    current_info = *info;
    current_context = context;
    if (stacks_fd >= 0) write_native_stack(context);
    // The whole process; the engine sees that, tells the user, and lets it go on.
    if (keep) kill(getpid(), SIGSTOP);
  }
  go_on(signal, info, context);
}

/// Arms the handlers. `page` must stay mapped for the life of the process, `stacks` (a descriptor) open. Returns 0, or -1 where
/// a handler cannot be set.
__attribute__((visibility("default"))) int crashnote_arm(void* page, int stacks) {
  slate = page;
  stacks_fd = stacks;
  // The first call loads the unwinder's library.
  void* frame;
  backtrace(&frame, 1);
  for (size_t i = 0; i < COUNT; ++i) {
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_sigaction = take_note;
    // On the alternate stack that faulthandler has set up, since the fault may be a stack overflow.
    action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
    sigemptyset(&action.sa_mask);
    // Armed a second time (another page after a fork): keep the first predecessor, or we would call ourselves for ever.
    struct sigaction now;
    if (sigaction(kSignals[i], NULL, &now) == 0 && (now.sa_flags & SA_SIGINFO) && now.sa_sigaction == take_note) continue;
    if (sigaction(kSignals[i], &action, &previous[i]) != 0) return -1;
  }
  return 0;
}

/// From now on a process that crashes stops first, where `wanted`.
__attribute__((visibility("default"))) void crashnote_keep(int wanted) { keep = wanted; }

/// To be called in the process whose death counts, after the fork: notes are taken for it alone.
__attribute__((visibility("default"))) void crashnote_own(void) { owner = getpid(); }

/// The same at the start of a test's process, with what else it needs: the kernel kills it when `parent` ends, and it gets a
/// session of its own, so that signals to its process group reach nobody else. One call instead of four, since every first call
/// in a fresh fork copies pages. Returns -1 if `parent` has ended already.
__attribute__((visibility("default"))) int crashnote_begin(int parent) {
  owner = getpid();
  prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
  // The parent may have died between the fork and the call.
  if (getppid() != parent) return -1;
  setsid();
  return 0;
}

// In a program that is a test: HOLDFAST_CRASHNOTE=PAGE,STACKS,LD_PRELOAD has two descriptors, and what LD_PRELOAD was before we
// were put there. What the program starts is not the test, and gets neither.
static __attribute__((constructor)) void begin_in_program(void) {
  const char* given = getenv("HOLDFAST_CRASHNOTE");
  int page_fd = -1;
  int stacks = -1;
  int before = 0;
  if (given == NULL || sscanf(given, "%d,%d,%n", &page_fd, &stacks, &before) != 2 || before == 0) return;
  if (given[before] == '\0') {
    unsetenv("LD_PRELOAD");
  } else {
    setenv("LD_PRELOAD", given + before, 1);
  }
  unsetenv("HOLDFAST_CRASHNOTE");
  void* page = mmap(NULL, sizeof(struct slate), PROT_READ | PROT_WRITE, MAP_SHARED, page_fd, 0);
  close(page_fd);
  fcntl(stacks, F_SETFD, FD_CLOEXEC);
  if (page == MAP_FAILED) return;
  owner = getpid();
  crashnote_arm(page, stacks);
}
