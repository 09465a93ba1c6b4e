"""The loop of a slot's zygote (shim/forkloop.c), in a process of its own, with this test as the engine."""

import array
import os
import select
import signal
import socket
import subprocess
import sys
import time

import pytest

from holdfast import wire

ZYGOTE = """
import os, socket, sys
from holdfast import crash, serve, wire

def run(fd, parent):
    sock = socket.socket(fileno=fd)
    order = wire.receive_one(sock)
    exec(order["do"])
    os._exit(order.get("code", 0))

os.register_at_fork(before=lambda: print("before", flush=True), after_in_child=lambda: print("child", flush=True))
crash.reap_orphans_here()
serve.serve_slot(wire.Channel(socket.socket(fileno=int(sys.argv[1]))), run)
"""


class Zygote:
    def __init__(self):
        ours, theirs = socket.socketpair()
        ours.settimeout(20)
        self.channel = wire.Channel(ours)
        self.process = subprocess.Popen(
            [sys.executable, "-c", ZYGOTE, str(theirs.fileno())], pass_fds=[theirs.fileno()], stdout=subprocess.PIPE, text=True
        )
        theirs.close()
        assert self.receive()["t"] == "hello"

    def receive(self):
        return self.channel.receive()

    def send(self, frame, fds=()):
        ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        self.channel.sock.sendmsg([wire.encode(frame)], ancillary)

    def fork(self):
        """Returns the test's socket; `forked` comes next."""
        ours, theirs = socket.socketpair()
        self.send({"t": "fork"}, [theirs.fileno()])
        theirs.close()
        ours.settimeout(20)
        return ours

    def end(self):
        self.channel.sock.close()
        out, _ = self.process.communicate(timeout=20)
        return out


@pytest.fixture
def zygote():
    running = Zygote()
    yield running
    running.process.kill()
    running.process.communicate()


def order(sock, do="", code=0):
    sock.sendall(wire.encode({"do": do, "code": code}))


def wait_until(condition):
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_each_fork_is_told_of_and_so_is_its_end(zygote):
    first, second = zygote.fork(), zygote.fork()
    pids = [zygote.receive()["pid"] for _ in range(2)]
    order(second, code=7)
    ended = zygote.receive()
    assert (ended["pid"], os.waitstatus_to_exitcode(ended["status"])) == (pids[1], 7)
    assert ended["maxrss"] > 1000
    order(first, "os.kill(os.getpid(), 9)")
    assert os.WTERMSIG(zygote.receive()["status"]) == 9


def test_python_handlers_run_once_around_the_loop_and_in_every_child(zygote):
    for sock in (zygote.fork(), zygote.fork()):
        zygote.receive()
        order(sock)
        zygote.receive()
    assert zygote.end().split() == ["before", "child", "child"]
    assert zygote.process.returncode == 0


def test_a_child_has_none_of_the_zygotes_descriptors(zygote):
    idle = zygote.fork()  # Its pidfd is open in the zygote when the next one is forked.
    zygote.receive()
    sock = zygote.fork()
    zygote.receive()
    order(sock, "import glob; print([os.readlink(n) for n in glob.glob('/proc/self/fd/*') if os.path.lexists(n)], flush=True)")
    zygote.receive()
    idle.close()
    listed = zygote.end()
    assert "pidfd" not in listed and listed.count("socket:") == 1


def test_an_interrupt_ends_neither_the_zygote_nor_the_next_child(zygote):
    zygote.process.send_signal(signal.SIGINT)
    sock = zygote.fork()
    zygote.receive()
    order(sock)
    assert zygote.receive()["status"] == 0


def test_dead_orphans_do_not_stay(zygote):
    sock = zygote.fork()
    zygote.receive()
    # The grandchild is dead when the child ends, and nobody has waited for it.
    order(sock, "pid = os.fork() or os._exit(0); os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)")
    zygote.receive()
    children = f"/proc/{zygote.process.pid}/task/{zygote.process.pid}/children"
    wait_until(lambda: open(children).read() == "")


@pytest.mark.parametrize(
    "frame", [{"t": "fork"}, {"t": "spoon"}, {"t": "finish!"}], ids=["without a descriptor", "unknown", "of its length"]
)
def test_what_is_no_order_ends_the_zygote(zygote, frame):
    zygote.send(frame, [0] if frame["t"] != "fork" else [])
    assert zygote.process.wait(20) == 0


def test_the_end_of_the_engine_takes_the_children_along(zygote):
    sock = zygote.fork()
    pid = zygote.receive()["pid"]
    watch = os.pidfd_open(pid)
    zygote.end()
    assert select.select([watch], [], [], 20)[0]
    os.close(watch)
    sock.close()
