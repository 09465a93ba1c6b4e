"""PyTorch's tests on a real GPU: leases, scopes, failures of CUDA and faults, as its users meet them."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from gpu_places import real_gpu

HEAD = """
import os, subprocess, sys, pytest, torch
def gpus(*args, **kwargs): return pytest.mark.holdfast(*args, **kwargs)
def times(n): return pytest.mark.parametrize("i", range(n))
"""


@pytest.fixture(autouse=True)
def _torch() -> None:
    if subprocess.run([sys.executable, "-c", "import torch"], capture_output=True, timeout=120, check=False).returncode != 0:
        pytest.skip("NOT RUN: PyTorch is not installed")
    real_gpu()


SUITE = (
    HEAD
    + """
@pytest.fixture(scope="module")
def model():
    return torch.nn.Linear(64, 64).cuda(), os.getpid()
@gpus(gpus=1)
@times(3)
def test_scope(model, i):
    assert os.getpid() == model[1]
    assert model[0](torch.ones(8, 64, device="cuda")).shape == (8, 64)
@gpus(gpus=1)
@times(3)
def test_product(i):
    a = torch.randn(1024, 1024, device="cuda")
    torch.testing.assert_close(a @ torch.eye(1024, device="cuda"), a, rtol=1e-2, atol=1e-2)
@gpus(vram="20GiB")
def test_part(): torch.empty(10 << 30, dtype=torch.uint8, device="cuda")
@gpus(gpus=0)
def test_none(): assert not torch.cuda.is_available()
def test_plain(): assert torch.ones(3).sum() == 3
@gpus(gpus=1)
def test_too_much(): torch.empty(1 << 40, dtype=torch.uint8, device="cuda")
@gpus(gpus=1)
def test_index():
    torch.zeros(4, device="cuda")[torch.tensor([99], device="cuda")]
    torch.cuda.synchronize()
@gpus(gpus=1)
def test_after_the_index(): assert torch.ones(3, device="cuda").sum() == 3
@gpus(gpus=1)
def test_crash():
    torch.ones(1 << 28, device="cuda")
    os.kill(os.getpid(), 11)
@gpus(gpus=1)
@pytest.mark.timeout(10)
def test_hangs(): torch.cuda._sleep(1 << 40); torch.cuda.synchronize()
@gpus(gpus=1)
def test_loader():
    data = torch.utils.data.DataLoader(torch.arange(64.0), batch_size=8, num_workers=2, pin_memory=True)
    assert sum(batch.cuda().sum() for batch in data) == 2016
"""
)


@pytest.mark.parametrize("isolation", ["test", "worker", "module"])
def test_a_suite_of_pytorch_ends_as_declared(suite, isolation):
    suite.write(test_torch=SUITE)
    run = suite.run("--hf-slots=2", f"--hf-isolate={isolation}")
    verdicts = run.short()
    wanted = {"test_too_much": "failed", "test_index": "failed", "test_crash": "crashed", "test_hangs": "timeout"}
    assert {name: verdict for name, verdict in verdicts.items() if verdict != "passed"} == wanted, run.output
    assert len(verdicts) == 15
    assert "out of use" not in run.output
    if isolation == "test":
        assert "does not survive a fork" in run.output


def test_what_pytorch_had_is_what_is_measured(suite):
    suite.write(
        test_torch=HEAD
        + "import time\n@gpus(gpus=1)\ndef test():\n    held = torch.empty(20 << 30, dtype=torch.uint8, device='cuda')\n    time.sleep(1)\n"
    )
    run = suite.run()
    (used,) = [event["usage"]["vram"] for event in run.events if event["event"] == "verdict"]
    assert 20 << 30 < used < 22 << 30


FAULTS = (
    HEAD
    + """
@pytest.mark.holdfast(gpus=1, faults="lost,after_calls=20")
def test_lost():
    with pytest.raises(RuntimeError, match="CUDA error|AcceleratorError"):
        for _ in range(1000): torch.ones(3, device="cuda").sum().item()
@pytest.mark.holdfast(gpus=1, faults="out_of_memory")
def test_oom():
    with pytest.raises(torch.OutOfMemoryError): torch.empty(1 << 30, dtype=torch.uint8, device="cuda")
@pytest.mark.holdfast(gpus=1, faults="xid=94,after_calls=20")
def test_ecc():
    with pytest.raises(RuntimeError, match="uncorrectable ECC error"):
        for _ in range(1000): torch.ones(3, device="cuda").sum().item()
@pytest.mark.holdfast(gpus=1, faults="error=719,functions=launch")
def test_launch():
    with pytest.raises(RuntimeError, match="unspecified launch failure"):
        torch.ones(3, device="cuda").sum().item()
@pytest.mark.holdfast(gpus=1)
def test_after(): assert torch.ones(3, device="cuda").sum() == 3
"""
)


def test_faults_reach_pytorch(suite):
    suite.write(test_faults=FAULTS)
    run = suite.run("--hf-faults", "--hf-slots=1")
    assert set(run.verdicts.values()) == {"passed"}, run.output


def test_the_command_for_faults_breaks_a_program_of_pytorch(tmp_path):
    program = "import torch\nfor _ in range(1000): torch.ones(3, device='cuda').sum().item()\n"
    done = subprocess.run(
        [sys.executable, "-m", "holdfast", "faults", "run", "--fault", "lost,device=0,after_calls=100", "--", sys.executable, "-c", program],
        env=dict(os.environ), cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    assert "GPU lost (XID 79)" in done.stderr + done.stdout and "CUDA error" in done.stderr
