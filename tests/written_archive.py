"""An archive as a consumer would have left it, from rows that are there: chained, in segments, published."""

from __future__ import annotations

from decision_service.archive.chain import GENESIS, chained
from decision_service.archive.files import Archive
from decision_service.archive.schema import Row
from decision_service.archive.segments import day_of, segment_path
from decision_service.archive.tables import parquet_of, table_of


def write_rows(archive: Archive, rows: list[Row], rows_max: int = 200) -> list[Row]:
    """Chain the rows of a place from its beginning and publish them; the rows."""
    rows = chained(rows, 0, GENESIS)
    previous, start = GENESIS, 0
    while start < len(rows):
        day = day_of(rows[start].at_ms)
        end = start
        while end < len(rows) and end - start < rows_max and day_of(rows[end].at_ms) == day:
            end += 1
        part = rows[start:end]
        last = part[-1].hash or b""
        path = segment_path(part[0].partition, day, part[0].position, part[-1].position, "1", last)
        archive.stage(path, parquet_of(table_of(part), previous))
        assert archive.publish(path)
        previous, start = last, end
    return rows
