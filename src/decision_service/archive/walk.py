"""The walk along a place's chain: every row is hashed again, and the first that is not as it was written is named.

    start, a link ──▶ segment ──▶ segment ──▶ ...      each row: position, audit digest, personal digest, hash
                        │           │
                     pins: checkpoints and the store's head say which hash a row must have

A batch of BATCH_ROWS is hashed by columns (`digests.py`) and compared whole; only if something differs are its rows
looked at. A row that does not fit is told, and the walk goes on behind it with the hash that it bears, so that one
exchanged row is told from a chain that was forged from there on. What is left out (a file, some rows) is told with its
positions, and the walk goes on with the hash that the next file says stood before it.

What an erased row may lack is decided at the end, for the row that ordered it comes later in the chain (`reasons.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from decision_service.archive.batches import Batch, Bools, first_difference
from decision_service.archive.chain import GENESIS
from decision_service.archive.checkpoints import Link
from decision_service.archive.defects import DEFECTS_PER_PLACE_MAX, Defect, Part
from decision_service.archive.digests import HASH_BYTES, chain, leaves
from decision_service.archive.files import Archive
from decision_service.archive.schema import FORMAT, arrow_schema
from decision_service.archive.segments import Segment, place_name
from decision_service.core.errors import DecisionServiceError

if TYPE_CHECKING:
    import pyarrow as pa

BATCH_ROWS: Final = 4_096  # about 15 MB of canonical bytes
ASTRAY: Final = 3  # rows
START: Final = Link(0, GENESIS)


@dataclass(slots=True)
class Payloads:
    """Of every row of a place that has, or had, a personal part: whose it is (0: not known), and whether it is gone.
    And the erasures of the place."""

    positions: list[npt.NDArray[np.int64]] = field(default_factory=list)
    keys: list[npt.NDArray[np.int64]] = field(default_factory=list)
    gone: list[Bools] = field(default_factory=list)
    erasures: list[tuple[int, int]] = field(default_factory=list)  # position, key


@dataclass(slots=True)
class Walked:
    """What came of walking a place."""

    place: int
    rows: int = 0
    bytes: int = 0
    segments: int = 0
    first: int = 0
    end: Link = START
    defects: list[Defect] = field(default_factory=list)
    pins_met: int = 0
    policies: set[str] = field(default_factory=set)
    payloads: Payloads = field(default_factory=Payloads)


class Walk:
    """One place, from a link on."""

    def __init__(
        self, archive: Archive, place: int, start: Link, pins: Mapping[int, Sequence[tuple[bytes, str]]]
    ) -> None:
        self.told = Walked(place, end=start)
        self._archive = archive
        self._position = start.position
        self._hash: bytes | None = start.hash  # None: not known, behind a file that cannot be read
        self._pins = dict(pins)
        self._agreed = start.position  # the last row that a pin agreed with

    def go(self, segments: Sequence[Segment]) -> Walked:
        """Walk along segments, in order of their first rows."""
        told = self.told
        for segment in segments:
            if len(told.defects) >= DEFECTS_PER_PLACE_MAX:
                break
            if segment.first <= self._position:
                self._defect(
                    "position", f"rows are there twice: {self._covered(segment)}", segment, segment.first, segment.last
                )
                continue
            if segment.first > self._position + 1:
                what = "rows are missing, the file that held them is gone"
                self._defect("position", what, segment, self._position + 1, segment.first - 1)
                self._position, self._hash = segment.first - 1, None
            self._walk(segment)
        told.end = Link(self._position, self._hash or GENESIS)
        return told

    def missing_tail(self) -> None:
        """Tell of rows that a pin knows behind the end."""
        beyond = {at: pins for at, pins in self._pins.items() if at > self._position}
        if beyond:
            last = max(beyond)
            by = beyond[last][0][1]
            what = f"the last rows are missing: {by} knows of {last}"
            self.told.defects.append(Defect("tail", what, "", self.told.place, self._position + 1, last))

    def _covered(self, segment: Segment) -> str:
        return f"the rows up to {self._position} stood in files before {segment.path.rpartition('/')[2]}"

    def _defect(
        self, part: Part, what: str, segment: Segment, position: int = 0, last: int = 0, decision_id: str = ""
    ) -> None:
        self.told.defects.append(Defect(part, what, segment.path, self.told.place, position, last, decision_id))

    def _walk(self, segment: Segment) -> None:
        try:
            with self._archive.open(segment) as file:
                self._check_heading(segment, file)
                astray = False
                for batch in file.iter_batches(BATCH_ROWS):
                    astray = self._check(segment, batch, astray)
                    if self._hash is None:
                        break
        except (DecisionServiceError, OSError, ValueError, KeyError) as error:  # PyArrow's errors are of these kinds
            self._defect("file", f"cannot be read: {error}", segment, self._position + 1, segment.last)
            self._hash = None
        if self._position < segment.last:
            if self._hash is not None:
                what = "rows are missing at the end of the file"
                self._defect("position", what, segment, self._position + 1, segment.last)
            self._position, self._hash = segment.last, None
        self.told.segments += 1

    def _check_heading(self, segment: Segment, file: Any) -> None:
        """The file is what its name says. With rows missing before it, the walk goes on with what it says of them."""
        told = {key.decode(): value.decode() for key, value in (file.schema_arrow.metadata or {}).items()}
        named = {
            "format": FORMAT, "place": place_name(segment.place), "first": str(segment.first), "last": str(segment.last)
        }  # fmt: skip
        wrong = [
            f"{name} {told.get(name)!r} instead of {value!r}"
            for name, value in named.items()
            if told.get(name) != value
        ]
        if wrong:
            self._defect("file", f"is not what its name says: {', '.join(wrong)}", segment, segment.first, segment.last)
        columns = [(column.name, column.type) for column in file.schema_arrow]
        if [name for name, _ in columns] != arrow_schema().names:
            raise ValueError("its columns are not those of the archive")
        if self._hash is None:
            self._hash = bytes.fromhex(told.get("previous_hash", ""))
        if self.told.first == 0:
            self.told.first = segment.first

    def _check(self, segment: Segment, batch: pa.RecordBatch, astray: bool) -> bool:
        """Check some rows; whether the chain is lost for the rest of the file."""
        rows = Batch(batch)
        good = self._known_rows(segment, rows)
        if good:
            rows = rows if good == rows.n else Batch(batch.slice(0, good))
            self._check_digests(segment, rows)
            astray = self._check_hashes(segment, rows, astray)
            self._note(rows)
        if good < batch.num_rows:  # nothing more is to be learnt of this file
            self._position, self._hash = segment.last, None
        return astray

    def _known_rows(self, segment: Segment, rows: Batch) -> int:
        """How many rows stand where they belong; what the first other one is is told."""
        expected = np.arange(self._position + 1, self._position + 1 + rows.n)
        wrong = rows.positions != expected
        if wrong.any():
            at = int(wrong.argmax())
            found, due = int(rows.positions[at]), int(expected[at])
            later = rows.positions[at:]
            if found > due and due not in later:
                what, last = f"removed: row {found} follows row {due - 1}", found - 1
            elif found < due:
                what, last = f"inserted or repeated: row {found} stands behind row {due - 1}", 0
            else:
                what, last = f"reordered: row {found} stands where row {due} belongs", 0
            self._defect("position", what, segment, due, last, rows.decision(at))
            return at
        places = np.flatnonzero((rows.ints("partition") != segment.place) | rows.on_other_day(segment.day))
        if len(places):
            at = int(places[0])
            self._defect("file", "the row is of another place or day", segment, int(expected[at]), 0, rows.decision(at))
        return rows.n

    def _check_digests(self, segment: Segment, rows: Batch) -> None:
        for part, wrong, what in rows.changed():
            for at in np.flatnonzero(wrong)[: DEFECTS_PER_PLACE_MAX - len(self.told.defects)].tolist():
                self._defect(part, what, segment, int(rows.positions[at]), 0, rows.decision(at))

    def _check_hashes(self, segment: Segment, rows: Batch, astray: bool) -> bool:
        """Check that rows follow one another; the first of a run that do not is told. A hash that was exchanged makes a
        run of two; with ASTRAY in a row the rest of the file will not follow, either."""
        assert self._hash is not None
        leaf, stored = leaves(rows.table), rows.digests("hash")
        done = run = 0
        while done < rows.n and not astray:
            rest = stored[done * HASH_BYTES :]
            computed = b"".join(chain(leaf[done * HASH_BYTES :], self._hash))
            if computed == rest:
                break
            at = done + first_difference(computed, rest)
            run = run + 1 if at == done and run else 1
            if run == 1:
                what = "does not follow the row before: it was exchanged, or rows before it were"
                self._defect("chain", what, segment, int(rows.positions[at]), 0, rows.decision(at))
            self._hash, done = stored[at * HASH_BYTES : (at + 1) * HASH_BYTES], at + 1
            astray = run == ASTRAY or len(self.told.defects) >= DEFECTS_PER_PLACE_MAX
        self._check_pins(segment, rows, stored)
        self._position, self._hash = int(rows.positions[-1]), stored[-HASH_BYTES:]
        self.told.rows += rows.n
        return astray

    def _check_pins(self, segment: Segment, rows: Batch, stored: bytes) -> None:
        first = int(rows.positions[0])
        for position in sorted(at for at in self._pins if first <= at < first + rows.n):
            at = position - first
            for pinned, by in self._pins.pop(position):
                if pinned == stored[at * HASH_BYTES : (at + 1) * HASH_BYTES]:
                    self._agreed = position
                    self.told.pins_met += 1
                    continue
                what = f"is not the row that {by} pinned: the chain was forged from a row between these on"
                self._defect("checkpoint", what, segment, self._agreed + 1, position, rows.decision(at))

    def _note(self, rows: Batch) -> None:
        """Keep what is asked at the end."""
        payloads = self.told.payloads
        keys, kept = rows.keys(), rows.with_payload() | rows.erased
        payloads.positions.append(rows.positions[kept])
        payloads.keys.append(keys[kept])
        payloads.gone.append(rows.erased[kept])
        for at in np.flatnonzero(rows.are("erasure")).tolist():
            payloads.erasures.append((int(rows.positions[at]), int(keys[at])))
        self.told.policies |= rows.policies()
        self.told.bytes += rows.table.nbytes
