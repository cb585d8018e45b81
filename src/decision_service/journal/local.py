"""The local journal: `Journal` on this host's disk.

    decide ──write──▶ queue ──▶ one thread ──▶ one commit, one fsync for all that wait ──▶ decide goes on
    decide ──find───▶ a reading connection, in the event loop: some 20 us, from memory

The event loop never waits for the disk. A write whose caller has given up before its turn came is not made.

`write_s` is what a caller should leave for a write: the smoothed time of the last ones plus four times their smoothed
deviation (the rule of TCP's retransmission timer, RFC 6298). `settle` writes a beat every few seconds, so it is known
before it is needed, and so is a disk that is full or broken: `problem` says what is wrong.
"""

from __future__ import annotations

import asyncio
import logging
import math
import queue
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, NamedTuple

from decision_service.core.errors import JournalUnavailable
from decision_service.journal import Conflict, StaticRow
from decision_service.journal.pending import Pending
from decision_service.journal.sqlite import Looking, Writing

LOG = logging.getLogger("decision_service.journal")
FILE: Final = "journal.db"
PENDING_FILE: Final = "journal.pending"
GROUP_MAX: Final = 64  # rows of one commit: about 250 kB
QUEUE_MAX: Final = 4_096  # writes that wait; further ones are refused
WRITE_S_MIN: Final = 0.001
WRITE_S_MAX: Final = 1.0
CLOSE_S: Final = 2.0
SLOW_S: Final = 1.0  # a beat that takes longer says that the disk hangs


class _Job(NamedTuple):
    """Something for the thread: a row to write, or what to do; and who waits for it since when."""

    row: StaticRow | None
    do: Callable[[Writing], Any]
    future: asyncio.Future[Any]
    since: float


def _nothing(_: Writing) -> None:
    """Do nothing: the job is a row."""


