"""What the project's file wants of single tests, as marks that count more than those in the code (project.py)."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from holdfast import options


def apply(config: pytest.Config, items: Sequence[pytest.Item]) -> None:
    """Later tables of the file count more."""
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
            if override.slow:
                item.holdfast_slow = override.slow  # type: ignore[attr-defined]
