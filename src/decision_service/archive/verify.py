"""Verifying an archive: nothing was changed, removed, inserted or reordered since it was written; or what, and where.

    checkpoints ── believed if their signers are trusted ──▶ pins, and where retention lets a chain begin
    the store's heads, if a store is asked ────────────────▶ pins
    records/    ── place by place, each in a process ──────▶ walk (`walk.py`) ──▶ reasons (`reasons.py`)
    policies/ contents/ cards/ lists/ ─────────────────────▶ documents (`documents.py`)

It streams: memory is a batch of rows and 17 bytes for every row of the place that is walked. Verifying a span of days
begins at the hash that the first file says stood before it, which nothing proves but a checkpoint inside the span.

What it cannot show: rows and checkpoints that were both cut off at the end, unless the store is asked or a copy of a
later checkpoint is given; and what was wrong before it was archived.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from typing import Any, Final, NamedTuple

from decision_service.archive.checkpoints import (
    CheckpointDefect,
    KeptCheckpoint,
    Link,
    checked,
    decode,
    read_checkpoints,
)
from decision_service.archive.defects import Defect
from decision_service.archive.documents import Documents
from decision_service.archive.files import Archive
from decision_service.archive.reasons import left_over, unexplained
from decision_service.archive.segments import RECORDS, Segment, day_of, place_name, place_of, segment_at
from decision_service.archive.walk import START, Walk, Walked
from decision_service.policies.signers import Signers

ERASURES: Final = "erasures"  # notes of erasures that were carried out
_NOTE: Final = re.compile(r"([0-9a-z]+)-(\d{12})\.json")
STORE: Final = "the store"
WORTH_A_PROCESS: Final = 100_000  # rows: below that a process takes longer to start than the walk
Pins = dict[int, list[tuple[bytes, str]]]


class Span(NamedTuple):
    """What of an archive is verified. None: all of it."""

    since_ms: int | None = None
    until_ms: int | None = None
    places: Sequence[int] | None = None

    @property
    def whole(self) -> bool:
        """Whether all rows of the places are walked."""
        return self.since_ms is None and self.until_ms is None


class PlaceTask(NamedTuple):
    """One place to walk."""

    url: str
    storage_options: Mapping[str, Any]
    place: int
    segments: Sequence[Segment]
    later: Sequence[Segment]  # behind the span: only their erasures are read
    start: Link | None  # None: what the first file says
    pins: Pins
    payload: int
    carried_out: frozenset[int]
    to_the_end: bool


class PlaceVerdict(NamedTuple):
    """What a place's walk found."""

    place: int
    rows: int
    bytes: int
    files: int
    first: int
    end: Link
    pins_met: int
    policies: frozenset[str]
    defects: Sequence[Defect]
    pending: Sequence[tuple[int, int]]  # erasures that are not carried out: position, rows


