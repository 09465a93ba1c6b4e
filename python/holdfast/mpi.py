"""MPI in the processes of the engine: what the root zygote finds out, and what a rank does before and after its test.

A rank's process is forked before MPI is initialised. The engine tells it which rank it is, and how the ranks find each other; the
rest is MPI_Init's.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import socket
import sys
import time
import warnings
from collections.abc import Generator
from typing import Any, Optional

from holdfast import launchers, streams
from holdfast.wire import Frame

# What ranks on one machine, which speak through memory, need no more than; on what the user has set we do not insist. Without it
# MPI_Init looks at every network, listens there, and takes several times as long.
_OPEN_MPI = {
    "OMPI_MCA_pml": "ob1",
    "OMPI_MCA_coll": "basic,libnbc,tuned,inter,self",
    "OMPI_MCA_osc": "^ucx,rdma",
    "OMPI_MCA_io": "^romio321",
    "OMPI_MCA_mpi_yield_when_idle": "1",
    "OMPI_MCA_rmaps_base_oversubscribe": "1",
    "PMIX_MCA_gds": "hash",
}
_MPICH = {"UCX_TLS": "self,posix", "FI_PROVIDER": "tcp", "FI_TCP_IFACE": "lo"}
# Where the shared memory of a gang is to be, so that what a rank leaves that was killed can be found.
_PLACES = ("OMPI_MCA_btl_vader_backing_directory", "OMPI_MCA_btl_sm_backing_directory", "UCX_POSIX_DIR")
_tuning: dict[str, str] = {}
# What a launcher, where it joins the ranks of this run, wants them to have; and of whose MPI it is.
_launcher: dict[str, str] = {}
_launcher_library = ""
# The descriptor of what hwloc knows of this machine; negative where it could not be had.
_topology = -1

# Seconds that a library's threads may take to have nothing to do after MPI_Init; much less than a millisecond, mostly.
_SETTLES = 1.0

# The rank that this process is; None where its test has none.
_process: Optional[Rank] = None


# What mpi4py and UCX read when they are loaded, and what the user had set there. (UCX would print its own stacks of a crash.)
_HELD = {"MPI4PY_RC_INITIALIZE": "0", "MPI4PY_RC_FINALIZE": "0", "UCX_HANDLE_ERRORS": "none"}
_before: dict[str, Optional[str]] = {}


def hold_back() -> None:
    """During the collection: mpi4py, when it is imported, does not initialise MPI. A process that has could not be forked."""
    _before.update({name: os.environ.get(name) for name in _HELD})
    os.environ.update(_HELD)


def end_hold() -> None:
    """Programs that tests start find the environment as it was."""
    for name, value in _before.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


def prepare(wanted: str, words: list[str]) -> Frame:
    """In the root zygote, where tests with ranks were collected: loads MPI for all forks. Returns how its ranks find each other, in
    the words of protocol/README.md (`ready`). `words`: the user's, for a launcher."""
    hold_back()
    try:
        from mpi4py import MPI
    except ImportError as problem:
        return {"problem": f"tests with MPI ranks need mpi4py, which cannot be imported ({problem})"}
    except RuntimeError as problem:
        return {"problem": f"mpi4py finds no MPI library ({problem})"}
    finally:
        end_hold()
    if MPI.Is_initialized():
        return {"problem": "something has initialised MPI while the tests were collected (a process that has cannot be forked)"}
    library = MPI.Get_library_version().replace("\0", "").strip().split("\n")[0]
    _tuning.update(tuning_of(library))
    _draw_topology()
    return joined(wanted, words, library)


def joined(wanted: str, words: list[str], library: str, path: str = "") -> Frame:
    """How ranks find each other, as prepare() returns it; where only programs have any, `library` is of one of them, as
    MPI_Get_library_version says it, in `path`."""
    global _launcher_library
    if wanted not in launchers.LAUNCHERS:
        return {"manager": wanted if wanted != "auto" else manager_of(library), "library": library}
    found = launchers.launch(wanted, library, words, tuning_of(library), path)
    # Ranks, and what the launcher starts at their wish, are to agree.
    _launcher.update(found.get("launch", {}).get("environment", {}))
    _launcher_library = library
    return {**found, "library": library}


def why_not_joined(library: str) -> str:
    """Of a program with that one: a launcher of another MPI would leave each rank alone, and that would look like a pass."""
    if not (library and _launcher_library) or launchers.is_open_mpi(library) == launchers.is_open_mpi(_launcher_library):
        return ""
    return f"its MPI is {library}, and the launcher of this run is of {_launcher_library}; run it by itself, or with --hf-mpi=auto"


