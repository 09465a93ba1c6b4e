"""What CTest tells a test with RESOURCE_GROUPS of the devices that it has (ctest(1), "Resource allocation")."""

from __future__ import annotations

from holdfast.targets.model import GPUS, Test


def resources_for(test: Test, devices: str) -> dict[str, str]:
    """`devices`: those of its lease, as CUDA_VISIBLE_DEVICES. Each requirement of GPUs gets one of its own, with all its slots; other
    resources are not known here, and not told."""
    if not test.resource_groups:
        return {}
    ids = iter(devices.split(",") if devices else ())
    found = {"CTEST_RESOURCE_GROUP_COUNT": str(len(test.resource_groups))}
    for number, group in enumerate(test.resource_groups):
        given = [f"id:{device},slots:{slots}" for kind, slots in group if kind == GPUS and (device := next(ids, ""))]
        found[f"CTEST_RESOURCE_GROUP_{number}"] = GPUS if given else ""
        if given:
            found[f"CTEST_RESOURCE_GROUP_{number}_{GPUS.upper()}"] = ";".join(given)
    return found
