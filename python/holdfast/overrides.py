"""What the project's file wants of single tests, as marks that count more than those in the code (project.py)."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from holdfast import options


def apply(config: pytest.Config, items: Sequence[pytest.Item]) -> None:
    """Later tables of the file count more. Raises pytest.UsageError."""
    project = options.project_of(config, config.option)
    if project is None or not project.tests:
        return
    for item in items:
        for override in project.tests:
            if not override.matches(item.nodeid):
                continue
            if override.keywords:
                item.add_marker(pytest.mark.holdfast(**override.keywords), append=False)
            if override.group:
                item.holdfast_group = override.group, project.groups[override.group]  # type: ignore[attr-defined]
            if override.ranks:
                if not hasattr(item, "holdfast_give_ranks"):
                    raise pytest.UsageError(
                        f"{project.path}: {override.title}: ranks are for programs (holdfast run), and {item.nodeid} is none; "
                        f"a test of Python has @holdfast.mark.parallel({override.ranks})"
                    )
                item.holdfast_give_ranks(override.ranks)
            if override.slow:
                item.holdfast_slow = override.slow  # type: ignore[attr-defined]
