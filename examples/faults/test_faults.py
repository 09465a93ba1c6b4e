"""Does it survive a broken GPU? On a machine without one:

    pip install cuda-bindings
    holdfast simgpu --gpus 1x80GiB -- pytest --holdfast --hf-faults examples/faults

The same for the program alone:

    holdfast simgpu -- holdfast faults run --fault lost,after_calls=40 -- python examples/faults/trainer.py 100 state
"""

import subprocess
import sys
from pathlib import Path

import pytest

from holdfast.faults import gpu

pytest.importorskip("cuda.bindings.driver")
import trainer

PROGRAM = [sys.executable, str(Path(__file__).parent / "trainer.py"), "1000000"]


@pytest.mark.holdfast(faults="out_of_memory,times=2")
def test_goes_on_with_a_smaller_batch():
    trainer.start()
    assert [trainer.step(number) for number in range(2)] == [trainer.BATCH // 4, trainer.BATCH]


@pytest.mark.holdfast(faults="corrupt,functions=cuMemcpyDtoH,times=1")
def test_notices_what_came_back_wrong():
    trainer.start()
    with pytest.raises(ValueError, match="came back wrong"):
        trainer.step(7)


@pytest.mark.parametrize("fault", [gpu.lost, lambda: gpu.xid(48)], ids=["lost", "ecc"])
def test_writes_down_how_far_it_came_and_leaves(fault_lab, tmp_path, fault):
    worker = subprocess.Popen([*PROGRAM, str(tmp_path / "state")], env=fault_lab.environment(), stdout=subprocess.PIPE, text=True)
    fault_lab.wait_seen("cuMemFree", 10, seconds=20)  # It is at work.
    with fault() as armed:
        struck = armed.wait(20)
        out, _ = worker.communicate(timeout=20)
    assert worker.returncode == trainer.TRY_ELSEWHERE
    assert struck.first.pid == worker.pid
    assert int((tmp_path / "state").read_text()) >= 10
    assert "GPU failed after" in out
