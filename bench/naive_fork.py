"""The floor that a process a test is measured against: fork, run the protocol, send the reports as JSON, exit; N at once.

    python -m pytest -p naive_fork --naive-slots=2 ...      (with bench/ on PYTHONPATH)

--naive-whole: with the hooks around the protocol (warnings filters of the marks, faulthandler, ...), as pytest's own loop and any
runner that changes no outcome has them. Without: setup, call and teardown alone.

No deadlines, no output kept, no ledger, no leak checks, nothing survives a crash: what any forking runner has to pay.
"""

from __future__ import annotations

import gc
import json
import os
import select

import pytest


def pytest_addoption(parser):
    parser.addoption("--naive-slots", type=int, default=2)
    parser.addoption("--naive-whole", action="store_true")


class Reports:
    def __init__(self):
        self.found = []

    def pytest_runtest_logreport(self, report):
        self.found.append(report)


def run_whole(item):
    reports = Reports()
    # Only this one: the terminal's own dots are the parent's.
    item.config.pluginmanager.unregister(name="terminalreporter")
    item.config.pluginmanager.register(reports)
    item.config.hook.pytest_runtest_protocol(item=item, nextitem=None)
    return reports.found


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session):
    if session.config.option.collectonly:
        return True
    from _pytest.runner import runtestprotocol

    config, hook = session.config, session.config.hook
    gc.collect()
    gc.freeze()
    waiting = list(reversed(session.items))
    running: dict[int, tuple[int, object, list[bytes]]] = {}

    def start():
        item = waiting.pop()
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                whole = config.option.naive_whole
                reports = run_whole(item) if whole else runtestprotocol(item, log=False, nextitem=None)
                data = [hook.pytest_report_to_serializable(config=config, report=r) for r in reports]
                with os.fdopen(writer, "wb") as out:
                    out.write(json.dumps(data, default=repr).encode())
            finally:
                os._exit(0)
        os.close(writer)
        running[reader] = (pid, item, [])

    while waiting or running:
        while waiting and len(running) < config.option.naive_slots:
            start()
        for fd in select.select(list(running), [], [])[0]:
            pid, item, chunks = running[fd]
            chunk = os.read(fd, 1 << 16)
            if chunk:
                chunks.append(chunk)
                continue
            os.close(fd)
            os.waitpid(pid, 0)
            del running[fd]
            hook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
            for data in json.loads(b"".join(chunks) or b"[]"):
                hook.pytest_runtest_logreport(report=hook.pytest_report_from_serializable(config=config, data=data))
            hook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True
