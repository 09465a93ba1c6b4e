"""A real control plane of Kubernetes on this machine's loopback: etcd, kube-apiserver, kube-controller-manager and kube-scheduler, with
certificates made for it. Its programs are built by tools/kubernetes.sh."""

from __future__ import annotations

import contextlib
import json
import os
import random
import socket
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path

VERSION = "1.34.4"
PROGRAMS = Path(
    os.environ.get("HOLDFAST_KUBERNETES")
    or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "holdfast" / f"kubernetes-{VERSION}" / "bin"
)
NEEDED = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler")
_START = 90.0  # Seconds.


def missing() -> str:
    """Why there is none; empty where there can be one."""
    absent = [name for name in NEEDED if not (PROGRAMS / name).exists()]
    return (
        f"a real control plane needs {', '.join(absent)} in {PROGRAMS}; tools/kubernetes.sh builds them (Go, 5 to 16 minutes)"
        if absent
        else ""
    )


class Certificates:
    """One authority, and what it has signed: `<name>.crt`, `<name>.key`, `<name>.kubeconfig`."""

    def __init__(self, folder: Path, server: str) -> None:
        self.folder, self.server = folder, server
        folder.mkdir()
        self._key("ca")
        self._openssl("req", "-x509", "-new", "-key", "ca.key", "-subj", "/CN=test-ca", "-days", "2", "-out", "ca.crt")
        self._openssl("genrsa", "-out", "sa.key", "2048")
        self._openssl("rsa", "-in", "sa.key", "-pubout", "-out", "sa.pub")

    def _openssl(self, *words: str) -> None:
        subprocess.run(["openssl", *words], cwd=self.folder, check=True, capture_output=True, timeout=_START)

    def _key(self, name: str) -> None:
        self._openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", f"{name}.key")

    def sign(self, name: str, subject: str, names: str = "") -> None:
        self._key(name)
        self._openssl("req", "-new", "-key", f"{name}.key", "-subj", subject, "-out", f"{name}.csr")
        lines = ["keyUsage=digitalSignature,keyEncipherment", "extendedKeyUsage=serverAuth,clientAuth"]
        (self.folder / f"{name}.ext").write_text("\n".join([*lines, *([f"subjectAltName={names}"] if names else [])]))
        signing = ("-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", f"{name}.ext")
        self._openssl("x509", "-req", "-in", f"{name}.csr", *signing, "-out", f"{name}.crt")
        user = {"client-certificate": str(self.folder / f"{name}.crt"), "client-key": str(self.folder / f"{name}.key")}
        self.kubeconfig(name, user)

    def kubeconfig(self, name: str, user: dict[str, str]) -> Path:
        cluster = {"server": self.server, "certificate-authority": str(self.folder / "ca.crt")}
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "t", "cluster": cluster}],
            "users": [{"name": "u", "user": user}],
            "contexts": [{"name": "t", "context": {"cluster": "t", "user": "u"}}],
            "current-context": "t",
        }
        path = self.folder / f"{name}.kubeconfig"
        path.write_text(json.dumps(config))  # Which is YAML, too.
        return path


