"""Segments: how the files of rows are named, and which of them hold the rows of a place.

    records/day=2026-11-22/p=0a3/000000000001-000000000456-7-9f2c51d0.parquet
    staging/2026-11-22_0a3_000000000001-000000000456-7-9f2c51d0.parquet

The name says which rows of its place a segment holds (first and last position, from 1), who wrote it (the fence of the
writer's lease; `c` and a number: a compaction) and the first four bytes of its last hash. With the hash no two attempts
at the same rows share a name: what lost the race for the head can never be published in the place of what won it.

`p` is the partition as three hex digits, as in decision ids, or `policy`, `lists`, `access`; the day is the UTC day of
the rows' stream ids.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import date, timedelta
from typing import Final, NamedTuple

from decision_service.archive.schema import FACTS
from decision_service.core.limits import DAY_MS, PARTITIONS_MAX

RECORDS: Final = "records"
STAGING: Final = "staging"
_EPOCH: Final = date(1970, 1, 1)
_NAME: Final = re.compile(r"(\d{12})-(\d{12})-(c?\d+)-([0-9a-f]{8})\.parquet", re.ASCII)
_PATH: Final = re.compile(RECORDS + r"/day=(\d{4}-\d\d-\d\d)/p=([0-9a-z]+)/([^/]+)", re.ASCII)


class Segment(NamedTuple):
    """One Parquet file of consecutive rows of one place and one UTC day. `path` is below the root."""

    place: int
    day: str  # 2026-11-22
    first: int
    last: int
    path: str

    @property
    def fence(self) -> int:
        """The fence of the lease under which it was written; 0 of one that a compaction made."""
        writer = self.path.split("-")[-2]
        return int(writer) if writer.isdigit() else 0


def day_of(at_ms: int) -> str:
    """The UTC day of an instant, as folders have it."""
    return (_EPOCH + timedelta(days=at_ms // DAY_MS)).isoformat()


def place_name(place: int) -> str:
    """A place as folders have it: `0a3`, `policy`. ValueError for what is no place."""
    if place in FACTS:
        return FACTS[place]
    if not 0 <= place < PARTITIONS_MAX:
        raise ValueError(f"{place} is no place: a partition, or one of {', '.join(map(str, FACTS))}")
    return f"{place:03x}"


def place_of(name: str) -> int:
    """The place that a folder is of. ValueError."""
    for place, known in FACTS.items():
        if name == known:
            return place
    if not re.fullmatch(r"[0-9a-f]{3}", name):
        raise ValueError(f"{name!r} is no place")
    return int(name, 16)


def segment_path(place: int, day: str, first: int, last: int, writer: str, last_hash: bytes) -> str:
    """The path of a segment. `writer`: the fence of who wrote it, or `c` and a number of a compaction."""
    return f"{RECORDS}/day={day}/p={place_name(place)}/{first:012}-{last:012}-{writer}-{last_hash[:4].hex()}.parquet"


def segment_at(path: str) -> Segment | None:
    """The segment of a path below the root, or None if it is none."""
    found = _PATH.fullmatch(path)
    name = found and _NAME.fullmatch(found[3])
    if not found or not name:
        return None
    try:
        return Segment(place_of(found[2]), found[1], int(name[1]), int(name[2]), path)
    except ValueError:
        return None


def staged_path(path: str) -> str:
    """Where a file waits until it is published at `path`."""
    segment = segment_at(path)
    if segment is None:
        raise ValueError(f"{path!r} is no path of a segment")
    return f"{STAGING}/{segment.day}_{place_name(segment.place)}_{path.rpartition('/')[2]}"


def published_path(staged: str) -> str:
    """The inverse of `staged_path`. ValueError for what no segment waits at."""
    parts = staged.rpartition("/")[2].split("_")
    path = f"{RECORDS}/day={parts[0]}/p={parts[1]}/{parts[2]}" if len(parts) == 3 else ""
    if segment_at(path) is None:
        raise ValueError(f"{staged!r} is no staged segment")
    return path


def without_covered(segments: Iterable[Segment]) -> list[Segment]:
    """The segments of a place in chain order, without those that lie within another."""
    kept: list[Segment] = []
    for segment in sorted(segments, key=lambda s: (s.first, -s.last, s.path)):
        if not kept or segment.last > kept[-1].last:
            kept.append(segment)
    return kept
