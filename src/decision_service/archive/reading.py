"""Reading a part of a segment: some columns of all rows, or some rows and no more than the row groups that hold them.

One thread does it: who reads is beside a service, or one of many.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from decision_service.archive.schema import Row
from decision_service.core.errors import ArchiveDamaged

if TYPE_CHECKING:
    import pyarrow as pa

    from decision_service.archive.files import Archive
    from decision_service.archive.segments import Segment


def read_columns(archive: Archive, segment: Segment, columns: Sequence[str]) -> pa.Table:
    """Some columns of all rows. FileNotFoundError if the segment is gone; ArchiveUnavailable."""
    with archive.open(segment) as file:
        return file.read(columns=list(columns), use_threads=False)


def read_rows(archive: Archive, segment: Segment, offsets: Sequence[int], columns: Sequence[str]) -> list[Row]:
    """The rows that stand so many rows behind a segment's first, rising; columns that are not asked for are None.
    FileNotFoundError if the segment is gone; ArchiveUnavailable."""
    with archive.open(segment) as file:
        by_group: dict[int, list[int]] = defaultdict(list)
        for offset in offsets:
            group, within = _group_of(file.metadata, segment, offset)
            by_group[group].append(within)
        return [
            Row(**values)
            for group, some in sorted(by_group.items())
            for values in file.read_row_group(group, list(columns), use_threads=False).take(sorted(some)).to_pylist()
        ]


def _group_of(metadata: Any, segment: Segment, offset: int) -> tuple[int, int]:
    """The row group that has a row, and how far behind the group's first it stands."""
    for group in range(metadata.num_row_groups):
        rows = metadata.row_group(group).num_rows
        if offset < rows:
            return group, offset
        offset -= rows
    raise ArchiveDamaged(f"{segment.path} has {metadata.num_rows} rows, fewer than its name says")
