"""Scenarios: what happens to a deployment, and what must be so afterwards, is in a file; a report of each is in tmp_path.

    pytest examples/hw_faults/test_scenarios.py --enable-hw-faults

The same files without pytest: holdfast deploy scenario examples/hw_faults/scenarios/*.yaml
"""

import asyncio
from pathlib import Path

import pytest

from holdfast.deploy.scenario import run_scenario

FILES = sorted((Path(__file__).parent / "scenarios").glob("*.yaml"))


@pytest.mark.parametrize("file", FILES, ids=[file.stem for file in FILES])
def test_scenario(file, tmp_path, hw_fault_config, namespace, hw_fault_backend):
    if hw_fault_backend != "vllm":
        pytest.skip("the scenarios are about the services of the vLLM specification")
    asyncio.run(run_scenario(file, namespace, tmp_path / "report"))
