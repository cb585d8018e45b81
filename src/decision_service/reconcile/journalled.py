"""Journalled: the journals of hosts, looked at and delivered by the command line, also beside a running service.

Delivering twice does no harm (`journal/delivery.py`), so nobody has to be stopped for it. A doubtful row was told to
nobody: it answers for no acknowledgement, and is left to the delivery.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from decision_service.journal import Conflict
from decision_service.journal.delivery import Deliverer, Delivery
from decision_service.journal.local import FILE, LocalJournal
from decision_service.journal.sent import SentTables
from decision_service.linker import Linker
from decision_service.reconcile.findings import Finding
from decision_service.reconcile.soundness import told_in
from decision_service.recording import Retention
from decision_service.store import Store
from decision_service.telemetry import Meters


class Journalled:
    """The journals of those directories that hold one. An asynchronous context manager."""

    def __init__(self, directories: Sequence[Path]) -> None:
        self._directories = [one for one in dict.fromkeys(directories) if (one / FILE).is_file()]
        self._journals: list[tuple[LocalJournal, SentTables]] = []

    async def __aenter__(self) -> Journalled:
        """Open them. JournalUnavailable."""
        for directory in self._directories:
            sent = SentTables(directory)
            try:
                self._journals.append((LocalJournal(directory), sent))
            except BaseException:
                sent.close()
                raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for journal, sent in self._journals:
            await journal.close()
            sent.close()

    @property
    def waiting(self) -> int:
        """How many rows are not delivered yet."""
        return sum(journal.pending for journal, _ in self._journals)

    def frame(self, decision_id: str) -> bytes | None:
        """What was told of a decision that waits to be delivered. JournalUnavailable."""
        for journal, _ in self._journals:
            if journal.pending and (row := journal.find(decision_id)) is not None and not row.doubtful:
                return row.frame
        return None

    async def deliver(
        self, store: Store, linker: Linker, retention: Retention, meters: Meters, now_ms: Callable[[], int]
    ) -> int:
        """Bring everything into the store; how many rows went. StoreUnavailable, JournalUnavailable: the rest is still
        there."""
        before = self.waiting
        for journal, sent in self._journals:
            await Deliverer(Delivery(store, journal, sent, linker, retention, meters, now_ms), journal).round()
        return before - self.waiting

    async def conflicts(self, since_ms: int, until_ms: int) -> Iterator[Finding]:
        """The conflicts that were found between two instants."""
        found = [conflict for journal, _ in self._journals for conflict in await journal.conflicts()]
        return (_finding(one) for one in found if since_ms <= one.found_at_ms < until_ms)


def _finding(conflict: Conflict) -> Finding:
    told, found = _short(conflict.decision_id, conflict.frame), _short(conflict.decision_id, conflict.found)
    return Finding(
        "conflict", conflict.decision_id, conflict.customer_id, told.pop("request_id", ""), acknowledged=told,
        stored=found, note=conflict.kind,
    )  # fmt: skip


def _short(decision_id: str, frame: bytes) -> dict[str, Any]:
    """The part of a frame that a caller acts on; nothing of one that cannot be read."""
    try:
        told = told_in(decision_id, frame)
    except ValueError:
        return {}
    return {"request_id": told.answer["request_id"], **told.short()}
