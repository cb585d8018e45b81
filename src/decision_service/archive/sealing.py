"""Sealing: entries with their frames made a segment, ready to be staged. Takes the processor, waits for nothing.

A row that Parquet or the chain refuses, whatever else is wrong with it, becomes an unreadable one: one bad entry never
holds up the place that it is in.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Sequence
from typing import Final, NamedTuple

from decision_service.archive.chain import audit_digest, chained, personal_digest
from decision_service.archive.rows import Entry, RulesFired, row_of, unreadable
from decision_service.archive.schema import Row
from decision_service.archive.segments import day_of, segment_path
from decision_service.archive.tables import parquet_of, table_of
from decision_service.store.outbox import ArchiveHead

REFUSED: Final = (ValueError, TypeError, OverflowError, struct.error)  # what Arrow or the chain says of a value


class Taken(NamedTuple):
    """An entry of a place, and the frame of its decision if it has one and it is there."""

    entry: Entry
    frame: bytes | None = None


class Sealed(NamedTuple):
    """A segment that waits to be staged, and the head that its place has once it counts."""

    head: ArchiveHead
    content: bytes
    kinds: Counter[str]  # rows by kind
    decision_ids: Sequence[str]  # of decisions and of what belongs to them
    policy_ids: frozenset[str]

    @property
    def rows(self) -> int:
        """How many rows it has."""
        return self.kinds.total()


def rows_from(place: int, taken: Sequence[Taken], rules: RulesFired) -> list[Row]:
    """The rows of some entries, not yet chained."""
    return [row_of(place, one.entry, one.frame, rules) for one in taken]


def seal(place: int, taken: Sequence[Taken], rows: Sequence[Row], head: ArchiveHead) -> Sealed:
    """The segment of rows that follow a head. All are of one UTC day, and there is one at least."""
    try:
        linked = chained(rows, head.position, head.hash)
        table = table_of(linked)
    except REFUSED:
        rows = [_sound(place, one, row) for one, row in zip(taken, rows, strict=True)]
        linked = chained(rows, head.position, head.hash)
        table = table_of(linked)
    last = linked[-1]
    assert last.hash is not None
    path = segment_path(
        place, day_of(last.at_ms), linked[0].position, last.position, str(head.fence), last.hash
    )  # fmt: skip
    return Sealed(
        ArchiveHead(last.position, last.hash, taken[-1].entry.at, path, head.fence),
        parquet_of(table, head.hash),
        Counter(row.kind for row in linked),
        list(dict.fromkeys(row.decision_id for row in linked if row.decision_id)),
        frozenset(row.policy_id for row in linked if row.policy_id),
    )


def _sound(place: int, taken: Taken, row: Row) -> Row:
    """The row, or an unreadable one in its stead."""
    try:
        audit_digest(row), personal_digest(row, b"")
        table_of([row])
    except REFUSED as error:
        return unreadable(place, taken.entry, str(error) or type(error).__name__, taken.frame)
    return row
