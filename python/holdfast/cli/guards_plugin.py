"""The pytest plugin of `holdfast check-guards`: prints what is wrong, a marked line each, and at last a summary."""

from __future__ import annotations

import os

import pytest

from holdfast import guards


@pytest.hookimpl(trylast=True)
def pytest_collection_finish(session: pytest.Session) -> None:
    config = session.config
    wanted = [name for name in os.environ.get("HOLDFAST_CHECK_GUARDS", "").split("\n") if name]
    found = guards.problems(config, session.items, wanted) + guards.without_tests(config, session.items)
    entries = guards.table(config)
    guarded = sum(guards.guard_of(entries, item) is not None for item in session.items)
    found.append(f"{len(entries)} guard(s), {guarded} of {len(session.items)} tests below them, {len(found)} problem(s)")
    # Past the capture.
    with os.fdopen(os.dup(1), "w") as out:
        reporter = config.pluginmanager.get_plugin("terminalreporter")
        if reporter is not None:
            reporter._tw._file.flush()
        for line in found:
            out.write(f"\nholdfast-guards: {line}")
        out.write("\n")
