"""Compaction: a closed day's many small segments of a place become one, and its index is brought up to date.

    day=D/p=0a3/  1-40 │ 41-90 │ 91-456      written by the consumer as entries came
                  1-456-c1                   written by a compaction; the three are hidden from now on, and removed once
                                             the one is GRACE_MS old: whoever listed them before may still read them

The rows are the same, in the same order, with the same hashes: the chain does not notice. A merged segment is read back
and compared before anything is removed. Rows of a day that come later make further segments, and are merged with it in
time. Row groups are small (GROUP_ROWS), so that reading one decision unpacks a few megabytes and not the day.

Killed at any point it leaves either nothing, or a merged segment beside the ones it was made of, which readers do not
see (`files.py`); the next run goes on. Several may run at once: they write the same bytes under the same names.

With an erasure, which writes segments anew while they are merged, this must hold: no row that is erased in one of the
files that hold it comes back from another. So after a merged segment is written its parts are looked at again, and if
one of them has changed it is made anew; an erasure writes every file that holds a row, hidden or not, and lists again
when it is done. Whoever is second sees what the first did. (On a local disk a lock keeps them apart besides.)

The index (`index.py`) of a place reaches from its first row to the last of the closed days, without a gap.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

from decision_service.archive.days import day_numbered, instant_of, number_of
from decision_service.archive.files import Archive
from decision_service.archive.index import Index, Range, index_of, merged, outermost, to_merge, uncovered_from
from decision_service.archive.index_files import IndexFiles
from decision_service.archive.rewriting import rewriting
from decision_service.archive.segments import Segment, segment_path, without_covered
from decision_service.archive.tables import parquet_of
from decision_service.core.errors import ArchiveDamaged
from decision_service.core.limits import DAY_MS, HOUR_MS

if TYPE_CHECKING:
    import pyarrow as pa

GROUP_ROWS: Final = 512
GRACE_MS: Final = HOUR_MS
LOOKED_BACK_DAYS: Final = 7  # before the last day that a place's index knows: what was hidden lately is removed there
TRIES_MAX: Final = 5
_WRITER: Final = "c1"


class Compacted(NamedTuple):
    """What was done about one place: segments merged into how many, how many removed, and rows newly in the index."""

    place: int
    merged: int = 0
    into: int = 0
    removed: int = 0
    indexed: int = 0
    problems: tuple[str, ...] = ()


def compact(
    archive: Archive, places: Sequence[int], now_ms: int, day: str | None = None, grace_ms: int = GRACE_MS
) -> Iterator[Compacted]:
    """Compact the closed days of places, or one `day` (which may be today); tells of each place. ArchiveUnavailable."""
    indexes = IndexFiles(archive)
    today = now_ms // DAY_MS
    for place in places:
        if day is None:
            since = max((index.last_day for index in indexes.of(place)), default=0) - LOOKED_BACK_DAYS
            days = [one for one in archive.days() if max(since, 0) <= number_of(one) < today]
        else:
            days = [day]
        done = Compacted(place)
        for one in days:
            done = _sum(done, _compact_day(archive, place, one, now_ms, grace_ms))
        through = max((number_of(one) for one in days), default=0)
        yield done._replace(indexed=bring_up(archive, indexes, place, through))


def _sum(a: Compacted, b: Compacted) -> Compacted:
    return Compacted(a.place, a.merged + b.merged, a.into + b.into, a.removed + b.removed, 0, a.problems + b.problems)


def _compact_day(archive: Archive, place: int, day: str, now_ms: int, grace_ms: int) -> Compacted:
    removed = _sweep(archive, place, day, now_ms, grace_ms)
    parts, into = 0, 0
    problems: list[str] = []
    try:
        for run in _runs(archive, without_covered(archive.segments_on(place, day)), problems):
            if len(run) > 1:
                with rewriting(archive):
                    _merge(archive, run)
                parts, into = parts + len(run), into + 1
    except FileNotFoundError:  # another compaction, or a purge, is at this day: the next run finds what is left to do
        return Compacted(place, parts, into, removed, 0, tuple(problems))
    if parts and grace_ms <= 0:
        removed += _sweep(archive, place, day, now_ms, grace_ms)
    return Compacted(place, parts, into, removed, 0, tuple(problems))


def _runs(archive: Archive, segments: Sequence[Segment], problems: list[str]) -> Iterator[list[Segment]]:
    """Segments that follow each other without a gap, by position and by hash."""
    run: list[Segment] = []
    last_hash = b""
    for segment in segments:
        previous_hash, segment_hash = archive.hashes(segment)
        if run and (segment.first != run[-1].last + 1 or previous_hash != last_hash):
            problems.append(f"{segment.path} does not follow {run[-1].path}: they stay apart")
            yield run
            run = []
        run.append(segment)
        last_hash = segment_hash
    if run:
        yield run


def _merge(archive: Archive, run: Sequence[Segment]) -> None:
    """Write the segments of a run as one."""
    import pyarrow as pa

    for _ in range(TRIES_MAX):
        stamps = [archive.stamp(segment.path) for segment in run]
        previous_hash, _ = archive.hashes(run[0])
        table = pa.concat_tables([archive.read(segment) for segment in run]).combine_chunks()
        path = _path_of(run, table)
        archive.write(path, parquet_of(table, previous_hash, GROUP_ROWS))
        written = Segment(run[0].place, run[0].day, run[0].first, run[-1].last, path)
        if not archive.read(written).equals(table):
            archive.remove(path)
            raise ArchiveDamaged(f"{path} does not read back as it was written; its parts are as they were")
        if stamps == [archive.stamp(segment.path) for segment in run]:
            return
    raise ArchiveDamaged(f"{run[0].path} and those after it change whenever they are merged")


def _path_of(run: Sequence[Segment], table: pa.Table) -> str:
    first, last = table["position"][0].as_py(), table["position"][-1].as_py()
    if (first, last) != (run[0].first, run[-1].last) or len(table) != last - first + 1:
        raise ArchiveDamaged(f"{run[0].path} and those after it do not hold the rows that their names say")
    return segment_path(run[0].place, run[0].day, first, last, _WRITER, table["hash"][-1].as_py())


def _sweep(archive: Archive, place: int, day: str, now_ms: int, grace_ms: int) -> int:
    """Remove segments that have been hidden for long enough; how many."""
    segments = archive.segments_on(place, day)
    kept = without_covered(segments)
    removed = 0
    for segment in segments:
        if segment in kept:
            continue
        cover = next(one for one in kept if one.first <= segment.first and segment.last <= one.last)
        if grace_ms <= 0 or now_ms - archive.modified_ms(cover.path) >= grace_ms:
            archive.remove(segment.path)
            removed += 1
    return removed


def bring_up(archive: Archive, indexes: IndexFiles, place: int, through_day: int) -> int:
    """Let the index of a place reach to the last row of a day; how many rows are new in it."""
    known = indexes.of(place)
    covered = reach_of(known)
    reaching = [index for index in known if index.last <= covered]
    since = max((index.last_day for index in reaching), default=0)
    segments = archive.segments(since * DAY_MS, instant_of(day_numbered(through_day)), [place])
    new = list(_following([segment for segment in segments if segment.last > covered], covered))
    if not new:
        return 0
    added = index_of(covered + 1, new[-1].last, _entries(archive, new, covered))
    count = to_merge([len(index) for index in reaching], len(added))
    indexes.write(place, merged([*reaching[len(reaching) - count :], added]))
    _remove_covered(indexes, place)
    return new[-1].last - covered


def _following(segments: Sequence[Segment], covered: int) -> Iterator[Segment]:
    """The segments up to the first gap; what a purge took from the front is none."""
    last = covered if covered or not segments else segments[0].first - 1
    for segment in segments:
        if segment.first > last + 1:
            return
        last = segment.last
        yield segment


def _entries(archive: Archive, segments: Sequence[Segment], covered: int) -> Iterator[tuple[str, int, int]]:
    for segment in segments:
        day = number_of(segment.day)
        table = archive.read(segment, ["position", "decision_id"])
        for position, decision_id in zip(table["position"].to_pylist(), table["decision_id"].to_pylist(), strict=True):
            if decision_id is not None and position > covered:
                yield decision_id, day, position


def _remove_covered(indexes: IndexFiles, place: int) -> None:
    ranges = indexes.ranges(place)
    for one in set(ranges) - set(outermost(ranges)):
        indexes.remove(place, one)


def reach_of(indexes: Sequence[Index]) -> int:
    """The last position that indexes reach without a gap."""
    return uncovered_from([Range(index.first, index.last) for index in indexes]) - 1
