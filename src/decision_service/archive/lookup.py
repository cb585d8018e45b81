"""Look-up: a decision by its id, from the archive.

    decision id ──▶ place: its three hex digits ──▶ indexes ──▶ day and position ──▶ segment ──▶ one row group ──▶ row
                                                └─ where no index reaches: the column `decision_id` of each segment,
                                                   newest first, until the decision is found

An id names the place and not the day, so without an index every segment of the place would have to be asked: 1.2 ms
each (`index.py` has the figures). With it the cost does not grow with the years. Segments of days that no compaction
has seen yet are few, and while a decision is that young the store has it.

A reader whose segment is merged while it reads lists again; a row stays at its day and position for ever.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import orjson

from decision_service.archive.days import day_numbered, instant_of
from decision_service.archive.index import Entry, Range, key_of, uncovered_from
from decision_service.archive.index_files import IndexFiles
from decision_service.archive.reading import read_columns, read_rows
from decision_service.archive.rows import frame_of
from decision_service.archive.schema import COLUMNS, Row
from decision_service.archive.segments import Segment, without_covered
from decision_service.archive.told import remains_of
from decision_service.core.errors import ArchiveUnavailable
from decision_service.core.limits import DAY_MS
from decision_service.store.keys import partition_of_kept

if TYPE_CHECKING:
    from decision_service.archive.files import Archive

LISTINGS_MAX: Final = 5  # of a place that is compacted again and again while it is read
ALL_COLUMNS: Final = tuple(column.name for column in COLUMNS)
ANSWER_COLUMNS: Final = ("partition", "position", "kind", "decision_id", "magic", "fingerprint", "answer")
_DECIDED: Final = "change"
_SHADOW: Final = "shadow"
_SHADOW_POLICY: Final = "shadow_policy"


class Archived(NamedTuple):
    """A decision as the archive has it, with what shadow scorecards and the shadow policy said of it, if that is
    archived."""

    row: Row
    shadows: dict[str, Any] | None = None
    shadow_policy: dict[str, Any] | None = None

    @property
    def erased(self) -> bool:
        """Whether what is personal was erased."""
        return self.row.erased_at_ms is not None

    @property
    def remains(self) -> dict[str, Any]:
        """What is still known of it once it is erased."""
        return remains_of(self.row)

    def frame(self) -> bytes:
        """The frame, byte for byte as the store had it. ValueError if it is erased."""
        return frame_of(self.row)


class Lookup:
    """Looks decisions up in an archive. Waits for disk or network: use it in a thread. ArchiveUnavailable."""

    def __init__(self, archive: Archive) -> None:
        self._archive = archive
        self._indexes = IndexFiles(archive)

    def decision(self, decision_id: str, day: str | None = None) -> Archived | None:
        """A decision with everything that is archived of it, or None. `day` (2026-11-22, UTC) is a hint where to look
        among what no index reaches. ValueError for what is no decision id."""
        rows = self._rows(decision_id, ALL_COLUMNS, day, indexed_only=False)
        said = {row.kind: row for row in rows}
        row = next((row for row in reversed(rows) if decides(row)), None)
        return None if row is None else Archived(row, scores_in(said.get(_SHADOW)), body_in(said.get(_SHADOW_POLICY)))

    def answer(self, decision_id: str, *, indexed_only: bool = False) -> Row | None:
        """The row of a decision with its answer and fingerprint and nothing else, for a fifth of the time; None if
        there is none. `indexed_only` does not look where no index reaches: a miss then costs a tenth of a
        millisecond."""
        rows = self._rows(decision_id, ANSWER_COLUMNS, None, indexed_only=indexed_only)
        return next((row for row in reversed(rows) if decides(row)), None)

    def _rows(self, decision_id: str, columns: Sequence[str], day: str | None, *, indexed_only: bool) -> list[Row]:
        place, key = partition_of_kept(decision_id), key_of(decision_id)
        assert key is not None
        for _ in range(LISTINGS_MAX):
            try:
                indexes = self._indexes.of(place)
                entries = sorted(entry for index in indexes for entry in index.find(key))
                found = [row for row in self._at(place, entries, columns) if row.decision_id == decision_id]
                if indexed_only or any(map(decides, found)):
                    return found
                covered = uncovered_from([Range(index.first, index.last) for index in indexes]) - 1
                reached = [index.last_day for index in indexes if index.last <= covered]
                tail = self._tail(place, covered, max(reached, default=0), day)
                return found + self._scanned(tail, decision_id, columns)
            except FileNotFoundError:
                continue
        raise ArchiveUnavailable(f"the files of {decision_id} are gone whenever they are listed")

    def _at(self, place: int, entries: Iterable[Entry], columns: Sequence[str]) -> list[Row]:
        """The rows at days and positions; what a purge has removed since is left out."""
        found: list[Row] = []
        by_day: dict[int, list[int]] = defaultdict(list)
        for entry in entries:
            by_day[entry.day].append(entry.position)
        for day, positions in by_day.items():
            for segment in without_covered(self._archive.segments_on(place, day_numbered(day))):
                offsets = [p - segment.first for p in positions if segment.first <= p <= segment.last]
                if offsets:
                    found += read_rows(self._archive, segment, offsets, columns)
        return found

    def _tail(self, place: int, covered: int, covered_day: int, day: str | None) -> list[Segment]:
        """The segments that no index reaches, newest first."""
        at_ms = None if day is None else instant_of(day)
        segments = self._archive.segments(covered_day * DAY_MS if at_ms is None else at_ms, at_ms, [place])
        return [segment for segment in reversed(segments) if segment.last > covered]

    def _scanned(self, segments: Iterable[Segment], decision_id: str, columns: Sequence[str]) -> list[Row]:
        """The rows of a decision by reading the column, up to the segment that has the decision itself."""
        import pyarrow.compute as pc

        found: list[Row] = []
        for segment in segments:
            ids = read_columns(self._archive, segment, ["decision_id"])["decision_id"]
            offsets = pc.indices_nonzero(pc.equal(ids, decision_id)).to_pylist()
            if offsets:
                found = read_rows(self._archive, segment, offsets, columns) + found
                if any(map(decides, found)):
                    break
        return found


def scores_in(row: Row | None) -> dict[str, Any] | None:
    """What a row of kind `shadow` tells that shadow scorecards scored."""
    body = body_in(row)
    return None if body is None else body["scores"]


def body_in(row: Row | None) -> dict[str, Any] | None:
    """The body of a row."""
    return None if row is None or row.body is None else orjson.loads(row.body)


def decides(row: Row) -> bool:
    """Whether a row is a decision's own, with its frame or the remains of it."""
    return row.kind == _DECIDED and row.magic is not None
