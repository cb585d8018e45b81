"""Rewriting: a segment's file again, without what is personal of some rows. Chain, positions and name stay.

    read the file ──▶ PERSONAL columns and salt of these rows null, erased_at_ms set ──▶ the new file in its place

The file is replaced whole (`Archive.write`): whoever is killed leaves the old one or the new one, and the next run
finds what is left to do. Files that a compaction merged and has not removed yet are written as well, and the folder is
listed again when all is done (`compaction.py` tells why that suffices). Locally a lock keeps two runs apart; on an
object store see to it that erasing and purging are run from one place at a time.
"""

from __future__ import annotations

import contextlib
import fcntl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from decision_service.archive.files import Archive
from decision_service.archive.schema import PERSONAL
from decision_service.archive.segments import RECORDS, Segment, place_name, segment_at
from decision_service.archive.tables import parquet_of
from decision_service.core.errors import ArchiveUnavailable

if TYPE_CHECKING:
    import pyarrow as pa

LOCK: Final = ".rewriting"
ROUNDS_MAX: Final = 10  # a compaction that merges meanwhile makes another one needed
_ASKED: Final = ("position", "customer_key", "customer_id", "raw", "erased_at_ms")
Bools = npt.NDArray[np.bool_]


@contextlib.contextmanager
def rewriting(archive: Archive) -> Iterator[None]:
    """Nobody else on this disk rewrites or purges the archive meanwhile; waits for who does."""
    if not archive.is_local:
        yield
        return
    path = Path(archive.full(LOCK))
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def files_of(archive: Archive, place: int) -> list[Segment]:
    """Every file of a place, also those that are hidden by a merged one, in order of their first rows."""
    found = []
    for day in archive.days():
        folder = f"{RECORDS}/day={day}/p={place_name(place)}"
        found += [segment_at(f"{folder}/{name}") for name in archive.names(folder)]
    return sorted((segment for segment in found if segment is not None), key=lambda one: (one.first, one.path))


class Keys:
    """What is asked of a file before it is rewritten, by columns."""

    def __init__(self, table: pa.Table) -> None:
        self.positions: npt.NDArray[np.int64] = table["position"].to_numpy()
        self.keys: npt.NDArray[np.int64] = table["customer_key"].fill_null(0).to_numpy()
        self.whole: Bools = table["erased_at_ms"].is_null().to_numpy()
        whose, raw = (table[name].is_valid().to_numpy() for name in ("customer_id", "raw"))
        self.payload: Bools = (whose | raw) & self.whole


def rewrite_place(
    archive: Archive, place: int, positions: range, wanted: Callable[[Keys], Bools], at_ms: int,
    tell: Callable[[int], None] = lambda rows: None,
) -> int:  # fmt: skip
    """Take what is personal of the `wanted` rows out of those files of a place that hold any of `positions`; how many
    rows were written so. ArchiveUnavailable."""
    erased = 0
    for _ in range(ROUNDS_MAX):
        found = 0
        for segment in files_of(archive, place):
            if segment.last >= positions.start and segment.first < positions.stop:
                found += _rewrite(archive, segment, wanted, at_ms)
                tell(erased + found)
        erased += found
        if not found:
            return erased
    raise ArchiveUnavailable(f"files of place {place_name(place)} change all the time: is a compaction running?")


def _rewrite(archive: Archive, segment: Segment, wanted: Callable[[Keys], Bools], at_ms: int) -> int:
    """Rewrite one file if a row of it is wanted; how many are."""
    try:
        mask = wanted(Keys(archive.read(segment, _ASKED)))
        if not mask.any():
            return 0
        previous, _ = archive.hashes(segment)
        with archive.open(segment) as file:
            group_rows = file.metadata.row_group(0).num_rows  # small ones are for look-ups (`compaction.py`)
        archive.write(segment.path, parquet_of(_without(archive.read(segment), mask, at_ms), previous, group_rows))
    except FileNotFoundError:  # merged and removed: the merged one is in the next list
        return 0
    return int(mask.sum())


def _without(table: pa.Table, mask: Bools, at_ms: int) -> pa.Table:
    """The table with these rows erased."""
    import pyarrow as pa
    import pyarrow.compute as pc

    which = pa.array(mask)
    columns: dict[str, Any] = {name: table[name] for name in table.column_names}
    for name in (*(column.name for column in PERSONAL), "salt"):
        columns[name] = pc.if_else(which, pa.scalar(None, table.schema.field(name).type), table[name])
    columns["erased_at_ms"] = pc.if_else(which, pa.scalar(at_ms, pa.int64()), table["erased_at_ms"])
    return pa.table(columns, schema=table.schema)
