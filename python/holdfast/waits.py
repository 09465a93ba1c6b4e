"""What a thread of another process waits for, by what /proc tells: its system call, the file or lock, and who has the other end.
Standard library only; Linux.

    syscall     what is looked up
    read, ...   the descriptor: a pipe or socket, and the processes that hold its other end
    futex       the owner of a mutex (pthread_mutex_t keeps its thread's number 8 bytes behind the lock word, glibc's layout)
    wait4, ...  the child
    flock, ...  who holds the lock, by /proc/locks
    poll, ...   each descriptor that it waits for
"""

from __future__ import annotations

import contextlib
import os
import platform
import re
import socket
import struct
import time
from collections.abc import Iterator
from typing import NamedTuple, Optional

from holdfast.procs import command_of

# Numbers of system calls (asm/unistd_64.h, asm-generic/unistd.h).
_X86 = {
    0: "read", 1: "write", 7: "poll", 19: "readv", 20: "writev", 23: "select", 34: "pause", 35: "nanosleep", 42: "connect",
    43: "accept", 44: "sendto", 45: "recvfrom", 46: "sendmsg", 47: "recvmsg", 61: "wait4", 65: "semop", 70: "msgrcv", 72: "fcntl",
    73: "flock", 128: "rt_sigtimedwait", 130: "rt_sigsuspend", 202: "futex", 220: "semtimedop", 230: "clock_nanosleep",
    232: "epoll_wait", 247: "waitid", 257: "openat", 270: "pselect6", 271: "ppoll", 281: "epoll_pwait", 288: "accept4", 299: "recvmmsg",
}  # fmt: skip
_ARM = {
    22: "epoll_pwait", 25: "fcntl", 32: "flock", 56: "openat", 63: "read", 64: "write", 65: "readv", 66: "writev", 72: "pselect6",
    73: "ppoll", 95: "waitid", 98: "futex", 101: "nanosleep", 115: "clock_nanosleep", 133: "rt_sigsuspend", 137: "rt_sigtimedwait",
    188: "msgrcv", 192: "semtimedop", 193: "semop", 202: "accept", 203: "connect", 206: "sendto", 207: "recvfrom", 211: "sendmsg",
    212: "recvmsg", 242: "accept4", 243: "recvmmsg", 260: "wait4",
}  # fmt: skip
_NAMES = {"x86_64": _X86, "aarch64": _ARM}.get(platform.machine(), {})

_READS = ("read", "readv", "recvfrom", "recvmsg", "recvmmsg", "accept", "accept4")
_WRITES = ("write", "writev", "sendto", "sendmsg", "connect")
_SLEEPS = ("nanosleep", "clock_nanosleep")
# At most so many descriptors of one poll are described, and so many processes at the other end.
_SHOWN = 4
# Seconds for the one look at the descriptors of all processes.
_SCAN_LIMIT = 0.5


class Call(NamedTuple):
    name: str
    arguments: list[int]


class Opened(NamedTuple):
    pid: int
    number: int
    writes: bool
    reads: bool


