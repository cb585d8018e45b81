"""The journal and the sent table in this process's memory: the same promises but for durability. For tests and the
simulator; a write gives way to other tasks once, as one to a disk does, and before that nothing of it is there."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from decision_service.journal import Conflict, StaticRow
from decision_service.journal.sent import approval_key


async def _give_way() -> None:
    await asyncio.sleep(0)


class MemorySentTable:
    """`SentTable` of one worker. Give the same `shared` to several to make them workers of one host."""

    def __init__(self, shared: list[set[str]] | None = None) -> None:
        self._all = [] if shared is None else shared
        self._mine: set[str] = set()
        self._kept: set[str] = set()
        self._all.append(self._mine)

    def mark(self, decision_id: str) -> bool:
        """See `SentTable.mark`."""
        if decision_id in self._mine:
            return False
        self._mine.add(decision_id)
        return True

    def unmark(self, decision_id: str) -> None:
        """See `SentTable.unmark`."""
        if decision_id not in self._kept:
            self._mine.discard(decision_id)

    def keep(self, decision_id: str) -> None:
        """See `SentTable.keep`."""
        self._kept.add(decision_id)
        self._mine.add(decision_id)

    def mark_approval(self, customer_id: str, t_ms: int) -> None:
        """See `SentTable.mark_approval`."""
        self.mark(approval_key(customer_id, t_ms))

    def kept(self, decision_id: str) -> bool:
        """See `SentTable.kept`."""
        return decision_id in self._kept

    def holds(self, decision_id: str) -> bool:
        """See `SentTable.holds`."""
        return any(decision_id in one for one in self._all)


class MemoryJournal:
    """`Journal` in memory. Several workers of one host may share one. `before_write` is awaited where a disk would be
    slow; what it raises the write raises, with nothing written."""

    def __init__(self, before_write: Callable[[], Awaitable[None]] = _give_way) -> None:
        self.rows: dict[str, StaticRow] = {}  # by decision id, oldest first
        self.kept: list[Conflict] = []
        self.write_s = 0.001
        self._before_write = before_write
        self._seq = 0

    @property
    def pending(self) -> int:
        """See `Journal.pending`."""
        return len(self.rows)

    def find(self, decision_id: str) -> StaticRow | None:
        """See `Journal.find`."""
        return self.rows.get(decision_id)

    def of_customer(self, customer_id: str) -> list[StaticRow]:
        """See `Journal.of_customer`."""
        return [row for row in self.rows.values() if row.customer_id == customer_id]

    async def write(self, row: StaticRow) -> StaticRow | None:
        """See `Journal.write`."""
        await self._before_write()
        earlier = self.rows.get(row.decision_id)
        if earlier is not None:
            return earlier
        if row.approved_minor and any(one.approved_minor for one in self.of_customer(row.customer_id)):
            return None
        self._seq += 1
        self.rows[row.decision_id] = row = row._replace(seq=self._seq)
        return row

    async def doubt(self, decision_id: str) -> None:
        """See `Journal.doubt`."""
        await self._before_write()
        row = self.rows.get(decision_id)
        if row is not None:
            self.rows[decision_id] = row._replace(doubtful=True)

    async def trust(self, row: StaticRow) -> bool:
        """See `Journal.trust`."""
        await self._before_write()
        return self.trust_now(row)

    async def drop(self, row: StaticRow) -> bool:
        """See `Journal.drop`."""
        await self._before_write()
        return self.drop_now(row)

    def trust_now(self, row: StaticRow) -> bool:
        """`trust`, without waiting for anything."""
        found = self.rows.get(row.decision_id)
        if found is None or found.seq != row.seq:
            return False
        self.rows[row.decision_id] = found._replace(doubtful=False)
        return True

    def drop_now(self, row: StaticRow) -> bool:
        """`drop`, without waiting for anything."""
        found = self.rows.get(row.decision_id)
        if found is None or found.seq != row.seq or not found.doubtful:
            return False
        del self.rows[row.decision_id]
        return True

    async def oldest(self, after_seq: int, limit: int) -> list[StaticRow]:
        """See `Journal.oldest`."""
        return [row for row in self.rows.values() if row.seq > after_seq][:limit]

    async def remove(self, decision_ids: list[str]) -> int:
        """See `Journal.remove`."""
        await self._before_write()
        return sum(self.rows.pop(decision_id, None) is not None for decision_id in decision_ids)

    async def keep_conflict(self, conflict: Conflict) -> bool:
        """See `Journal.keep_conflict`."""
        await self._before_write()
        gone = self.rows.pop(conflict.decision_id, None)
        if gone is not None:
            self.kept.append(conflict)
        return gone is not None

    async def conflicts(self) -> list[Conflict]:
        """See `Journal.conflicts`."""
        return list(self.kept)

    async def settle(self) -> None:
        """See `Journal.settle`."""

    async def close(self) -> None:
        """See `Journal.close`."""
