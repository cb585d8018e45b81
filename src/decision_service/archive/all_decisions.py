"""All decisions, for commands that go through them: what is archived, then what the outbox has beyond it.

    archive, segment by segment ──▶ frames of rows ─┐
                                                    ├──▶ pages of a partition, each decision once
    outbox, page by page ──▶ ids ──▶ frames ────────┘    what the archive told already is left out

Once a decision is archived, its entry leaves the outbox and, later, its frame the store. So without the archive's
address only what the outbox still has can be told: a command that asks for more is refused and told where the outbox
begins, instead of counting too little without a word.

Reading the archive waits for a disk or a network and is done in a thread. Memory is that of a row group.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import orjson

from decision_service.api.instants import format_instant
from decision_service.archive.days import LATEST_MS
from decision_service.archive.descriptions import description_in
from decision_service.archive.lookup import Archived, Lookup, decides, scores_in
from decision_service.archive.rows import frame_of
from decision_service.archive.schema import Row
from decision_service.core.errors import ArchiveUnavailable, InvalidInput

if TYPE_CHECKING:
    from decision_service.archive.files import Archive
    from decision_service.archive.segments import Segment
    from decision_service.store import Store

_WithScores = tuple[Row, dict[str, Any] | None]  # a decision's row, and what shadow scorecards said
STORE_TIMEOUT_S: Final = 10.0
GROUP_ROWS_MAX: Final = 1_024  # rows that are unpacked at once
LISTINGS_MAX: Final = 5
STATES_AT_ONCE: Final = 64
_COLUMNS: Final = (
    "partition", "position", "at_ms", "kind", "decision_id", "body", "magic", "fingerprint", "answer", "request",
    "numbers", "verdicts", "rest", "erased_at_ms",
)  # fmt: skip


class Decision(NamedTuple):
    """A decision with its frame; None if the outbox tells of it and there is none. `shadows`: what shadow scorecards
    said, if the archive told it."""

    decision_id: str
    frame: bytes | None
    shadows: dict[str, Any] | None = None


class AllDecisions:
    """The decisions of a store and, if there is one, its archive."""

    def __init__(self, store: Store, partitions: int, archive: Archive | None) -> None:
        self.erased = 0  # decisions that were passed over, for their frames are no more
        self._store = store
        self._partitions = partitions
        self._archive = archive
        self._lookup = None if archive is None else Lookup(archive)
        self._begins: tuple[int, int] | None = None
        self._asked = False

    async def refuse_unreachable(self, since_ms: int) -> None:
        """InvalidInput if decisions since an instant are in an archive whose address is not known. StoreError."""
        if self._archive is not None:
            return
        if not self._asked:
            self._begins, self._asked = await self._outbox_begins(), True
        if self._begins is not None and self._begins[1] > since_ms:
            partition, first_ms = self._begins
            raise InvalidInput(
                "archive",
                f"is needed: the outbox begins at {format_instant(first_ms)} (partition {partition}), decisions before "
                "that are in the archive and nowhere else",
            )

    async def _outbox_begins(self) -> tuple[int, int] | None:
        """The partition of which the least is left, and where its outbox begins; None if nothing was archived."""
        latest: tuple[int, int] | None = None
        for start in range(0, self._partitions, STATES_AT_ONCE):
            some = range(start, min(start + STATES_AT_ONCE, self._partitions))
            states = await asyncio.gather(*(self._store.outbox_state(place, STORE_TIMEOUT_S) for place in some))
            for place, state in zip(some, states, strict=True):
                archived = state.waiting < state.length  # the last that was archived is never trimmed
                if archived and (latest is None or state.first_ms > latest[1]):
                    latest = place, state.first_ms
        return latest

    async def pages(self, partition: int, since_ms: int, until_ms: int) -> AsyncIterator[Sequence[Decision]]:
        """The decisions of a partition that the store took in between two instants of its clock, page by page.
        StoreError, ArchiveUnavailable."""
        told: set[str] = set()
        if self._archive is not None:
            first_ms = (await self._store.outbox_state(partition, STORE_TIMEOUT_S)).first_ms
            async for page in self._archived(self._archive, partition, since_ms, until_ms):
                told.update(row.decision_id for row, _ in page if row.decision_id and row.at_ms >= first_ms > 0)
                yield [Decision(row.decision_id or "", frame_of(row), shadows) for row, shadows in page]
        after, begun = b"", False
        while after or not begun:
            begun = True
            after, ids = await self._store.outbox_decisions(partition, since_ms, until_ms, after, STORE_TIMEOUT_S)
            new = [decision_id for decision_id in ids if decision_id not in told]
            frames = await self._store.read_decisions(partition, new, STORE_TIMEOUT_S)
            if new:
                yield [Decision(decision_id, frame) for decision_id, frame in zip(new, frames, strict=True)]

    async def archived(self, decision_id: str) -> Archived | None:
        """A decision that the store has no more, or None; also if no archive is known. ArchiveUnavailable."""
        return None if self._lookup is None else await asyncio.to_thread(self._lookup.decision, decision_id)

    async def description(self, policy_id: str) -> dict[str, Any] | None:
        """What a policy was, as the archive has it, or None."""
        return None if self._archive is None else await asyncio.to_thread(description_in, self._archive, policy_id)

    async def shadows(self, decision: Decision) -> dict[str, Any] | None:
        """What shadow scorecards said of a decision, or None."""
        if decision.shadows is not None:
            return decision.shadows
        recorded = await self._store.read_shadows(decision.decision_id, STORE_TIMEOUT_S)
        return None if recorded is None else orjson.loads(recorded)

    async def _archived(
        self, archive: Archive, partition: int, since_ms: int, until_ms: int
    ) -> AsyncIterator[list[_WithScores]]:
        """Archived decisions with what shadows said. Their rows stand behind the decision's, perhaps in the next row
        group: a page waits for that."""
        groups = _row_groups(archive, partition, since_ms, until_ms)
        waiting: list[_WithScores] = []
        while (rows := await asyncio.to_thread(next, groups, None)) is not None:
            said = {row.decision_id: scores_in(row) for row in rows if row.kind == "shadow"}
            if waiting:
                yield [(row, shadows or said.get(row.decision_id)) for row, shadows in waiting]
            of_span = [row for row in rows if decides(row) and since_ms <= row.at_ms < until_ms]
            self.erased += sum(row.erased_at_ms is not None for row in of_span)
            waiting = [(row, said.get(row.decision_id)) for row in of_span if row.erased_at_ms is None]
        if waiting:
            yield waiting


def _row_groups(archive: Archive, place: int, since_ms: int, until_ms: int) -> Iterator[list[Row]]:
    """The rows of a place in chain order, a piece at a time; each once, though its files are merged meanwhile."""
    position = 0
    for _ in range(LISTINGS_MAX):
        try:
            for segment in archive.segments(max(since_ms, 0), min(until_ms, LATEST_MS), [place]):
                if segment.last > position:
                    for rows in _pieces(archive, segment, position):
                        yield rows
                        position = rows[-1].position
            return
        except FileNotFoundError:
            continue
    raise ArchiveUnavailable("files of the archive are gone whenever they are listed")


def _pieces(archive: Archive, segment: Segment, position: int) -> Iterator[list[Row]]:
    with archive.open(segment) as file:
        for batch in file.iter_batches(GROUP_ROWS_MAX, columns=list(_COLUMNS), use_threads=False):
            rows = [Row(**values) for values in batch.to_pylist() if values["position"] > position]
            if rows:
                yield rows
