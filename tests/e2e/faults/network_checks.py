"""Faults of the network, checked in a network of its own (`unshare --net`), so that no device and no packet is outside of the test.

unshare --net python network_checks.py ENGINE FOLDER NAME
"""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import socket
import subprocess
import sys
import time
from pathlib import Path

ENGINE, FOLDER, NAME = sys.argv[1], Path(sys.argv[2]), sys.argv[3]
FULL = f"hf-{NAME}"
NAMED = Path("/run/netns") / FULL
ECHO = """
import socket
server = socket.create_server(("0.0.0.0", 7000))
print("ready", flush=True)
while True:
    client = server.accept()[0]
    client.sendall(client.recv(100))
    client.close()
"""


def wait_for(condition):
    deadline = time.monotonic() + 20
    while not (found := condition()):
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.01)
    return found


class Service:
    def __init__(self):
        command = [ENGINE, "faultd", "--state", str(FOLDER), "--listen", "127.0.0.1:0", "--kernel-log", "none"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        line = ""
        while "token in" not in line:
            line = self.process.stdout.readline()
            assert line
        self.port = int(re.search(r":(\d+), token", line).group(1))
        self.token = (FOLDER / "token").read_text().strip()

    def call(self, method, path, body=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        data = json.dumps(body) if body is not None else None
        connection.request(method, f"/api/v1/faults{path}", data, {"Authorization": f"Bearer {self.token}"})
        answer = connection.getresponse()
        result = answer.status, json.loads(answer.read())
        connection.close()
        return result

    def inject(self, path, **body):
        status, answer = self.call("POST", f"/network/{path}", body)
        assert status == 200, answer
        return answer["fault_id"]

    def verify(self, fault):
        return self.call("POST", f"/{fault}/verify")[1]


def round_trip(address, timeout=10.0):
    """Seconds from the first packet to the last word; None if there is none."""
    begin = time.monotonic()
    with contextlib.suppress(OSError), socket.create_connection((address, 7000), timeout) as client:
        client.settimeout(timeout)
        client.sendall(b"hello")
        if client.recv(100) == b"hello":
            return time.monotonic() - begin
    return None


def check_faults(service):
    made = service.inject("namespace", name=NAME)
    said = service.verify(made)
    assert said["verified"] and said["evidence"]["namespace"] == FULL, said
    address = said["evidence"]["address"]
    # A process in there: the kernel's own way in, as ip-netns(8) goes.
    server = subprocess.Popen(["nsenter", f"--net={NAMED}", sys.executable, "-c", ECHO], stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout.readline() == "ready\n"
        assert round_trip(address) < 0.3
        # It has the way here, and no other.
        there = [
            "nsenter",
            f"--net={NAMED}",
            sys.executable,
            "-c",
            "import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM);",
        ]
        way = subprocess.run([*there[:-1], there[-1] + f"s.connect(('{said['evidence']['gateway']}', 9)); print(s.getsockname()[0])"],
                             capture_output=True, text=True, timeout=20, check=True)  # fmt: skip
        assert way.stdout.strip() == address

        late = service.inject("inject", namespace=NAME, delay=0.2)
        assert round_trip(address) >= 0.4  # At least a packet there and one back.
        assert service.verify(late)["verified"]
        status, answer = service.call("POST", "/network/inject", {"namespace": FULL, "loss": 0.5})
        assert status == 400 and "has a fault already" in answer["detail"]
        service.call("DELETE", f"/{late}")
        wait_for(lambda: (round_trip(address) or 9) < 0.2)

        cut = service.inject("inject", namespace=NAME, partition=True)
        assert not service.verify(cut)["verified"]  # Nothing has been sent so far.
        assert round_trip(address, timeout=0.5) is None
        said = service.verify(cut)
        assert said["verified"] and said["evidence"]["dropped"] > 0
        service.call("DELETE", f"/{cut}")
        assert round_trip(address) is not None

        lossy = service.inject("inject", namespace=NAME, loss=0.3, seed=7)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
            for _ in range(200):
                udp.sendto(b"x", (address, 9))
        dropped = wait_for(lambda: service.verify(lossy)["evidence"]["dropped"])
        wait_for(lambda: service.verify(lossy)["evidence"]["dropped"] >= 40)
        assert dropped <= 120
        assert service.call("POST", "/network/cleanup")[1] == {"recovered": [made, lossy], "count": 2}
        assert not NAMED.exists() and round_trip(address, timeout=0.5) is None
        assert service.call("POST", "/network/inject", {"namespace": NAME, "loss": 1})[0] == 404
    finally:
        server.kill()
        server.wait()


def check_ends(service):
    service.inject("namespace", name=NAME)
    status, answer = service.call("POST", "/network/namespace", {"name": NAME})
    assert status == 400 and "already" in answer["detail"]
    assert NAMED.exists()
    service.process.kill()
    service.process.wait()
    assert NAMED.exists()
    swept = subprocess.run([ENGINE, "sweep", "--state", str(FOLDER)], capture_output=True, text=True, timeout=60, check=True)
    assert f"the namespace {FULL} is removed" in swept.stdout and not NAMED.exists()
    again = Service()
    again.inject("namespace", name=NAME)
    again.process.terminate()
    assert again.process.wait(20) == 0 and not NAMED.exists()


if __name__ == "__main__":
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    service = Service()
    try:
        check_faults(service)
        check_ends(service)
    finally:
        service.process.kill()
        service.process.wait()
        # Where a check has failed, its namespace is there still.
        subprocess.run([ENGINE, "sweep", "--state", str(FOLDER)], stdout=subprocess.DEVNULL, timeout=60, check=True)
    print("checked")