class ControlPlane:
    """`inside`: the words before a command that is to run where its nodes are, `address` its own there, `services` the range (/24) of
    the addresses that services get. Otherwise those of this machine, below those that local clusters take for their pods."""

    def __init__(self, folder: Path, *, inside: Sequence[str] = (), address: str = "127.0.0.1", services: str = "") -> None:
        self.folder = folder
        self.address = address
        self._inside = inside
        self._etcd, self._peer, self.port, self._managers, self._scheduler = _free_ports(5)
        self.services = services or f"127.{random.randint(1, 15)}.{random.randint(1, 250)}"
        self.server = f"https://127.0.0.1:{self.port}"
        self.reached = self.server  # From where the tests are.
        self.certificates = Certificates(folder / "pki", self.server)
        self.kubeconfig = folder / "pki" / "admin.kubeconfig"

    @contextlib.contextmanager
    def running(self) -> Iterator[ControlPlane]:
        sign = self.certificates.sign
        own = f"IP:127.0.0.1,IP:{self.address},IP:{self.services}.1"
        sign("apiserver", "/CN=kube-apiserver", f"DNS:localhost,DNS:kubernetes.default.svc,{own}")
        sign("kubelet-client", "/O=system:masters/CN=kube-apiserver-kubelet-client")
        sign("admin", "/O=system:masters/CN=admin")
        sign("kcm", "/CN=system:kube-controller-manager")
        sign("scheduler", "/CN=system:kube-scheduler")
        with contextlib.ExitStack() as stack:
            stack.enter_context(self._program("etcd", *self._etcd_words()))
            stack.enter_context(self._program("kube-apiserver", *self._api_words()))
            self._wait_for_api()
            stack.enter_context(self._program("kube-controller-manager", *self._manager_words()))
            stack.enter_context(self._program("kube-scheduler", *self._words_of("scheduler", self._scheduler)))
            yield self

    @contextlib.contextmanager
    def _program(self, name: str, *words: str) -> Iterator[None]:
        """Ends with this process, whatever ends that."""
        with (self.folder / f"{name}.log").open("wb") as log:
            process = subprocess.Popen(
                [*self._inside, "setpriv", "--pdeathsig", "KILL", str(PROGRAMS / name), *words],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        try:
            yield
        finally:
            process.kill()
            process.wait(_START)

    def _etcd_words(self) -> list[str]:
        own, peer = f"http://127.0.0.1:{self._etcd}", f"http://127.0.0.1:{self._peer}"
        return [
            f"--data-dir={self.folder / 'etcd'}",
            "--unsafe-no-fsync",
            f"--listen-client-urls={own}",
            f"--advertise-client-urls={own}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=default={peer}",
        ]

    def _api_words(self) -> list[str]:
        pki = self.folder / "pki"
        return [
            f"--etcd-servers=http://127.0.0.1:{self._etcd}",
            f"--bind-address={'127.0.0.1' if self.address == '127.0.0.1' else '0.0.0.0'}",
            f"--secure-port={self.port}",
            f"--advertise-address={self.address}",
            # A loopback address is none that it would write down as the endpoint of the service "kubernetes".
            f"--endpoint-reconciler-type={'none' if self.address == '127.0.0.1' else 'master-count'}",
            f"--tls-cert-file={pki / 'apiserver.crt'}",
            f"--tls-private-key-file={pki / 'apiserver.key'}",
            f"--client-ca-file={pki / 'ca.crt'}",
            "--authorization-mode=Node,RBAC",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={pki / 'sa.pub'}",
            f"--service-account-signing-key-file={pki / 'sa.key'}",
            f"--service-cluster-ip-range={self.services}.0/24",
            f"--kubelet-client-certificate={pki / 'kubelet-client.crt'}",
            f"--kubelet-client-key={pki / 'kubelet-client.key'}",
            "--kubelet-preferred-address-types=InternalIP",
            "--default-not-ready-toleration-seconds=5",
            "--default-unreachable-toleration-seconds=5",
            "--allow-privileged=true",
        ]

    def _words_of(self, who: str, port: int) -> list[str]:
        config = self.folder / "pki" / f"{who}.kubeconfig"
        names = ("kubeconfig", "authentication-kubeconfig", "authorization-kubeconfig")
        return [*(f"--{name}={config}" for name in names), "--bind-address=127.0.0.1", f"--secure-port={port}", "--leader-elect=false"]

    def _manager_words(self) -> list[str]:
        pki = self.folder / "pki"
        return [
            *self._words_of("kcm", self._managers),
            "--use-service-account-credentials",
            f"--service-account-private-key-file={pki / 'sa.key'}",
            f"--root-ca-file={pki / 'ca.crt'}",
            "--node-monitor-grace-period=10s",
            "--node-monitor-period=2s",
        ]

    def _wait_for_api(self) -> None:
        pki = self.folder / "pki"
        context = ssl.create_default_context(cafile=str(pki / "ca.crt"))
        context.load_cert_chain(str(pki / "admin.crt"), str(pki / "admin.key"))
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        deadline = time.monotonic() + _START
        while True:
            try:
                with urllib.request.urlopen(f"{self.reached}/readyz", timeout=5, context=context) as answer:
                    if answer.read() == b"ok":
                        return
            except (OSError, urllib.error.URLError):
                pass
            if time.monotonic() > deadline:
                raise AssertionError((self.folder / "kube-apiserver.log").read_text(errors="replace")[-3000:])
            time.sleep(0.1)


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports
