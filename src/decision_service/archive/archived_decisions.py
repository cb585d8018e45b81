"""Archived decisions beside a service: what a worker asks of the archive while it answers other requests.

    event loop ──▶ at most ASKED_MAX questions ──▶ LOOKUP_THREADS threads: one decision by its id
                                               └──▶ one thread: searches

Threads and not the loop, for all of it waits for a disk or a network; and not a process, for what computes here is
PyArrow, NumPy, zlib and the file system, which hold no GIL while they do. What Python itself does for a look-up is half
a millisecond, and the interpreter is passed on in between (`benchmarks/archive_lookup.py` measures it beside a loop
that ticks). Searches have a thread of their own, so that a retry that waits for its answer never waits for one.

A question that is not answered in time is left to its thread: ArchiveUnavailable.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from threading import Lock
from typing import Any, Final, TypeVar

from decision_service.archive.descriptions import description_in
from decision_service.archive.files import Archive
from decision_service.archive.lookup import Archived, Lookup
from decision_service.archive.schema import Row
from decision_service.archive.search import Page, Question, search
from decision_service.core.errors import ArchiveUnavailable

LOG = logging.getLogger("decision_service.archive")
LOOKUP_THREADS: Final = 2
ASKED_MAX: Final = 64  # questions that wait or are worked on; further ones are refused

Found = TypeVar("Found")


class ArchivedDecisions:
    """The decisions of the archive that `open_archive` opens, for one worker."""

    def __init__(self, open_archive: Callable[[], Archive], partitions: int) -> None:
        self._open = open_archive
        self._partitions = partitions
        self._lookups = ThreadPoolExecutor(LOOKUP_THREADS, "archive-lookup")
        self._searches = ThreadPoolExecutor(1, "archive-search")
        self._opening = Lock()
        self._opened: tuple[Archive, Lookup] | None = None
        self._asked = 0

    def start(self) -> None:
        """Open the archive and import what the first question would wait for (0.2 s, 30 MB), if anything is in it."""
        self._lookups.submit(self._prepare)

    def _prepare(self) -> None:
        try:
            if self._archive()[0].days():
                import_module("pyarrow.compute")
                import_module("pyarrow.parquet")
        except ArchiveUnavailable as error:
            LOG.warning("the archive cannot be asked yet: %s", error)

    def close(self) -> None:
        """Answer nothing more; what threads are at is not waited for."""
        for pool in (self._lookups, self._searches):
            pool.shutdown(wait=False, cancel_futures=True)

    async def decision(self, decision_id: str, timeout_s: float, day: str | None = None) -> Archived | None:
        """A decision with all that is archived of it, or None. ArchiveUnavailable."""
        return await self._ask(self._lookups, lambda: self._archive()[1].decision(decision_id, day), timeout_s)

    async def answer(self, decision_id: str, timeout_s: float, *, indexed_only: bool = False) -> Row | None:
        """The row of a decision with its answer and fingerprint, or None; see `Lookup.answer`. ArchiveUnavailable."""
        return await self._ask(
            self._lookups, lambda: self._archive()[1].answer(decision_id, indexed_only=indexed_only), timeout_s
        )

    async def policy(self, policy_id: str, timeout_s: float) -> dict[str, Any] | None:
        """What a policy was, or None if the archive does not know. ArchiveUnavailable."""
        return await self._ask(self._lookups, lambda: description_in(self._archive()[0], policy_id), timeout_s)

    async def search(self, question: Question, waiting: Sequence[Row], timeout_s: float) -> Page:
        """One page of the decisions that fit. ArchiveUnavailable."""
        return await self._ask(
            self._searches, lambda: search(self._archive()[0], question, self._partitions, waiting), timeout_s
        )

    def _archive(self) -> tuple[Archive, Lookup]:
        with self._opening:
            if self._opened is None:
                archive = self._open()
                self._opened = archive, Lookup(archive)
            return self._opened

    async def _ask(self, pool: ThreadPoolExecutor, work: Callable[[], Found], timeout_s: float) -> Found:
        if timeout_s <= 0 or self._asked >= ASKED_MAX:
            raise ArchiveUnavailable("the archive is asked too much at once" if timeout_s > 0 else "no time is left")
        self._asked += 1
        asked = asyncio.get_running_loop().run_in_executor(pool, work)
        asked.add_done_callback(self._answered)
        done, _ = await asyncio.wait((asked,), timeout=timeout_s)
        if not done:
            asked.cancel()
            raise ArchiveUnavailable(f"the archive did not answer within {timeout_s * 1000:.0f} ms")
        return asked.result()

    def _answered(self, asked: asyncio.Future[Found]) -> None:
        self._asked -= 1
        if not asked.cancelled() and (error := asked.exception()) is not None:
            LOG.error("the archive was asked in vain: %s", error)
