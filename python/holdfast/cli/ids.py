"""A pytest plugin for `holdfast shard`: prints the collected ids exactly, whatever pytest's own listing looks like."""

from __future__ import annotations

import pytest


def pytest_terminal_summary(config: pytest.Config) -> None:
    session = config.stash.get(_SESSION, None)
    writer = config.get_terminal_writer()
    for item in session.items if session is not None else []:
        # pytest may call this hook inside a line.
        writer.line(f"holdfast-id {item.nodeid}")


_SESSION = pytest.StashKey[pytest.Session]()


def pytest_collection_finish(session: pytest.Session) -> None:
    session.config.stash[_SESSION] = session
