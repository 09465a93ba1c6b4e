// forkloop: the loop of a slot's zygote. It waits for the engine's orders and for its children, forks, and tells.
//
// Called with ctypes (and with the GIL held) by python/holdfast/serve.py. In C since every page that the zygote writes between
// two forks is shared with the child that was forked last, and so must be copied: a Python loop touches about 250 of them a
// test, this one its stack. Python's own fork handlers run here in the child alone; in the zygote, whose state does not change
// from fork to fork, once around the whole loop.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

// The engine has one process in hand a slot and one forked ahead; workers that are being retired come on top, and in the
// process of a scope a replica for each slot.
#define MAX_CHILDREN 1024
#define NO_ORDER (-2)
#define DOWN (-3)

// Milliseconds between looks for dead orphans, while a test may have some: whoever waits for one to be gone, as it is at once
// where init is its parent, must not wait for the end of the test.
#define LOOK 100

// Of the same length, so that one read gets either and nothing beyond it.
static const char kOrder[] = "{\"t\":\"fork\"}";
static const char kDown[] = "{\"t\":\"down\"}";
_Static_assert(sizeof kOrder == sizeof kDown, "one read");

static struct pollfd polled[1 + MAX_CHILDREN];  // The engine's socket, then a pidfd a child.
static pid_t pids[1 + MAX_CHILDREN];
static int count;

static int send_frame(const char* payload, size_t size) {
  unsigned char frame[256];
  for (int i = 0; i < 4; ++i) frame[i] = (unsigned char)(size >> (8 * i));
  memcpy(frame + 4, payload, size);
  size += 4;
  for (size_t sent = 0; sent < size;) {
    ssize_t n = send(polled[0].fd, frame + sent, size - sent, MSG_NOSIGNAL);
    if (n < 0 && errno != EINTR) return -1;
    if (n > 0) sent += (size_t)n;
  }
  return 0;
}

/// One order. Returns the descriptor that came with it, NO_ORDER if a signal came first, DOWN for the order to stop, or -1 at
/// the end of the stream and for anything else: the protocol knows no other here.
static int receive_order(void) {
  struct {
    unsigned char size[4];
    char payload[sizeof kOrder - 1];
  } frame;
  union {
    struct cmsghdr header;
    char space[CMSG_SPACE(sizeof(int))];
  } control;
  struct iovec part = {&frame, sizeof frame};
  struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
  // All of it or nothing: the engine sends a frame in one piece, and it fits into any socket buffer.
  ssize_t n = recvmsg(polled[0].fd, &message, MSG_WAITALL | MSG_CMSG_CLOEXEC);
  if (n < 0 && errno == EINTR) return NO_ORDER;
  const unsigned char size[4] = {sizeof frame.payload, 0, 0, 0};
  if (n == (ssize_t)sizeof frame && memcmp(frame.size, size, 4) == 0 &&
      memcmp(frame.payload, kDown, sizeof frame.payload) == 0) {
    return DOWN;
  }
  struct cmsghdr* header = n == (ssize_t)sizeof frame ? CMSG_FIRSTHDR(&message) : NULL;
  if (header == NULL || header->cmsg_type != SCM_RIGHTS || header->cmsg_len != CMSG_LEN(sizeof(int))) return -1;
  int fd;
  memcpy(&fd, CMSG_DATA(header), sizeof fd);
  if (memcmp(frame.size, size, 4) == 0 && memcmp(frame.payload, kOrder, sizeof frame.payload) == 0) return fd;
  close(fd);
  return -1;
}

/// Dead orphans (this process is their subreaper) must not stay zombies; our own children are left to reap().
static void reap_orphans(void) {
  for (;;) {
    siginfo_t info;
    info.si_pid = 0;
    if (waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) != 0 || info.si_pid == 0) return;
    for (int i = 1; i <= count; ++i) {
      if (pids[i] == info.si_pid) return;
    }
    waitpid(info.si_pid, NULL, WNOHANG);
  }
}