def _draw_topology() -> None:
    """Every rank would look at all of /sys (and, with some of hwloc's plugins, for X displays) to learn what this machine is like. So
    it is done once, and kept in a file in memory that all forks have."""
    global _topology
    try:
        hwloc = ctypes.CDLL("libhwloc.so.15")
        topology = ctypes.c_void_p()
        memory = streams.out_of_the_way(os.memfd_create("holdfast-topology"))
        path = f"/proc/self/fd/{memory}".encode()
        drawn = (
            hwloc.hwloc_topology_init(ctypes.byref(topology)) == 0
            and hwloc.hwloc_topology_load(topology) == 0
            and hwloc.hwloc_topology_export_xml(topology, path, ctypes.c_ulong(0)) == 0
        )
        _topology = memory if drawn else -1
    except OSError:
        pass  # Another version of the library, or none: each rank looks for itself.


@contextlib.contextmanager
def _known_topology() -> Generator[None, None, None]:
    """For MPI_Init only: a program that the test starts does not have the file."""
    if _topology < 0 or "HWLOC_XMLFILE" in os.environ:
        yield
        return
    os.environ.update(HWLOC_XMLFILE=f"/proc/self/fd/{_topology}", HWLOC_THISSYSTEM="1")
    yield
    for name in ("HWLOC_XMLFILE", "HWLOC_THISSYSTEM"):
        os.environ.pop(name, None)


def manager_of(library: str) -> str:
    """MPICH and what is made of it (Intel MPI, MVAPICH) speak PMI-1, Open MPI PMIx."""
    return "pmix" if launchers.is_open_mpi(library) else "pmi"


def tuning_of(library: str) -> dict[str, str]:
    if not launchers.is_open_mpi(library):
        return _MPICH
    version = re.match(r"Open MPI v(\d+)", library)
    if version is None:
        return _OPEN_MPI  # Of a script nobody knows it.
    # The transport through memory has changed its name.
    return {**_OPEN_MPI, "OMPI_MCA_btl": "self,vader" if int(version[1]) < 5 else "self,sm"}


class Rank:
    """What the engine has said of this process, and what has come of it."""

    def __init__(self, order: Frame, fds: list[int], library: str) -> None:
        self.rank = int(order["rank"])
        self.size = int(order["size"])
        self.name = str(order["name"])
        self.pid = os.getpid()
        # What a program that joins in the place of this process must inherit.
        self.descriptors = tuple(fds[:1])
        # In a world that is kept: what its tests have got, until they have ended on all ranks, and what nobody but us speaks on.
        self._given: list[Any] = []
        self._own: Any = None
        self._keeps = False
        if order.get("cpus"):
            os.sched_setaffinity(0, {int(cpu) for cpu in order["cpus"]})
        # A program's crash is told by us, once, and not by UCX as well.
        tuning = {**tuning_of(library), "UCX_HANDLE_ERRORS": _HELD["UCX_HANDLE_ERRORS"]} if library else _tuning
        for key, value in {**tuning, **_launcher}.items():
            os.environ.setdefault(key, value)
        os.environ.update({str(k): str(v) for k, v in order["environment"].items()})
        if order["folder"]:
            os.environ.update(dict.fromkeys(_PLACES, str(order["folder"])))
        if fds:
            os.set_inheritable(fds[0], True)
            os.environ["PMI_FD"] = str(fds[0])

    def initialise(self) -> None:
        """Raises RuntimeError if the ranks have not found each other: MPI then believes that each is alone."""
        from mpi4py import MPI

        if not MPI.Is_initialized():
            before = set(os.listdir("/proc/self/fd"))
            with _known_topology():
                MPI.Init_thread(_thread_level(MPI))
            _send_at_once(set(os.listdir("/proc/self/fd")) - before)
            if MPI.get_vendor()[0] == "Open MPI":
                _let_threads_settle()
        found = (MPI.COMM_WORLD.rank, MPI.COMM_WORLD.size)
        if found != (self.rank, self.size):
            library = MPI.Get_library_version().replace("\0", "").split("\n")[0]
            raise RuntimeError(
                f"rank {self.rank} of {self.size} has become rank {found[0]} of {found[1]}: {library} did not find its process manager"
            )

    def world(self) -> Any:
        from mpi4py import MPI

        return MPI.COMM_WORLD

    def begin(self, order: Frame) -> None:
        """Another test, for the ranks of a world that is kept."""
        self.name = str(order["name"])
        self._keeps = True

    def communicator(self) -> Any:
        """The test's own."""
        if not self._keeps:
            return self.world().Dup()
        from holdfast.pool import watched

        return watched(self.world())

    def settle(self) -> tuple[list[str], bool]:
        """When a test of a kept world has ended well here: waits for the others, and says what it has left in MPI. False with it if
        this world is of no use any more."""
        from holdfast import pool

        MPI = sys.modules["mpi4py.MPI"]
        if not MPI.Is_initialized() or MPI.Is_finalized():
            return [], False
        given, self._given = self._given, []
        if self._own is None:
            self._own = self.world().Dup()
        pool.wait_for_all(self._own)
        left, clean = pool.leftovers(self.world(), given)
        for communicator in given:
            _forget(communicator)
        return left, clean

    def free(self, communicator: Any) -> None:
        """Not where the test has done so, or has ended MPI itself. Freeing is no business of the other ranks here."""
        from mpi4py import MPI

        if MPI.Is_initialized() and not MPI.Is_finalized() and communicator != MPI.COMM_NULL:
            if self._keeps:
                self._given.append(communicator)
            else:
                _forget(communicator)

    def finalise(self) -> None:
        """After a test that has ended well on this rank; waits for the others, which the engine ends where one has failed."""
        MPI = sys.modules.get("mpi4py.MPI")
        if MPI is not None and os.getpid() == self.pid and MPI.Is_initialized() and not MPI.Is_finalized():
            _keep_components()
            MPI.Finalize()


