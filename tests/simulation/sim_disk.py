"""The disk of a simulated host: its journal and its sent tables, shared by its workers, with what a crash leaves.

The promises are those of `journal/memory.py`; here is what may become of them:

  * a write takes a while in the worker's writer thread: it goes on when its caller has given up, it ends with the
    worker, and between the instant at which the row is durable (and seen by every worker) and the one at which the
    writer is told so, others act, or the worker dies;
  * the disk may be slow, full (writes fail), or broken for a while; a failed fsync may all the same have left a row,
    which then turns up when the machine comes back;
  * a row that was written outlives everything; marks of the sent table outlive every process, but those of the last
    moment are gone with the power.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from sim_loop import Loop, World

from decision_service.core.errors import JournalUnavailable
from decision_service.journal import Conflict, StaticRow
from decision_service.journal.memory import MemoryJournal, MemorySentTable


class Disk:
    """One host's disk."""

    def __init__(self, world: World, tell: Callable[..., None]) -> None:
        self.world = world
        self.tell = tell
        self.journal = MemoryJournal()
        self.marks: list[set[str]] = []  # of each worker, living or dead
        self.latency_s = 0.000_5
        self.full = False  # writes fail
        self.broken = False  # reads fail too
        self.lying = False  # a failed write may have left its row
        self.frozen_until = 0.0
        self.torn: list[StaticRow] = []  # rows that a failed fsync may have left
        self.written: list[StaticRow] = []  # every row there ever was
        self.marks_lost = False

    def power_cut(self) -> None:
        """What was not synced is gone; what a failed fsync left turns up."""
        rng = self.world.rng
        for marks in self.marks:
            for mark in sorted(marks):
                if rng.random() < 0.5:
                    marks.discard(mark)
                    self.marks_lost = True
        torn, self.torn = self.torn, []
        for row in torn:
            self.put(row)

    def put(self, row: StaticRow) -> StaticRow | None:
        """Make a row durable."""
        journal = self.journal
        earlier = journal.rows.get(row.decision_id)
        if earlier is not None:
            return earlier
        if row.approved_minor and any(one.approved_minor for one in journal.of_customer(row.customer_id)):
            return None
        journal._seq += 1
        journal.rows[row.decision_id] = row = row._replace(seq=journal._seq)
        self.written.append(row)
        self.tell("journalled", row.decision_id[-6:], row.approved_minor)
        return row


class SimJournal:
    """`Journal` of one worker on the disk of its host."""

    def __init__(self, disk: Disk, loop: Loop) -> None:
        self._disk = disk
        self._loop = loop
        self._free_at = 0.0  # when the writer thread writes next

    @property
    def pending(self) -> int:
        """See `Journal.pending`."""
        return len(self._disk.journal.rows)

    @property
    def write_s(self) -> float:
        """See `Journal.write_s`."""
        return float("inf") if self._disk.full or self._disk.broken else 4 * self._disk.latency_s

    def find(self, decision_id: str) -> StaticRow | None:
        """See `Journal.find`."""
        self._refuse_broken()
        return self._disk.journal.find(decision_id)

    def of_customer(self, customer_id: str) -> list[StaticRow]:
        """See `Journal.of_customer`."""
        self._refuse_broken()
        return self._disk.journal.of_customer(customer_id)

    def _refuse_broken(self) -> None:
        if self._disk.broken:
            raise JournalUnavailable("the disk is broken")

    async def write(self, row: StaticRow) -> StaticRow | None:
        """See `Journal.write`."""
        return await self._do(lambda: self._disk.put(row), row)

    async def doubt(self, decision_id: str) -> None:
        """See `Journal.doubt`."""
        rows = self._disk.journal.rows

        def change() -> None:
            if decision_id in rows:
                rows[decision_id] = rows[decision_id]._replace(doubtful=True)

        await self._do(change)

    async def trust(self, row: StaticRow) -> bool:
        """See `Journal.trust`."""
        return bool(await self._do(lambda: self._disk.journal.trust_now(row)))

    async def drop(self, row: StaticRow) -> bool:
        """See `Journal.drop`."""
        return bool(await self._do(lambda: self._disk.journal.drop_now(row)))

    async def oldest(self, after_seq: int, limit: int) -> list[StaticRow]:
        """See `Journal.oldest`."""
        return await self._do(lambda: [r for r in self._disk.journal.rows.values() if r.seq > after_seq][:limit])

    async def remove(self, decision_ids: list[str]) -> None:
        """See `Journal.remove`."""
        rows = self._disk.journal.rows
        await self._do(lambda: [rows.pop(decision_id, None) for decision_id in decision_ids])

    async def keep_conflict(self, conflict: Conflict) -> None:
        """See `Journal.keep_conflict`."""
        journal = self._disk.journal

        def keep() -> None:
            if journal.rows.pop(conflict.decision_id, None) is not None:
                journal.kept.append(conflict)
                self._disk.tell("conflict", conflict.kind, conflict.decision_id[-6:])

        await self._do(keep)

    async def conflicts(self) -> list[Conflict]:
        """See `Journal.conflicts`."""
        return list(self._disk.journal.kept)

    async def settle(self) -> None:
        """See `Journal.settle`."""

    async def close(self) -> None:
        """See `Journal.close`."""

    async def _do(self, action: Callable[[], Any], row: StaticRow | None = None) -> Any:
        """Have the writer thread do something; its result."""
        loop, disk, world = self._loop, self._disk, self._disk.world
        future = loop.create_future()
        if self._free_at <= world.now:  # else it joins those that are written together next
            self._free_at = world.now + world.rng.random() * disk.latency_s
        loop.call_at(self._free_at, self._done, future, action, row)
        outcome = await future
        if isinstance(outcome, JournalUnavailable):
            raise outcome
        return outcome

    def _done(self, future: asyncio.Future[Any], action: Callable[[], Any], row: StaticRow | None) -> None:
        """The writer thread does it now."""
        disk, world, outcome = self._disk, self._disk.world, None
        if disk.frozen_until > world.now:
            self._loop.call_at(disk.frozen_until, self._done, future, action, row)
            return
        if disk.full or disk.broken:
            if disk.lying and row is not None and world.rng.random() < 0.5:
                disk.torn.append(row)
            outcome = JournalUnavailable("the disk is full")
        else:
            outcome = action()
        world.at(world.now + world.rng.random() * disk.latency_s, _give, future, outcome)


def _give(future: asyncio.Future[Any], outcome: Any) -> None:
    if not future.done():
        future.set_result(outcome)


def sent_table(disk: Disk) -> MemorySentTable:
    """The sent table of a worker that begins its life."""
    return MemorySentTable(disk.marks)