class LocalJournal:
    """`Journal` in a directory that the workers of a host share. Made and used in one event loop."""

    def __init__(self, directory: Path, monotonic: Callable[[], float] = time.monotonic) -> None:
        """Open the journal. JournalUnavailable if that fails; later failures heal by themselves."""
        self.problem = ""
        self.refused = 0  # writes that failed
        self.write_s = WRITE_S_MAX
        self._monotonic = monotonic
        self._mean_s, self._deviation_s = 0.0, 0.0
        path = directory / FILE
        try:
            directory.mkdir(parents=True, exist_ok=True)
            self._pending = Pending(directory / PENDING_FILE)
        except OSError as error:
            raise JournalUnavailable(f"no journal in {directory}: {error.strerror}") from None
        self._writing = Writing(path, self._pending)
        self._looking = Looking(path)
        began = monotonic()
        self._writing.open()
        self._took(monotonic() - began)
        self._opened = self._writing.opened
        self._loop = asyncio.get_running_loop()
        self._queue: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="journal", daemon=True)
        self._thread.start()

    @property
    def pending(self) -> int:
        """See `Journal.pending`."""
        return self._pending.words[0]

    @property
    def deliverer_beat_ms(self) -> int:
        """When the deliverer of this host last said that it lives, by the machine's monotonic clock."""
        return self._pending.words[1]

    @deliverer_beat_ms.setter
    def deliverer_beat_ms(self, now_ms: int) -> None:
        self._pending.words[1] = now_ms

    @property
    def oldest_ms(self) -> int:
        """When the oldest row was written, as of the last `settle`; 0 if there was none."""
        return self._writing.oldest_ms

    @property
    def conflicts_kept(self) -> int:
        """How many conflicts there are, as of the last `settle`."""
        return self._writing.conflicts_kept

    def find(self, decision_id: str) -> StaticRow | None:
        """See `Journal.find`."""
        self._look_at_the_file_written_to()
        return self._looking.find(decision_id)

    def of_customer(self, customer_id: str) -> list[StaticRow]:
        """See `Journal.of_customer`."""
        self._look_at_the_file_written_to()
        return self._looking.of_customer(customer_id)

    def _look_at_the_file_written_to(self) -> None:
        if self._opened != self._writing.opened:
            self._opened = self._writing.opened
            self._looking.close()

    async def write(self, row: StaticRow) -> StaticRow | None:
        """See `Journal.write`."""
        written: StaticRow | None = await self._give(row, _nothing)
        return written

    async def doubt(self, decision_id: str) -> None:
        """See `Journal.doubt`."""
        await self._give(None, lambda writing: writing.doubt(decision_id))

    async def trust(self, row: StaticRow) -> bool:
        """See `Journal.trust`."""
        return bool(await self._give(None, lambda writing: writing.trust(row)))

    async def drop(self, row: StaticRow) -> bool:
        """See `Journal.drop`."""
        return bool(await self._give(None, lambda writing: writing.drop(row)))

    async def oldest(self, after_seq: int, limit: int) -> list[StaticRow]:
        """See `Journal.oldest`."""
        rows: list[StaticRow] = await self._give(None, lambda writing: writing.oldest(after_seq, limit))
        return rows

    async def remove(self, decision_ids: list[str]) -> int:
        """See `Journal.remove`."""
        return int(await self._give(None, lambda writing: writing.remove(decision_ids)))

    async def keep_conflict(self, conflict: Conflict) -> bool:
        """See `Journal.keep_conflict`."""
        return bool(await self._give(None, lambda writing: writing.keep_conflict(conflict)))

    async def conflicts(self) -> list[Conflict]:
        """See `Journal.conflicts`."""
        kept: list[Conflict] = await self._give(None, Writing.conflicts)
        return kept

    async def settle(self) -> None:
        """See `Journal.settle`."""
        began = self._monotonic()
        try:
            async with asyncio.timeout(SLOW_S):
                await self._give(None, Writing.beat)
        except TimeoutError:
            self._ails(f"the journal takes longer than {SLOW_S} s to write")
        except JournalUnavailable as error:
            self._ails(error.message)
        else:
            if math.isinf(self.write_s):
                self._mean_s = 0.0
                LOG.warning("the journal works again: static answers are given")
            self.problem = ""
            self._took(self._monotonic() - began)

    def _ails(self, problem: str) -> None:
        if not self.problem:
            LOG.error("no static answers are given: %s", problem)
        self.problem, self.write_s = problem, math.inf

    def _took(self, seconds: float) -> None:
        """Learn from the time of a write."""
        if not self._mean_s:
            self._mean_s, self._deviation_s = seconds, seconds / 2
        else:
            self._deviation_s += (abs(seconds - self._mean_s) - self._deviation_s) / 4
            self._mean_s += (seconds - self._mean_s) / 8
        self.write_s = min(WRITE_S_MAX, max(WRITE_S_MIN, self._mean_s + 4 * self._deviation_s))

    # --- the thread ---------------------------------------------------------------------------------------------

    async def _give(self, row: StaticRow | None, do: Callable[[Writing], Any]) -> Any:
        """Have the thread do something. Whoever is cancelled while it waits for its turn has it not done."""
        if self._queue.qsize() >= QUEUE_MAX:
            raise JournalUnavailable("the journal does not keep up")
        future: asyncio.Future[Any] = self._loop.create_future()
        self._queue.put(_Job(row, do, future, self._monotonic()))
        return await future

    def _work(self) -> None:
        job: _Job | None = None
        while True:
            job = self._queue.get()
            if job is None:
                break
            if job.row is None:
                self._do(job)
            else:
                job = self._write_with(job)
                if job is not None:
                    self._do(job)
            if self._queue.empty():
                with suppress(JournalUnavailable):
                    self._writing.rest()
        self._writing.close()

    def _write_with(self, first: _Job) -> _Job | None:
        """Write the rows that wait together; the job that came between, if one did."""
        jobs, other = [first], None
        while len(jobs) < GROUP_MAX and other is None:
            try:
                job = self._queue.get_nowait()
            except queue.Empty:
                break
            if job is None:
                self._queue.put(None)  # the end: after these
                break
            if job.row is None:
                other = job
            else:
                jobs.append(job)
        jobs = [job for job in jobs if not job.future.cancelled()]
        if jobs:
            try:
                self._tell(jobs, self._writing.write([job.row for job in jobs if job.row is not None]), None)
            except JournalUnavailable as error:
                self.refused += len(jobs)
                self._tell(jobs, [None] * len(jobs), error)
        return other

    def _do(self, job: _Job) -> None:
        if job.future.cancelled():
            return
        try:
            self._tell([job], [job.do(self._writing)], None)
        except JournalUnavailable as error:
            self._tell([job], [None], error)

    def _tell(self, jobs: list[_Job], results: list[Any], error: JournalUnavailable | None) -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self._loop.call_soon_threadsafe(self._told, jobs, results, error)

    def _told(self, jobs: list[_Job], results: list[Any], error: JournalUnavailable | None) -> None:
        if error is None and jobs[0].row is not None:
            self._took(self._monotonic() - jobs[0].since)
        for job, result in zip(jobs, results, strict=True):
            if job.future.done():
                continue
            if error is None:
                job.future.set_result(result)
            else:
                job.future.set_exception(JournalUnavailable(error.message))

    async def close(self) -> None:
        """See `Journal.close`. A disk that hangs is not waited for."""
        self._queue.put(None)
        await asyncio.to_thread(self._thread.join, CLOSE_S)
        self._looking.close()