def _keep_components() -> None:
    """Open MPI and PMIx unload their components in MPI_Finalize, while a thread of theirs may still be in the code of one: a rank in
    two hundred died of that where CPUs were short. What is opened once more in this way is never unloaded."""
    with open("/proc/self/maps", encoding="utf-8", errors="replace") as maps:
        paths = {line.split(None, 5)[-1].rstrip() for line in maps if "mca_" in line.rpartition("/")[2]}
    for path in paths:
        with contextlib.suppress(OSError):
            ctypes.CDLL(path, mode=os.RTLD_NOLOAD | os.RTLD_NODELETE | os.RTLD_LAZY)


def _let_threads_settle() -> None:
    """Open MPI's MPI_Init tells PMIx which programming model is used; PMIx's thread tells Open MPI's, which tells PMIx's that it has
    heard. Where CPUs are short that can still be on its way in MPI_Finalize, which frees what the last step needs: one rank in two
    hundred hung there. So the threads have to be found asleep, all of them, without one having run in between."""
    deadline = time.monotonic() + _SETTLES
    before = None
    while time.monotonic() < deadline:
        now = _others()
        awake = any(state != "S" for state, _ in now.values())
        if not awake and now == before:
            return
        before = now
        if awake:
            time.sleep(0.0002)


def _others() -> dict[str, tuple[str, str]]:
    """All threads but the first, which calls: in what state each is, and how often it has gone to sleep."""
    return {thread: _sleep_of(thread) for thread in os.listdir("/proc/self/task") if int(thread) != os.getpid()}


def _sleep_of(thread: str) -> tuple[str, str]:
    """proc(5): State, voluntary_ctxt_switches."""
    try:
        with open(f"/proc/self/task/{thread}/status", encoding="ascii", errors="replace") as status:
            fields = dict(line.split(":", 1) for line in status if line.startswith(("State", "voluntary_ctxt")))
    except OSError:
        return "S", ""  # It has ended.
    return fields["State"].split()[0], fields["voluntary_ctxt_switches"].strip()


def _send_at_once(descriptors: set[str]) -> None:
    """PMIx writes a message's head and body one after the other. Nagle's algorithm holds the second back until the first is
    acknowledged, which the other side delays by 40 ms: half of what a rank's life takes."""
    for number in map(int, descriptors):
        try:
            with socket.socket(fileno=os.dup(number)) as copy:
                if copy.family in (socket.AF_INET, socket.AF_INET6) and copy.type == socket.SOCK_STREAM:
                    copy.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError:
            pass  # It is no socket.


def _thread_level(MPI: Any) -> Any:
    """What mpi4py would ask for, which the suite may have set."""
    import mpi4py

    rc = mpi4py.rc
    if not getattr(rc, "threads", True):
        return MPI.THREAD_SINGLE
    return getattr(MPI, f"THREAD_{str(getattr(rc, 'thread_level', 'multiple')).upper()}")


def _forget(communicator: Any) -> None:
    """MPI_Comm_free waits for nobody in the libraries that we know, and MPI_Finalize frees what is left."""
    try:
        communicator.Free()
    except Exception as problem:
        warnings.warn(f"the test's communicator could not be freed: {problem}", stacklevel=2)


def enter(order: Frame, fds: list[int], library: str = "") -> Rank:
    """`library`: of the program that it is to run, as MPI_Get_library_version says it; empty for a test of Python."""
    global _process
    _process = Rank(order, fds, library)
    return _process


def of_this_process() -> Optional[Rank]:
    return _process
