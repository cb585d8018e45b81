"""Search: the decisions that fit a question, newest first, a page at a time.

The order is that of recording: the instant at which the store took the decision in (`at_ms`, `at_n` of its entry), then
the partition. Folders are days of that instant, so nothing outside the days asked for is looked at, and a page goes on
where the one before ended (`Cursor`) whatever is recorded meanwhile. A decision is recorded within its deadline; a
static answer that waited in a journal, when it is delivered.

    day, newest first ──▶ segments of its places ──▶ the columns that the question names ──▶ the newest that fit
         until there are enough, or WORK_S is spent                                          └─ only their rows are read

A day is looked through as a whole, for every partition has its own files. So a page costs at least a day, and it ends
between two days: it may hold less than was asked for, or nothing, and still have a next one.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from time import monotonic
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from decision_service.archive.days import LATEST_MS, instant_of
from decision_service.archive.reading import read_columns, read_rows
from decision_service.archive.rows import signed
from decision_service.archive.schema import Row
from decision_service.archive.segments import Segment, day_of
from decision_service.archive.told import SUMMARY_COLUMNS
from decision_service.core.errors import ArchiveUnavailable
from decision_service.core.links import customer_key
from decision_service.store.keys import partition_of

if TYPE_CHECKING:
    import pyarrow as pa

    from decision_service.archive.files import Archive

LIMIT_MAX: Final = 500
WORK_S: Final = 2.0
LISTINGS_MAX: Final = 5
_BEFORE_ALL: Final = -(1 << 30)  # a partition below all
_TEXTS: Final = {"outcome": "outcome", "policy": "policy_id"}  # field of the question: column
_LISTS: Final = {"reason": "reasons", "rule": "rules"}

Mask = npt.NDArray[np.bool_]


class Cursor(NamedTuple):
    """Where a page ended: the next holds what was recorded before. Written `1795300000123-0.163`."""

    at_ms: int
    at_n: int
    partition: int

    def __str__(self) -> str:
        return f"{self.at_ms}-{self.at_n}.{self.partition}"

    @classmethod
    def parse(cls, text: str) -> Cursor:
        """The cursor in a text. ValueError."""
        instant, dot, partition = text.partition(".")
        at_ms, dash, at_n = instant.partition("-")
        if not dot or not dash or len(text) > 64 or not text.isascii():
            raise ValueError("must be the `after` of the page before")
        try:
            cursor = cls(int(at_ms), int(at_n), int(partition))
        except ValueError:
            raise ValueError("must be the `after` of the page before") from None
        if not (0 <= cursor.at_ms <= LATEST_MS and 0 <= cursor.at_n < 1 << 62):
            raise ValueError("must be the `after` of the page before")
        return cursor


class Question(NamedTuple):
    """What decisions are looked for; empty fields ask for nothing. Instants are of recording."""

    since_ms: int = 0
    until_ms: int = LATEST_MS + 1
    customer_id: str = ""
    outcome: str = ""
    reason: str = ""
    rule: str = ""
    policy: str = ""
    limit: int = 50
    after: Cursor | None = None

    def places(self, partitions: int) -> list[int]:
        """The places that may hold such decisions."""
        return [partition_of(self.customer_id, partitions)] if self.customer_id else list(range(partitions))

    def fits(self, row: Row) -> bool:
        """Whether a row is one of those looked for."""
        return (
            row.kind == "change" and row.outcome is not None and self.since_ms <= row.at_ms < self.until_ms
            and (self.after is None or key_of(row) < self.after)
            and (not self.customer_id or row.customer_key == signed(customer_key(self.customer_id)))
            and all(not getattr(self, f) or getattr(row, column) == getattr(self, f) for f, column in _TEXTS.items())
            and all(
                not getattr(self, f) or getattr(self, f) in (getattr(row, column) or ()) for f, column in _LISTS.items()
            )
        )  # fmt: skip


class Page(NamedTuple):
    """Decisions newest first; where the next page begins, if there may be one; the day through which was looked."""

    rows: list[Row]
    after: Cursor | None
    searched_from_ms: int


class _Hit(NamedTuple):
    """A decision that fits: its key, and where it stands, or the row itself if it is not archived yet."""

    key: Cursor
    segment: Segment | None = None
    offset: int = 0
    row: Row | None = None


def search(
    archive: Archive, question: Question, partitions: int, waiting: Sequence[Row] = (),
    clock: Callable[[], float] = monotonic,
) -> Page:  # fmt: skip
    """One page. `waiting` are decisions that may not be archived yet. ArchiveUnavailable."""
    until = clock() + WORK_S
    hits = {key_of(row): _Hit(key_of(row), row=row) for row in waiting if question.fits(row)}
    end, searched_from_ms = Cursor(question.since_ms, 0, _BEFORE_ALL), question.since_ms
    days = _days(archive, question)
    for number, day in enumerate(days):
        hits = {hit.key: hit for hit in chain(_hits_on(archive, day, question, partitions), hits.values())}
        if number + 1 < len(days) and (_enough(hits, day, question) or clock() >= until):
            searched_from_ms = instant_of(day)
            end = Cursor(searched_from_ms, 0, _BEFORE_ALL)
            break
    looked_through = sorted((hit for key, hit in hits.items() if key >= end), reverse=True)
    told = looked_through[: question.limit]
    more = len(looked_through) > len(told)
    at_end = searched_from_ms <= question.since_ms
    after = told[-1].key if more else None if at_end else end
    return Page(_rows(archive, told), after, told[-1].key.at_ms if more else searched_from_ms)


def key_of(row: Row) -> Cursor:
    """Where a row stands in the order of recording."""
    return Cursor(row.at_ms, row.at_n, row.partition)


def _days(archive: Archive, question: Question) -> list[str]:
    """The days that may hold such decisions, newest first."""
    latest_ms = min(question.until_ms - 1, LATEST_MS if question.after is None else question.after.at_ms)
    first, last = day_of(question.since_ms), day_of(latest_ms)
    return [day for day in reversed(archive.days()) if first <= day <= last]


def _enough(hits: dict[Cursor, _Hit], day: str, question: Question) -> bool:
    begin = Cursor(instant_of(day), 0, _BEFORE_ALL)
    return sum(key >= begin for key in hits) > question.limit


def _hits_on(archive: Archive, day: str, question: Question, partitions: int) -> list[_Hit]:
    """The newest decisions of a day that fit, one more than the page needs."""
    for _ in range(LISTINGS_MAX):
        try:
            at_ms = instant_of(day)
            segments = archive.segments(at_ms, at_ms, question.places(partitions))
            found = chain.from_iterable(_hits_in(archive, segment, question) for segment in segments)
            return heapq.nlargest(question.limit + 1, found)
        except FileNotFoundError:  # merged meanwhile
            continue
    raise ArchiveUnavailable(f"the files of {day} are gone whenever they are listed")


def _hits_in(archive: Archive, segment: Segment, question: Question) -> Iterator[_Hit]:
    columns = ["kind", "at_ms", "at_n", "outcome", *(["customer_key"] if question.customer_id else [])]
    columns += [c for f, c in (*_TEXTS.items(), *_LISTS.items()) if getattr(question, f) and c not in columns]
    table = read_columns(archive, segment, columns)
    at_ms, at_n = _integers(table["at_ms"]), _integers(table["at_n"])
    fit = _fitting(table, question) & (at_ms >= question.since_ms) & (at_ms < question.until_ms)
    if (after := question.after) is not None:
        beyond = after.at_n + (1 if segment.place < after.partition else 0)
        fit &= (at_ms < after.at_ms) | ((at_ms == after.at_ms) & (at_n < beyond))
    for offset in np.flatnonzero(fit).tolist():
        yield _Hit(Cursor(int(at_ms[offset]), int(at_n[offset]), segment.place), segment, offset)


def _fitting(table: pa.Table, question: Question) -> Mask:
    """Which rows are decisions that fit, instants left aside."""
    import pyarrow.compute as pc

    conditions = [pc.equal(table["kind"], "change"), pc.is_valid(table["outcome"])]
    conditions += [
        pc.equal(table[column], value) for field, column in _TEXTS.items() if (value := getattr(question, field))
    ]
    if question.customer_id:
        conditions.append(pc.equal(table["customer_key"], signed(customer_key(question.customer_id))))
    fit = np.ones(len(table), np.bool_)
    for condition in conditions:
        fit &= pc.fill_null(condition, False).to_numpy()
    for field, column in _LISTS.items():
        if value := getattr(question, field):
            fit &= _holding(table[column], value)
    return fit


def _holding(lists: pa.ChunkedArray, value: str) -> Mask:
    """Which lists hold a value."""
    import pyarrow.compute as pc

    held = np.zeros(len(lists), np.bool_)
    start = 0
    for chunk in lists.chunks:
        holders = pc.list_parent_indices(chunk).filter(pc.equal(pc.list_flatten(chunk), value))
        held[start + holders.to_numpy(zero_copy_only=False)] = True
        start += len(chunk)
    return held


def _integers(column: pa.ChunkedArray) -> npt.NDArray[np.int64]:
    values: npt.NDArray[np.int64] = column.to_numpy()
    return values


def _rows(archive: Archive, hits: Sequence[_Hit]) -> list[Row]:
    """The rows of hits, in their order; what was merged meanwhile is read from where it is now."""
    found: dict[Cursor, Row] = {hit.key: hit.row for hit in hits if hit.row is not None}
    for _ in range(LISTINGS_MAX):
        by_segment: dict[Segment, list[int]] = defaultdict(list)
        for hit in hits:
            if hit.segment is not None and hit.key not in found:
                by_segment[hit.segment].append(hit.offset)
        try:
            for segment, offsets in by_segment.items():
                found.update((key_of(row), row) for row in read_rows(archive, segment, offsets, SUMMARY_COLUMNS))
            return [found[hit.key] for hit in hits]
        except FileNotFoundError:
            hits = [_found_again(archive, hit) for hit in hits]
    raise ArchiveUnavailable("files of the archive are gone whenever they are listed")


def _found_again(archive: Archive, hit: _Hit) -> _Hit:
    if hit.segment is None:
        return hit
    position, at_ms = hit.segment.first + hit.offset, hit.key.at_ms
    for segment in archive.segments(at_ms, at_ms, [hit.segment.place]):
        if segment.first <= position <= segment.last:
            return hit._replace(segment=segment, offset=position - segment.first)
    raise ArchiveUnavailable(f"row {position} of a place is no longer there: it was purged meanwhile")