@dataclass(slots=True)
class Verification:
    """What verifying found."""

    places: list[PlaceVerdict] = field(default_factory=list)
    defects: list[Defect] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    checkpoints: int = 0
    believed: int = 0
    documents: int = 0
    newest: KeptCheckpoint | None = None
    seconds: float = 0.0

    @property
    def rows(self) -> int:
        """Rows that were walked."""
        return sum(place.rows for place in self.places)

    @property
    def sound(self) -> bool:
        """Whether nothing is wrong."""
        return not self.defects

    def as_json(self) -> dict[str, Any]:
        """For a report."""
        return {
            "sound": self.sound, "rows": self.rows, "files": sum(place.files for place in self.places),
            "bytes": sum(place.bytes for place in self.places), "seconds": round(self.seconds, 3),
            "checkpoints": self.checkpoints, "believed": self.believed,
            "pinned": sum(place.pins_met for place in self.places), "documents": self.documents,
            "defects": [defect.as_json() for defect in self.defects], "notes": self.notes,
            "places": {
                place_name(one.place): {"first": one.first, "last": one.end.position, "hash": one.end.hash.hex()}
                for one in self.places
            },
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Evidence:
    """What else than the rows is believed. `trusted` None: signatures are not looked at. `heads`: the store's, by
    place, read before the files were listed. `copies`: checkpoints kept elsewhere, name and file."""

    trusted: Signers | None = None
    heads: Mapping[int, Link] | None = None
    copies: Sequence[tuple[str, bytes]] = ()


def verify(
    url: str, storage_options: Mapping[str, Any], span: Span, evidence: Evidence, jobs: int = 1,
    tell: Callable[[int], None] = lambda rows: None,
) -> Verification:  # fmt: skip
    """Verify an archive. `tell` hears how many rows are done. ArchiveUnavailable if the archive itself cannot be
    asked."""
    began = time.monotonic()
    archive = Archive(url, storage_options)
    told = Verification()
    believed = _checkpoints(archive, evidence, told)
    segments = archive_files(archive, span.places, told.defects)
    tasks = list(_tasks(archive, storage_options, segments, span, evidence, believed))
    for verdict in _walked(tasks, jobs):
        told.places.append(verdict)
        told.defects += verdict.defects
        told.notes += [
            f"place {place_name(verdict.place)}: the erasure of row {position} is not carried out on {rows} rows yet"
            for position, rows in verdict.pending
        ]
        tell(told.rows)
    if not told.rows:
        told.notes.append(f"no row was looked at: is {url} the archive, and are days and places right?")
    named = set().union(*(verdict.policies for verdict in told.places)) if told.places else set()
    pinned = {path: digest for kept in believed for path, digest in kept.checkpoint.kept.items()}
    documents = Documents(archive)
    told.defects += documents.check(named, pinned)
    told.documents = len(documents.looked_at)
    told.places.sort(key=lambda verdict: verdict.place)
    told.seconds = time.monotonic() - began
    return told


def _checkpoints(archive: Archive, evidence: Evidence, told: Verification) -> list[KeptCheckpoint]:
    """The checkpoints that are believed, oldest first."""
    kept, unreadable = read_checkpoints(archive)
    good, wrong = checked(kept, evidence.trusted)
    told.checkpoints = len(kept) + len(unreadable)
    told.believed = len(good)
    told.newest = good[-1] if good else None
    there = {one.sha256 for one in kept}
    for name, file in evidence.copies:
        try:
            copy = decode(name, file)
        except ValueError as error:
            wrong.append(CheckpointDefect(name, str(error)))
            continue
        if copy.sha256 not in there:
            wrong.append(CheckpointDefect(name, "is missing from the archive: it was removed or changed there"))
            good += checked([copy], evidence.trusted)[0]
    told.defects += [Defect("checkpoint", one.what, one.name) for one in (*unreadable, *wrong)]
    if not kept:
        told.notes.append("there is no checkpoint: whoever may write here could have forged all of it")
    elif evidence.trusted is None:
        told.notes.append("signatures of checkpoints were not looked at: no trusted keys were given")
    elif not good:
        told.defects.append(Defect("checkpoint", "none of the checkpoints is signed by a trusted key"))
    if evidence.heads is None:
        told.notes.append("the store was not asked how far each place is archived")
    return sorted(good, key=lambda one: one.checkpoint.at_ms)


def archive_files(archive: Archive, places: Sequence[int] | None, defects: list[Defect]) -> dict[int, list[Segment]]:
    """All segments by place in order of their first rows, those within others left out if a compaction made these; and
    what lies there and does not belong."""
    found: dict[int, list[Segment]] = {}
    for folder in archive.names(RECORDS):
        if not folder.startswith("day="):
            defects.append(Defect("file", "does not belong into an archive", f"{RECORDS}/{folder}"))
            continue
        for inner in archive.names(f"{RECORDS}/{folder}"):
            for name in archive.names(f"{RECORDS}/{folder}/{inner}"):
                path = f"{RECORDS}/{folder}/{inner}/{name}"
                segment = segment_at(path)
                if segment is None:
                    defects.append(Defect("file", "does not belong into an archive", path))
                elif places is None or segment.place in places:
                    found.setdefault(segment.place, []).append(segment)
    return {place: list(_without_merged(found[place])) for place in sorted(found)}


def _without_merged(segments: Iterable[Segment]) -> Iterable[Segment]:
    """Segments in order; what a compaction has merged and not removed yet is left out: readers do so as well."""
    merged_through = 0
    for segment in sorted(segments, key=lambda one: (one.first, -one.last, one.path)):
        if segment.last <= merged_through:
            continue
        if segment.path.rpartition("/")[2].split("-")[2].startswith("c"):
            merged_through = segment.last
        yield segment


def _tasks(
    archive: Archive, storage_options: Mapping[str, Any], segments: Mapping[int, list[Segment]], span: Span,
    evidence: Evidence, believed: Sequence[KeptCheckpoint],
) -> Iterable[PlaceTask]:  # fmt: skip
    """What is to be walked, place by place: also places of which only checkpoints or the store know."""
    newest = believed[-1].checkpoint if believed else None
    purged = dict(newest.purged) if newest else {}
    payload = dict(newest.payload) if newest else {}
    pins = _pins(believed, evidence.heads or {})
    done = _carried_out(archive)
    since = None if span.since_ms is None else day_of(span.since_ms)
    until = None if span.until_ms is None else day_of(span.until_ms)
    for place in sorted({*segments, *pins}):
        if span.places is not None and place not in span.places:
            continue
        start = purged.get(place, START)
        there = [segment for segment in segments.get(place, []) if segment.last > start.position]
        inside = [at for at, s in enumerate(there) if (not since or s.day >= since) and (not until or s.day <= until)]
        first, end = (inside[0], inside[-1] + 1) if inside else (max(0, len(there) - 1), 0 if until else len(there))
        yield PlaceTask(
            archive.url, storage_options, place, there[first:end], there[end:] if until else [],
            None if first else start, {at: told for at, told in pins.get(place, {}).items() if at > start.position},
            payload.get(place, 0), done.get(place, frozenset()), to_the_end=span.whole or until is None,
        )  # fmt: skip


def _pins(believed: Sequence[KeptCheckpoint], heads: Mapping[int, Link]) -> dict[int, Pins]:
    pins: dict[int, Pins] = {}
    told = [(place, link, kept.name) for kept in believed for place, link in kept.checkpoint.places.items()]
    told += [(place, link, kept.name) for kept in believed for place, link in kept.checkpoint.purged.items()]
    told += [(place, link, STORE) for place, link in heads.items()]
    for place, link, by in told:
        if link.position:
            at = pins.setdefault(place, {}).setdefault(link.position, [])
            if all(link.hash != pinned for pinned, _ in at):
                at.append((link.hash, by))
    return pins


def _carried_out(archive: Archive) -> dict[int, frozenset[int]]:
    """The positions of erasures that were carried out, by place."""
    done: dict[int, set[int]] = {}
    for name in archive.names(ERASURES):
        if note := _NOTE.fullmatch(name):
            done.setdefault(place_of(note[1]), set()).add(int(note[2]))
    return {place: frozenset(positions) for place, positions in done.items()}


def _walked(tasks: Sequence[PlaceTask], jobs: int) -> Iterable[PlaceVerdict]:
    rows = sum(segment.last - segment.first for task in tasks for segment in task.segments)
    if jobs <= 1 or len(tasks) <= 1 or rows < WORTH_A_PROCESS:
        yield from map(walk_place, tasks)
        return
    with ProcessPoolExecutor(min(jobs, len(tasks)), mp_context=get_context("spawn")) as pool:
        yield from pool.map(walk_place, sorted(tasks, key=lambda task: -sum(s.last - s.first for s in task.segments)))


def walk_place(task: PlaceTask) -> PlaceVerdict:
    """Walk one place; in a process of its own."""
    archive = Archive(task.url, task.storage_options)
    start = task.start
    if start is None:
        previous, _ = archive.hashes(task.segments[0])
        start = Link(task.segments[0].first - 1, previous)
    walk = Walk(archive, task.place, start, task.pins)
    walked = walk.go(task.segments)
    if task.to_the_end:
        walk.missing_tail()
    payloads = walked.payloads
    payloads.erasures += _erasures(archive, task.later)
    defects = [*walked.defects, *unexplained(task.place, payloads, task.payload)]
    again, pending = left_over(task.place, payloads, task.carried_out)
    return _verdict(walked, [*defects, *again], pending)


def _verdict(walked: Walked, defects: Sequence[Defect], pending: Sequence[tuple[int, int]]) -> PlaceVerdict:
    ordered = sorted(defects, key=lambda defect: defect.position)
    return PlaceVerdict(
        walked.place, walked.rows, walked.bytes, walked.segments, walked.first, walked.end, walked.pins_met,
        frozenset(walked.policies), ordered, pending,
    )  # fmt: skip


def _erasures(archive: Archive, segments: Iterable[Segment]) -> list[tuple[int, int]]:
    """The erasures of segments: position and key."""
    import pyarrow.compute as pc

    found = []
    for segment in segments:
        table = archive.read(segment, ["position", "kind", "customer_key"])
        told = table.filter(pc.equal(table["kind"], "erasure"))
        found += list(zip(told["position"].to_pylist(), told["customer_key"].to_pylist(), strict=True))
    return found