def call_of(pid: int, tid: int) -> Optional[Call]:
    """The system call that a thread is in; None for one that runs. Raises PermissionError without the right to trace it."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError), open(f"/proc/{pid}/task/{tid}/syscall") as file:
        words = file.read().split()
        if len(words) > 6 and words[0].lstrip("-").isdigit() and int(words[0]) >= 0:
            number = int(words[0])
            return Call(_NAMES.get(number, f"system call {number}"), [int(word, 16) for word in words[1:7]])
    return None


def shortened(command: str) -> str:
    """A command line, at most 120 characters."""
    return command if len(command) <= 120 else command[:117] + "..."


def told(pid: int) -> str:
    """The command line; of a fork, which has that of its parent, whose it is."""
    command = command_of(pid)
    with contextlib.suppress(OSError, IndexError), open(f"/proc/{pid}/stat") as file:
        parent = int(file.read().rpartition(")")[2].split()[1])
        if parent > 1 and len(command) > 40 and command_of(parent) == command:
            return f"a fork of process {parent}"
    return shortened(command) or "it has ended"


def named(pid: int) -> str:
    return f"process {pid} ({told(pid)})"


class Look:
    """One look at all processes. What it has read is kept, so it is for one moment only."""

    def __init__(self) -> None:
        self._opened: Optional[dict[str, list[Opened]]] = None
        self._peers: Optional[dict[int, int]] = None

    def explain(self, pid: int, call: Call) -> str:
        """The end of a sentence that begins with "waits"."""
        name, arguments = call
        if name in _READS or name in _WRITES:
            return f"in {name} on {self.describe(pid, arguments[0], name in _WRITES)}"
        if name == "futex":
            return f"in futex for {self._lock(pid, arguments)}"
        if name in ("wait4", "waitid"):
            return f"in {name} for {_child(pid, name, arguments)}"
        if name in ("poll", "ppoll"):
            return self._many(pid, name, _polled(pid, arguments))
        if name in ("epoll_wait", "epoll_pwait"):
            return self._many(pid, name, _registered(pid, arguments[0]))
        if name == "flock" or (name == "fcntl" and arguments[1] in (7, 38)):  # F_SETLKW, F_OFD_SETLKW
            return f"in {name} for the lock on {_target(pid, arguments[0])}{_holder(pid, arguments[0])}"
        if name in _SLEEPS:
            return f"in {name} (it sleeps)"
        if name == "openat":
            return "in openat for a file that does not open (the other side of a FIFO?)"
        return f"in {name}"

    def _many(self, pid: int, name: str, numbers: list[int]) -> str:
        shown = [self.describe(pid, number, False) for number in numbers[:_SHOWN]]
        more = f", and {len(numbers) - _SHOWN} more" if len(numbers) > _SHOWN else ""
        return f"in {name} on {', '.join(shown)}{more}" if shown else f"in {name}"

    def describe(self, pid: int, number: int, writes: bool) -> str:
        """A descriptor, and who has the other end of it."""
        target = _target(pid, number)
        text = f"descriptor {number}, {target}"
        if target.startswith("pipe:"):
            ends = [o for o in self.opened().get(target, []) if (o.reads if writes else o.writes)]
            return f"{text}, {_ends(ends, pid, 'its reading end' if writes else 'its writing end')}"
        if target.startswith("socket:["):
            return f"{text}{self._other_side(pid, int(target[8:-1]))}"
        return text

    def opened(self) -> dict[str, list[Opened]]:
        """Pipes and sockets -> who has them, as far as we may look."""
        if self._opened is None:
            self._opened = {}
            deadline = time.monotonic() + _SCAN_LIMIT
            for entry in os.listdir("/proc"):
                if entry.isdigit() and time.monotonic() < deadline:
                    for target, opened in _pipes_and_sockets(int(entry)):
                        self._opened.setdefault(target, []).append(opened)
        return self._opened

    def _other_side(self, pid: int, inode: int) -> str:
        peer = self._unix_peers().get(inode)
        if peer is not None:
            return f", {_ends(self.opened().get(f'socket:[{peer}]', []), pid, 'the other side')}"
        for table in ("tcp", "tcp6"):
            rows = _tcp(pid, table)
            mine = next((row for row in rows if row[2] == inode), None)
            if mine is None:
                continue
            local, remote, _, state = mine
            if state == "0A":
                return f", listening on {_address(local)}"
            other = next((row for row in rows if row[0] == remote and row[1] == local), None)
            held = f", {_ends(self.opened().get(f'socket:[{other[2]}]', []), pid, 'the other side')}" if other is not None else ""
            return f", connected to {_address(remote)}{held}"
        return ""

    def _unix_peers(self) -> dict[int, int]:
        if self._peers is None:
            self._peers = {}
            with contextlib.suppress(OSError):
                self._peers = dict(_ask_for_peers())
        return self._peers

    def _lock(self, pid: int, arguments: list[int]) -> str:
        address = arguments[0]
        where = _mapping(pid, address)
        word = _memory(pid, address, 12)
        if len(word) == 12:
            value, _, owner = struct.unpack("<IiI", word)
            # The lock word of a taken mutex is 1 or 2; a condition or a semaphore has another layout, and then no thread's number.
            if value in (1, 2) and owner and os.path.isdir(f"/proc/{owner}"):
                with contextlib.suppress(OSError), open(f"/proc/{owner}/comm") as file:
                    comm = file.read().strip()
                    of = "" if os.path.isdir(f"/proc/{pid}/task/{owner}") else f" of {named(_process_of(owner))}"
                    return f"a mutex that thread {owner} ({comm}){of} holds{where}"
        return f"a lock or condition{where}"


def _ends(ends: list[Opened], me: int, name: str) -> str:
    others = list(dict.fromkeys(o.pid for o in ends if o.pid != me))
    holders = [named(other) for other in others[:_SHOWN]]
    if any(o.pid == me for o in ends):
        holders.insert(0, "itself")
    if len(others) > _SHOWN:
        holders.append(f"{len(others) - _SHOWN} more")
    return f"{name} is held by {' and '.join(holders)}" if holders else f"nobody that we can see holds {name}"


def _pipes_and_sockets(pid: int) -> Iterator[tuple[str, Opened]]:
    with contextlib.suppress(OSError):
        for number in os.listdir(f"/proc/{pid}/fd"):
            with contextlib.suppress(OSError, ValueError, IndexError):
                target = os.readlink(f"/proc/{pid}/fd/{number}")
                if target.startswith("socket:"):
                    yield target, Opened(pid, int(number), True, True)
                elif target.startswith("pipe:"):
                    with open(f"/proc/{pid}/fdinfo/{number}") as file:
                        mode = int(file.read().split("flags:")[1].split()[0], 8) & os.O_ACCMODE
                    yield target, Opened(pid, int(number), mode != os.O_RDONLY, mode != os.O_WRONLY)


def _target(pid: int, number: int) -> str:
    try:
        return os.readlink(f"/proc/{pid}/fd/{number}")
    except OSError:
        return "which we cannot see"


def _memory(pid: int, address: int, size: int) -> bytes:
    with contextlib.suppress(OSError, ValueError, OverflowError), open(f"/proc/{pid}/mem", "rb", buffering=0) as file:
        file.seek(address)
        return file.read(size) or b""
    return b""


def _mapping(pid: int, address: int) -> str:
    """In which file an address lies, where that says something."""
    with contextlib.suppress(OSError), open(f"/proc/{pid}/maps") as file:
        for line in file:
            fields = line.split(None, 5)
            start, end = (int(part, 16) for part in fields[0].split("-"))
            if start <= address < end:
                name = fields[5].strip() if len(fields) > 5 else ""
                shared = "s" in fields[1]
                if name.startswith("/") or shared:
                    return f", in {'shared memory ' if shared else ''}{name}".rstrip()
                return ""
    return ""


def _process_of(tid: int) -> int:
    with contextlib.suppress(OSError, IndexError), open(f"/proc/{tid}/status") as file:
        return int(file.read().split("Tgid:")[1].split()[0])
    return tid


def _child(pid: int, name: str, arguments: list[int]) -> str:
    wanted = arguments[0] & 0xFFFFFFFF if name == "wait4" else arguments[1] & 0xFFFFFFFF
    if name == "waitid" and arguments[0] == 3:  # P_PIDFD
        return "a child"
    if wanted in (0, 0xFFFFFFFF) or (name == "waitid" and arguments[0] == 0):
        return "any child"
    return f"its child, {named(wanted)}"


def _polled(pid: int, arguments: list[int]) -> list[int]:
    count = min(arguments[1], 64)
    data = _memory(pid, arguments[0], count * 8)
    return [number for number, _, _ in struct.iter_unpack("<ihh", data[: len(data) // 8 * 8]) if number >= 0]


def _registered(pid: int, number: int) -> list[int]:
    with contextlib.suppress(OSError), open(f"/proc/{pid}/fdinfo/{number}") as file:
        return [int(found) for found in re.findall(r"^tfd:\s+(\d+)", file.read(), re.MULTILINE)]
    return []


def _holder(pid: int, number: int) -> str:
    """By /proc/locks (proc(5)): lines with `->` are those that wait."""
    with contextlib.suppress(OSError, IndexError):
        status = os.stat(f"/proc/{pid}/fd/{number}")
        place = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
        with open("/proc/locks") as file:
            for line in file:
                fields = line.split()
                if "->" not in fields and len(fields) > 5 and fields[5] == place and int(fields[4]) > 0:
                    holder = int(fields[4])
                    return ", which it holds itself" if holder == pid else f", which {named(holder)} holds"
    return ""


def _tcp(pid: int, table: str) -> list[tuple[str, str, int, str]]:
    """local address, remote address, inode, state; as in proc(5)."""
    rows = []
    with contextlib.suppress(OSError), open(f"/proc/{pid}/net/{table}") as file:
        for line in file.read().splitlines()[1:]:
            fields = line.split()
            rows.append((fields[1], fields[2], int(fields[9]), fields[3]))
    return rows


def _address(text: str) -> str:
    """Hexadecimal words in the machine's order, a colon, and the port."""
    words, _, port = text.partition(":")
    raw = b"".join(struct.pack("=I", int(words[i : i + 8], 16)) for i in range(0, len(words), 8))
    family = socket.AF_INET if len(raw) == 4 else socket.AF_INET6
    name = socket.inet_ntop(family, raw)
    return f"{name}:{int(port, 16)}" if family == socket.AF_INET else f"[{name}]:{int(port, 16)}"