static long long microseconds(struct timeval time) { return time.tv_sec * 1000000LL + time.tv_usec; }

static int reap(int i) {
  pid_t pid = pids[i];
  close(polled[i].fd);
  polled[i] = polled[count];
  pids[i] = pids[count--];
  int status = 0;
  struct rusage usage;
  while (wait4(pid, &status, 0, &usage) < 0) {
    if (errno != EINTR) return -1;
  }
  char text[224];
  int size = snprintf(
      text, sizeof text,
      "{\"t\":\"exited\",\"pid\":%d,\"status\":%d,\"maxrss\":%ld,\"user\":%lld,\"system\":%lld,\"in\":%ld,\"out\":%ld}",
      (int)pid, status, usage.ru_maxrss, microseconds(usage.ru_utime), microseconds(usage.ru_stime), usage.ru_inblock,
      usage.ru_oublock);
  int sent = send_frame(text, (size_t)size);
  reap_orphans();
  return sent;
}

static int reap_all(void) {
  for (int i = count; i >= 1; --i) {
    if (polled[i].revents != 0 && reap(i) != 0) return -1;
  }
  return 0;
}

static void forget_children(void) {
  for (int i = 1; i <= count; ++i) close(polled[i].fd);
  count = 0;
}

/// Forks once. Returns 1 in the child, 0 in the zygote, -1 where it cannot be done.
static int fork_once(int fd) {
  if (count == MAX_CHILDREN) return -1;
  pid_t pid = fork();
  if (pid == 0) {
    close(polled[0].fd);
    forget_children();
    return 1;
  }
  close(fd);
  if (pid < 0) return -1;
  int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
  if (pidfd < 0) return -1;
  ++count;
  polled[count] = (struct pollfd){.fd = pidfd, .events = POLLIN};
  pids[count] = pid;
  char text[64];
  int size = snprintf(text, sizeof text, "{\"t\":\"forked\",\"pid\":%d}", (int)pid);
  return send_frame(text, (size_t)size);
}

/// A descriptor as high as `floor`, where a test that closes the low ones does not hit it; the same where there is none.
static int move_up(int fd, int floor) {
  int moved = fcntl(fd, F_DUPFD_CLOEXEC, floor);
  if (moved < 0) return fd;
  close(fd);
  return moved;
}

static int serve(int floor) {
  for (;;) {
    int ready = poll(polled, (nfds_t)(1 + count), count > 0 ? LOOK : -1);
    if (ready < 0) return errno == EINTR ? NO_ORDER : -1;
    if (ready == 0) {
      reap_orphans();
      continue;
    }
    int order = polled[0].revents;
    if (reap_all() != 0) return -1;
    if (order == 0) continue;
    int fd = receive_order();
    if (fd < 0) return fd;
    fd = move_up(fd, floor);
    int forked = fork_once(fd);
    if (forked != 0) return forked > 0 ? fd : -1;
  }
}

/// Serves the engine's `socket`. Returns, in a new child, the descriptor of its test's socket, numbered `floor` or higher,
/// after having closed what is the zygote's; in the zygote -1 when the engine has gone (or fork, or the protocol, fails), -2
/// after a signal, for Python to run its handlers and to call again, and -3 when it is to fork no more. `before`, `parent` and
/// `child` are Python's PyOS_BeforeFork, PyOS_AfterFork_Parent and PyOS_AfterFork_Child.
__attribute__((visibility("default"))) int forkloop_serve(int socket, int floor, void (*before)(void), void (*parent)(void),
                                                          void (*child)(void)) {
  pid_t self = getpid();
  polled[0] = (struct pollfd){.fd = socket, .events = POLLIN};
  before();
  int result = serve(floor);
  if (result >= 0 && getpid() != self) {
    child();
  } else {
    parent();
    if (result == DOWN) forget_children();  // What still runs is no concern of this process any more.
  }
  return result;
}
