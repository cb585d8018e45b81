"""Watching the rules and models of this host: telling, once, when they have changed and come to rest.

The kernel's notice (inotify, behind `watchfiles`) only wakes the watch early. What counts is the signature of the
files, looked at every SCAN_S: so a directory that was removed and comes back, a mount, a network file system and a
notice that died are seen as well, a second late at most. Files that are touched a thousand times a second are looked at
once they are quiet, or every RESTLESS_S; what the touching did not change is then not even compiled.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

from watchfiles import awatch

from decision_service.policies.source import Signature, Source

LOG = logging.getLogger("decision_service.policy")
SCAN_S: Final = 0.5
QUIET_S: Final = 0.1  # two signatures this far apart are equal: the save is over
RESTLESS_S: Final = 1.0  # files that are never quiet are looked at this often all the same
GROUPED_MS: Final = 200


class DiskWatch:
    """The watch over a source. `changed()` is awaited after every change; False from it means: ask again.
    `unchanged()` is called whenever nothing has changed."""

    def __init__(self, source: Source, changed: Callable[[], Awaitable[bool]], unchanged: Callable[[], None]) -> None:
        self._source = source
        self._changed = changed
        self._unchanged = unchanged
        self._wake = asyncio.Event()
        self._seen: Signature = ()

    async def start(self) -> None:
        """Remember what is there, before it is read for the first time."""
        self._seen = await self._signature()

    async def _signature(self) -> Signature:
        return await asyncio.to_thread(self._source.signature)

    async def scan(self) -> None:
        """Look for changes until cancelled."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(SCAN_S):  # wait_for of Python 3.11 loses a cancellation that meets the event
                    await self._wake.wait()
            self._wake.clear()
            try:
                await self._look()
            except Exception:  # the watch must outlive whatever it sees
                LOG.exception("could not look for changed policy files")

    async def _look(self) -> None:
        found = await self._signature()
        if found == self._seen:
            self._unchanged()
            return
        found = await self._quiet(found)
        if await self._changed():
            self._seen = found
        else:
            await asyncio.sleep(QUIET_S)
            self._wake.set()

    async def _quiet(self, found: Signature) -> Signature:
        """The signature once it stands still, or after a while."""
        until = time.monotonic() + RESTLESS_S
        while time.monotonic() < until:
            await asyncio.sleep(QUIET_S)
            before, found = found, await self._signature()
            if before == found:
                break
        return found

    async def notice(self) -> None:
        """Wake the scan early whenever the kernel says that something changed, until cancelled."""
        while True:
            watched = [path for path in (self._source.rules, self._source.models) if path.exists()]
            if watched:
                with suppress(OSError, RuntimeError):
                    await self._follow(watched)
            await asyncio.sleep(SCAN_S)

    async def _follow(self, watched: list[Path]) -> None:
        async for _ in awatch(*watched, debounce=GROUPED_MS, step=50):
            self._wake.set()
            if not all(path.exists() for path in watched):
                return
