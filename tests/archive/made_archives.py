"""Archives of a few days, made of the rows of `archive_cases`: several segments a day, one place, one chain."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from archive_cases import NOON_MS, PARTITION, chained_rows, decision_id

from decision_service.archive.chain import GENESIS, chained
from decision_service.archive.files import Archive
from decision_service.archive.schema import Row
from decision_service.archive.segments import Segment, day_of, segment_at, segment_path
from decision_service.archive.tables import parquet_of, table_of

DAY_MS = 86_400_000
TOMORROW_MS = NOON_MS + DAY_MS


def put(archive: Archive, rows: Sequence[Row], previous: bytes, writer: str = "7") -> Segment:
    """Write rows as a published segment."""
    assert rows[-1].hash is not None
    path = segment_path(
        rows[0].partition, day_of(rows[0].at_ms), rows[0].position, rows[-1].position, writer, rows[-1].hash
    )
    archive.write(path, parquet_of(table_of(rows), previous))
    segment = segment_at(path)
    assert segment is not None
    return segment


def made(archive: Archive, days: int, parts: int = 3, rows_a_part: int = 4) -> list[Row]:
    """A chain over so many days up to the day of NOON_MS, decision n at position n; the rows."""
    rows: list[Row] = []
    previous = GENESIS
    for day in range(1 - days, 1):
        for _ in range(parts):
            some = chained_rows(rows_a_part, len(rows), previous, day)
            put(archive, some, previous)
            previous = some[-1].hash or b""
            rows += some
    return rows


def appended(archive: Archive, before: Sequence[Row], *rows: Row) -> list[Row]:
    """Further rows of the place as a segment of their own."""
    last = before[-1] if before else None
    previous = GENESIS if last is None or last.hash is None else last.hash
    some = chained(rows, last.position if last else 0, previous)
    put(archive, some, previous)
    return [*before, *some]


def shadow_row(n: int, at_ms: int, **changes: Any) -> Row:
    """What a shadow scorecard said of the n-th decision."""
    said = '{"scores":{"behaviour":{"2":{"points":600}}}}'
    return Row(PARTITION, 0, at_ms, 0, "shadow", decision_id=decision_id(n), body=said)._replace(**changes)
