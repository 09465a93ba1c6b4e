"""Two real kubelets, with containerd, runc and kube-proxy, below a real control plane: in name spaces of their own, from which nothing
can leave and whose end is theirs. Needs root, Debian's containerd, runc, containernetworking-plugins and iptables, and control groups
of version 1."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from control_plane import PROGRAMS, ControlPlane
from control_plane import missing as missing_plane

_START = 90.0  # Seconds.
_NEWNET = 0x40000000  # CLONE_NEWNET of linux/sched.h.
_CGROUPS = Path("/sys/fs/cgroup")
_OWN = "10.99.0.1"
_SERVICES = "10.96.7"
# Process 1 of the name space: whoever loses its parent there is waited for here.
_INIT = """
import os, signal
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
while True:
    signal.sigtimedwait({signal.SIGCHLD}, 60)
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass
"""


def missing() -> str:
    """Why there are none; empty where there can be."""
    if why := missing_plane():
        return why
    if os.geteuid() != 0:
        return "real kubelets need root"
    absent = [name for name in ("kubelet", "kube-proxy") if not (PROGRAMS / name).exists()]
    absent += [name for name in ("containerd", "ctr", "runc", "iptables", "nsenter", "unshare") if shutil.which(name) is None]
    absent += [] if Path("/usr/lib/cni/bridge").exists() else ["containernetworking-plugins"]
    if absent:
        return f"real kubelets need {', '.join(absent)} (tools/kubernetes.sh, and Debian's packages)"
    if not (_CGROUPS / "cpuset" / "cpuset.cpus").exists():
        return "real kubelets were tried with control groups of version 1 only, which this machine has not"
    return _missing_rights()


def _missing_rights() -> str:
    """What a container that only looks like a machine may not do."""
    with tempfile.TemporaryDirectory(prefix="holdfast-kubelets-") as folder:
        for name in ("upper", "work", "merged"):
            Path(folder, name).mkdir()
        overlay = f"lowerdir=/var,upperdir={folder}/upper,workdir={folder}/work"
        trial = ["ip link add br0 type bridge", "iptables -t nat -L -n", f"mount -t overlay -o {overlay} overlay {folder}/merged"]
        words = ["unshare", "--net", "--mount", "--pid", "--fork", "--mount-proc", "sh", "-ec", "\n".join(trial)]
        done = subprocess.run(words, capture_output=True, text=True, timeout=_START)
    return f"real kubelets need name spaces, a bridge, iptables and overlays: {done.stderr.strip()}" if done.returncode != 0 else ""


class Kubelets:
    """`running()` is the way to use it. `kubeconfig` leads to the API server, through a port of this machine's loopback."""

    def __init__(self, folder: Path, names: tuple[str, ...] = ("node-1", "node-2")) -> None:
        self.folder = folder
        self.names = names
        self.kubeconfig = folder / "plane" / "pki" / "outside.kubeconfig"
        self.inside: list[str] = []
        self._tag = f"hf-kubelets-{os.getpid()}"
        self._pids: dict[str, int] = {}
        self._nodes: dict[str, list[str]] = {}  # What leads into each.
        self._stack = contextlib.ExitStack()
        self.plane: ControlPlane

    @contextlib.contextmanager
    def running(self, images: list[Path]) -> Iterator[Kubelets]:
        """`images`: archives that each node has."""
        with self._stack:
            self._make_space()
            (self.folder / "plane").mkdir()
            self.plane = ControlPlane(self.folder / "plane", inside=self.inside, address=_OWN, services=_SERVICES)
            self._certify()
            port = self._stack.enter_context(_door(self._init, (_OWN, self.plane.port)))
            self.plane.reached = f"https://127.0.0.1:{port}"
            self._stack.enter_context(self.plane.running())
            self._write_kubeconfig()
            self._run("kube-proxy", [str(PROGRAMS / "kube-proxy"), *self._proxy_words()], self.inside)
            for number, name in enumerate(self.names, 1):
                self._begin_node(number, name, images)
            yield self

    # ---- the name spaces

    def _make_space(self) -> None:
        """With process 1 of it everything in it ends, and that ends with this process, whatever ends that."""
        words = ["setpriv", "--pdeathsig", "KILL", "unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
        holder = subprocess.Popen([*words, "--propagation", "private", sys.executable, "-c", _INIT], stdin=subprocess.DEVNULL)
        self._stack.callback(self._end, holder)
        self._init = _child_of(holder.pid)
        self.inside = ["nsenter", f"--target={self._init}", "--net", "--mount", "--pid"]
        addresses = [_OWN, *(self._address(number) for number, _ in enumerate(self.names, 1))]
        lines = ["ip link set lo up", "ip link add br0 type bridge", *(f"ip addr add {one}/24 dev br0" for one in addresses)]
        lines += ["ip link set br0 up", f"ip route add default via {_OWN} dev br0", "echo 1 > /proc/sys/net/ipv4/ip_forward"]
        self._shell(self.inside, lines)

    @staticmethod
    def _address(number: int) -> str:
        return f"10.99.0.{10 + number}"

    @staticmethod
    def _shell(where: list[str], lines: list[str]) -> None:
        done = subprocess.run([*where, "sh", "-ec", "\n".join(lines)], capture_output=True, text=True, timeout=_START)
        assert done.returncode == 0, done

    def _end(self, holder: subprocess.Popen[bytes]) -> None:
        holder.kill()
        holder.wait(_START)
        deadline = time.monotonic() + _START
        while groups := [group for group in _CGROUPS.glob(f"*/{self._tag}*") if group.is_dir()]:
            for group in groups:
                _remove_group(group)
            assert time.monotonic() < deadline, groups
            time.sleep(0.05)

    # ---- the programs

    def _run(self, name: str, command: list[str], where: list[str]) -> int:
        """Its process, as this machine counts."""
        with (self.folder / f"{name}.log").open("ab") as log:
            starter = subprocess.Popen([*where, *command], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self._stack.callback(starter.wait, _START)
        self._stack.callback(starter.kill)
        pid = _child_of(starter.pid)
        self._pids[name] = pid
        return pid

    def _certify(self) -> None:
        sign = self.plane.certificates.sign
        for number, name in enumerate(self.names, 1):
            sign(name, f"/O=system:nodes/CN=system:node:{name}", f"DNS:{name},IP:{self._address(number)}")

    def _write_kubeconfig(self) -> None:
        said = json.loads((self.plane.certificates.folder / "admin.kubeconfig").read_text())
        said["clusters"][0]["cluster"]["server"] = self.plane.reached
        self.kubeconfig.write_text(json.dumps(said))

    def _proxy_words(self) -> list[str]:
        return [
            f"--kubeconfig={self.plane.kubeconfig}",
            "--proxy-mode=iptables",
            "--cluster-cidr=10.98.0.0/16",
            "--masquerade-all",
            f"--hostname-override={self.names[0]}",
            "--conntrack-max-per-core=0",
            "--conntrack-min=0",
            "--conntrack-tcp-timeout-established=0",
            "--conntrack-tcp-timeout-close-wait=0",
        ]

    # ---- a node

    def _begin_node(self, number: int, name: str, images: list[Path]) -> None:
        """In a mount name space of its own, so that it has files of its own."""
        own = self.folder / name
        for folder in ("run", "var", "work", "cni", "containerd", "kubelet"):
            (own / folder).mkdir(parents=True)
        (own / "cni" / "10.conflist").write_text(json.dumps(_network(number, own)))
        (own / "containerd.toml").write_text(_containerd(own))
        (own / "kubelet.json").write_text(json.dumps(self._kubelet(number, name)))
        (own / "resolv.conf").write_text("nameserver 127.0.0.1\n")
        self._make_groups(name)
        var = f"lowerdir=/var,upperdir={own / 'var'},workdir={own / 'work'}"
        mounts = ["mount --make-rshared /", f"mount -t overlay -o {var} overlay /var", f"mount --bind {own / 'run'} /run"]
        # Asked at once, nobody answers at once: an image that is not there is said to be missing without a wait.
        mounts.append(f"mount --bind {own / 'resolv.conf'} /etc/resolv.conf")
        script = "\n".join([*mounts, f"exec containerd --config {own / 'containerd.toml'}"])
        pid = self._run(f"containerd-{name}", ["unshare", "--mount", "--propagation", "private", "sh", "-ec", script], self.inside)
        self._wait(own / "run" / "containerd.sock", f"containerd-{name}")
        where = ["nsenter", f"--target={pid}", "--net", "--mount", "--pid"]
        for image in images:
            self._shell(where, [f"ctr -a /run/containerd.sock -n k8s.io images import {image}"])
        self._nodes[name] = where
        self.begin_kubelet(name)

    def begin_kubelet(self, name: str) -> None:
        number = self.names.index(name) + 1
        words = [
            f"--config={self.folder / name / 'kubelet.json'}",
            f"--kubeconfig={self.plane.certificates.folder / name}.kubeconfig",
            f"--hostname-override={name}",
            f"--root-dir={self.folder / name / 'kubelet'}",
            f"--node-ip={self._address(number)}",
        ]
        self._run(f"kubelet-{name}", [str(PROGRAMS / "kubelet"), *words], self._nodes[name])

    def kill_kubelet(self, name: str) -> None:
        """Its containers go on; the node gives no sign of life any more."""
        os.kill(self._pids[f"kubelet-{name}"], 9)

    def _wait(self, path: Path, what: str) -> None:
        deadline = time.monotonic() + _START
        while not path.exists():
            assert time.monotonic() < deadline, (self.folder / f"{what}.log").read_text(errors="replace")[-3000:]
            time.sleep(0.05)

    def _make_groups(self, name: str) -> None:
        """Those of a run that was killed are empty, and go here."""
        for group in _CGROUPS.glob("*/hf-kubelets-*"):
            if not Path("/proc", group.name.split("-")[2]).exists():
                _remove_group(group)
        for controller in _CGROUPS.iterdir():
            if (controller / "cgroup.procs").exists() and controller.name != "unified":
                (controller / f"{self._tag}-{name}").mkdir()
        for file in ("cpuset.cpus", "cpuset.mems"):
            (_CGROUPS / "cpuset" / f"{self._tag}-{name}" / file).write_text((_CGROUPS / "cpuset" / file).read_text())

    def _kubelet(self, number: int, name: str) -> dict[str, object]:
        pki = self.plane.certificates.folder
        return {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "address": self._address(number),
            "port": 10250,
            "healthzPort": 10248 + number * 100,
            "readOnlyPort": 0,
            "authentication": {
                "anonymous": {"enabled": False},
                "webhook": {"enabled": True},
                "x509": {"clientCAFile": str(pki / "ca.crt")},
            },
            "authorization": {"mode": "Webhook"},
            "tlsCertFile": str(pki / f"{name}.crt"),
            "tlsPrivateKeyFile": str(pki / f"{name}.key"),
            "containerRuntimeEndpoint": "unix:///run/containerd.sock",
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": f"/{self._tag}-{name}",
            "cgroupsPerQOS": True,
            "enforceNodeAllocatable": ["pods"],
            "failSwapOn": False,
            "failCgroupV1": False,
            "staticPodPath": "",
            "resolvConf": str(self.folder / name / "resolv.conf"),
            "clusterDNS": ["10.96.7.10"],
            "clusterDomain": "cluster.local",
            "nodeStatusUpdateFrequency": "2s",
            "nodeLeaseDurationSeconds": 10,
            "syncFrequency": "10s",
            "imageGCHighThresholdPercent": 100,
            "evictionHard": {"memory.available": "100Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
            "registerNode": True,
            "kernelMemcgNotification": False,
            "maxPods": 30,
        }


def _network(number: int, own: Path) -> dict[str, object]:
    addresses = {"type": "host-local", "dataDir": str(own / "addresses"), "ranges": [[{"subnet": f"10.98.{number}.0/24"}]]}
    plugin = {
        "type": "bridge",
        "bridge": f"cni{number}",
        "isGateway": True,
        "ipMasq": False,
        "hairpinMode": True,
        "ipam": {**addresses, "routes": [{"dst": "0.0.0.0/0"}]},
    }
    return {"cniVersion": "0.4.0", "name": f"n{number}", "plugins": [plugin]}


def _containerd(own: Path) -> str:
    # restrict_oom_score_adj: without CAP_SYS_RESOURCE runc could not lower it, and no container would begin.
    return f"""
version = 2
root = "{own / "containerd"}"
state = "/run/containerd"
[grpc]
  address = "/run/containerd.sock"
[ttrpc]
  address = "/run/containerd.ttrpc"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "docker.io/library/holdfast-pause:local"
  netns_mounts_under_state_dir = true
  restrict_oom_score_adj = true
  stream_server_address = "127.0.0.1"
  stream_server_port = "0"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "{own / "cni"}"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    default_runtime_name = "runc"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false
[plugins."io.containerd.internal.v1.opt"]
  path = "{own / "opt"}"
"""


def _remove_group(group: Path) -> None:
    for folder, _, _ in os.walk(group, topdown=False):
        with contextlib.suppress(OSError):  # Its processes are on their way.
            os.rmdir(folder)


def _child_of(pid: int) -> int:
    """Of unshare and nsenter, which fork to be in a name space for processes."""
    deadline = time.monotonic() + _START
    path = Path(f"/proc/{pid}/task/{pid}/children")
    while not (found := path.read_text().split()):
        assert time.monotonic() < deadline, pid
        time.sleep(0.01)
    return int(found[0])


@contextlib.contextmanager
def _door(inside: int, to: tuple[str, int]) -> Iterator[int]:
    """A port of this machine's loopback that leads to an address in the network name space of a process."""
    server = socket.create_server(("127.0.0.1", 0))
    loop = asyncio.new_event_loop()
    ending = asyncio.Event()

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(1 << 16):
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection(*to)
        except OSError:
            writer.close()
            return
        await asyncio.gather(pump(reader, far_writer), pump(far_reader, writer))

    async def forward() -> None:
        door = await asyncio.start_server(serve, sock=server)
        await ending.wait()
        door.close()
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()

    def run() -> None:
        # Only this thread's: what it opens from now on is in there, what was opened before stays outside.
        with open(f"/proc/{inside}/ns/net") as space:
            assert ctypes.CDLL(None, use_errno=True).setns(space.fileno(), _NEWNET) == 0, os.strerror(ctypes.get_errno())
        asyncio.set_event_loop(loop)
        loop.run_until_complete(forward())
        loop.close()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield int(server.getsockname()[1])
    finally:
        loop.call_soon_threadsafe(ending.set)
        thread.join(_START)