def _ask_for_peers() -> Iterator[tuple[int, int]]:
    """Inode -> inode of the other side, of all Unix sockets of this network namespace: sock_diag(7), UNIX_DIAG_PEER."""
    netlink_sock_diag, sock_diag_by_family, dump, show_peer, diag_peer = 4, 20, 0x301, 4, 2
    request = struct.pack("=BBHIIIII", socket.AF_UNIX, 0, 0, 0xFFFFFFFF, 0, show_peer, 0xFFFFFFFF, 0xFFFFFFFF)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, netlink_sock_diag) as sock:
        sock.settimeout(0.5)
        sock.send(struct.pack("=IHHII", 16 + len(request), sock_diag_by_family, dump, 1, 0) + request)
        for _ in range(1000):
            data = sock.recv(1 << 17)
            while len(data) >= 16:
                size, kind = struct.unpack_from("=IH", data)
                if kind != sock_diag_by_family or size < 16:
                    return
                (inode,) = struct.unpack_from("=I", data, 16 + 4)
                at = 16 + 16
                while at + 4 <= size:
                    length, attribute = struct.unpack_from("=HH", data, at)
                    if attribute == diag_peer:
                        yield inode, struct.unpack_from("=I", data, at + 4)[0]
                    at += max(4, (length + 3) & ~3)
                data = data[(size + 3) & ~3 :]
