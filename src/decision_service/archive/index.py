"""The index: in which row of a place's archive a decision stands. Written by compaction, read by look-up.

    <root>/index/p=0a3/000000000001-000000390625.idx      covers the rows of these positions of the place

    header   8s  magic "DSIX0001" | u8 first position | u8 last position | u8 count
    keys     u8 x count, rising: the first 8 bytes of the digest in a decision's id
    places   u8 x count: day (since 1970-01-01) x 2^44 + position
    trailer  u4  CRC-32 of all before; little-endian throughout

An entry tells day and position, which a row keeps for ever, and no file: so an index stays right when files of a day
become one, or when a person's payload is erased. Rows of every kind that name a decision have an entry (its change,
what shadows said). Two decisions may share a key; whoever reads the row compares the whole id.

A new index is merged with those before it while they are less than MERGE_FACTOR times as large: a place has as many
indexes as the logarithm of its rows, and every entry is written that many times. An index whose range lies inside
another's is ignored, and removed by the next compaction. What is covered by no index is found by reading the column.

Why an index, measured (one core; one partition of 100 M rows over 256 partitions and 100 days: 390,600 rows in 200
files; `benchmarks/archive_lookup.py`): footers alone 98 ms, a column scan 266 ms, a filtered dataset 258 ms (412 ms of
CPU), Polars 59 ms (112 ms of CPU), all of which grow with the number of files; the index 0.1 ms, and 9 ms for the row.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Final, NamedTuple
from zlib import crc32

import numpy as np
import numpy.typing as npt

from decision_service.store.keys import digest_in_decision_id

MAGIC: Final = b"DSIX0001"
POSITION_BITS: Final = 44
MERGE_FACTOR: Final = 4
_HEADER: Final = struct.Struct("<8sQQQ")
_TRAILER_BYTES: Final = 4
_POSITION_MASK: Final = (1 << POSITION_BITS) - 1

Words = npt.NDArray[np.uint64]


class Entry(NamedTuple):
    """Where a row stands: the day of its file, and its position in the chain of its place."""

    day: int
    position: int


class IndexDamaged(ValueError):
    """Bytes that are no index, or were changed since it was written."""


class Index:
    """One index: the rows of positions `first` to `last` of a place."""

    __slots__ = ("_keys", "_places", "first", "last")

    def __init__(self, first: int, last: int, keys: Words, places: Words) -> None:
        self.first, self.last = first, last
        self._keys, self._places = keys, places

    def __len__(self) -> int:
        return len(self._keys)

    @property
    def last_day(self) -> int:
        """The latest day that it tells of; 0 if it is empty."""
        return int(self._places.max() >> np.uint64(POSITION_BITS)) if len(self._places) else 0

    def find(self, key: int) -> list[Entry]:
        """The rows under a key."""
        wanted = np.uint64(key)
        low = int(np.searchsorted(self._keys, wanted, "left"))
        high = int(np.searchsorted(self._keys, wanted, "right"))
        places = (int(place) for place in self._places[low:high])
        return [Entry(place >> POSITION_BITS, place & _POSITION_MASK) for place in places]

    def to_bytes(self) -> bytes:
        """The file."""
        header = _HEADER.pack(MAGIC, self.first, self.last, len(self._keys))
        whole = header + self._keys.tobytes() + self._places.tobytes()
        return whole + crc32(whole).to_bytes(_TRAILER_BYTES, "little")

    @classmethod
    def from_bytes(cls, whole: bytes | memoryview) -> Index:
        """The index in a file. IndexDamaged."""
        if len(whole) < _HEADER.size + _TRAILER_BYTES or bytes(whole[:8]) != MAGIC:
            raise IndexDamaged("not an index of an archive")
        _, first, last, count = _HEADER.unpack_from(whole)
        if len(whole) != _HEADER.size + 16 * count + _TRAILER_BYTES:
            raise IndexDamaged(f"a torn index: {len(whole)} bytes for {count} entries")
        body = memoryview(whole)[:-_TRAILER_BYTES]
        if crc32(body) != int.from_bytes(whole[-_TRAILER_BYTES:], "little"):
            raise IndexDamaged("an index of which something was changed")
        words = np.frombuffer(body, "<u8", 2 * count, _HEADER.size)
        return cls(first, last, words[:count], words[count:])


def key_of(decision_id: str) -> int | None:
    """The key of a decision; None for what is no decision id."""
    digest = digest_in_decision_id(decision_id)
    return None if digest is None else int.from_bytes(digest[:8], "big")


def index_of(first: int, last: int, rows: Iterable[tuple[str, int, int]]) -> Index:
    """The index of rows `(decision_id, day, position)`; those whose id is none are left out."""
    keys, places = [], []
    for decision_id, day, position in rows:
        key = key_of(decision_id)
        if key is not None:
            keys.append(key)
            places.append((day << POSITION_BITS) | position)
    return _sorted(first, last, np.array(keys, np.uint64), np.array(places, np.uint64))


def merged(parts: Sequence[Index]) -> Index:
    """Indexes whose ranges follow each other, as one."""
    for before, after in pairwise(parts):
        if after.first != before.last + 1:
            raise ValueError(f"positions {before.last + 1} to {after.first - 1} are in neither index")
    keys = np.concatenate([part._keys for part in parts])
    places = np.concatenate([part._places for part in parts])
    return _sorted(parts[0].first, parts[-1].last, keys, places)


def _sorted(first: int, last: int, keys: Words, places: Words) -> Index:
    order = np.lexsort((places, keys))
    return Index(first, last, keys[order], places[order])


def to_merge(sizes: Sequence[int], added: int) -> int:
    """How many of the newest indexes, by their number of entries, are merged with one of `added` entries."""
    taken = 0
    while taken < len(sizes) and sizes[-1 - taken] < MERGE_FACTOR * added:
        added += sizes[-1 - taken]
        taken += 1
    return taken


class Range(NamedTuple):
    """The positions that a file tells of."""

    first: int
    last: int


def outermost(ranges: Iterable[Range]) -> list[Range]:
    """Ranges without those that lie inside another, rising."""
    kept: list[Range] = []
    for one in sorted(set(ranges), key=lambda r: (r.first, -r.last)):
        if not kept or one.last > kept[-1].last:
            kept.append(one)
    return kept


def uncovered_from(ranges: Sequence[Range]) -> int:
    """The first position that no index tells of, given outermost ranges; what follows a gap counts as uncovered."""
    position = 1
    for one in ranges:
        if one.first > position:
            break
        position = one.last + 1
    return position


def file_name(one: Range) -> str:
    """The name of the file with this range."""
    return f"{one.first:012d}-{one.last:012d}.idx"


def range_of(name: str) -> Range | None:
    """The range a file's name tells; None for another file."""
    stem, _, suffix = name.rpartition(".")
    first, _, last = stem.partition("-")
    if suffix != "idx" or not (first.isdigit() and last.isdigit()):
        return None
    return Range(int(first), int(last))


def index_bytes(index: Index) -> int:
    """About the memory of an index."""
    return 16 * len(index) + 256
