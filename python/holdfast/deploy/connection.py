"""A thread that talks to a cluster: its objects as they are now, and waits for what they are to become.

A thread of its own, since tests block theirs (requests, time.sleep) also where they are coroutines, and what is seen must be fresh
then.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
import time
from collections.abc import Coroutine, Sequence
from typing import Any, Callable, Optional, TypeVar

from holdfast.deploy.api import Access, Api
from holdfast.deploy.errors import WaitFailed
from holdfast.deploy.informer import Informers
from holdfast.deploy.kinds import Kind

T = TypeVar("T")
_CLOSE = 30.0  # Seconds.


class Hopeless(Exception):
    """What is waited for cannot come any more; the text says why."""


# What a look finds: whether it has come, and what there is instead, in words.
Look = Callable[[], tuple[bool, str]]


class Connection:
    """begin() before anything else, close() at the end. `namespace`: objects that are in one are watched there alone."""

    def __init__(self, access: Access, kinds: Sequence[Kind], namespace: str) -> None:
        self.access = access
        self.api = Api(access)
        self._kinds, self._namespace = kinds, namespace
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="holdfast-cluster", daemon=True)
        self.seen: Informers
        self.begun = False

    def begin(self) -> None:
        """Raises ApiError, Unreachable."""
        self._thread.start()
        try:
            self.call(self._begin())
            self.begun = True
        except BaseException:
            self.close()
            raise

    async def _begin(self) -> None:
        await self.api.__aenter__()
        self.seen = Informers(self.api, self._kinds, self._namespace)
        await self.seen.begin()

    def close(self) -> None:
        if not self._thread.is_alive():
            return
        self.call(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_CLOSE)
        self._loop.close()

    async def _close(self) -> None:
        if hasattr(self, "seen"):
            await self.seen.close()
        await self.api.__aexit__(None, None, None)
        others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    # ---- into the thread

    def submit(self, work: Coroutine[Any, Any, T]) -> concurrent.futures.Future[T]:
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        """Blocks; RuntimeError in the thread itself, where it would block for good."""
        if threading.current_thread() is self._thread:
            work.close()
            raise RuntimeError("this blocks, so it cannot be asked within a wait's look")
        return self.submit(work).result()

    async def run(self, work: Coroutine[Any, Any, T]) -> T:
        """From a coroutine of another loop. Where that is cancelled, so is the work."""
        return await asyncio.wrap_future(self.submit(work))

    def ring(self) -> None:
        """From any thread: waits look again, since something has changed that is no object of the cluster."""
        self._loop.call_soon_threadsafe(self.seen.ring)

    # ---- waits, in the thread

    async def until(self, what: str, seconds: float, look: Look, *, hint: Optional[Callable[[], str]] = None) -> float:
        """Until `look` says that it has come. Returns the seconds that took. `look` may raise Hopeless. Raises WaitFailed; `hint` adds
        to what it says."""
        begun = time.monotonic()
        bell = self.seen.bell()
        last = ""

        def failed(hopeless: Optional[str]) -> WaitFailed:
            parts = [last, hint() if hint else "", f"what is seen may be old: {self.seen.problem}" if self.seen.problem else ""]
            return WaitFailed(what, seconds, "; ".join(part for part in parts if part), hopeless=hopeless)

        try:
            while True:
                bell.clear()
                came, last = look()
                passed = time.monotonic() - begun
                if came:
                    return passed
                if passed >= seconds:
                    raise failed(None)
                try:
                    await asyncio.wait_for(bell.wait(), seconds - passed)
                except asyncio.TimeoutError:
                    continue  # One last look.
        except Hopeless as hopeless:
            raise failed(str(hopeless)) from None
        finally:
            self.seen.silence(bell)
