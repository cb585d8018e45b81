"""Retention: how long a record stays, by class, and the taking away.

    class      what                                              setting                    default
    audit      all rows of partitions, policies and lists        archive_audit_days         3,653 (10 years)
    personal   the personal columns of those rows                archive_personal_days        730 (2 years)
    access     rows of who read personal data                   archive_access_days         366, at least 184 (6 months)

A file goes when its whole UTC day is older than its class allows, and only from the front of a chain. First a
checkpoint says where the chain now begins (`purged`), or up to which row payloads may be gone (`payload`), then files
are removed or rewritten: killed in between, the next run finishes, and verification holds at any moment. Before an
anchor is signed the rows up to it are walked: a place with a defect there is left as it is and told.

Policies, contents, lists and scorecards stay: decisions of any age rest on them. A list can hold ids of customers;
docs/archive.md says what to do about that.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from decision_service.archive.checkpoints import Checkpoint, Link, make_checkpoint, newest
from decision_service.archive.defects import Defect
from decision_service.archive.erasure import carry_out, pending
from decision_service.archive.files import Archive
from decision_service.archive.rewriting import Bools, Keys, files_of, rewrite_place, rewriting
from decision_service.archive.schema import ACCESS
from decision_service.archive.segments import RECORDS, Segment, day_of, place_name, place_of, without_covered
from decision_service.archive.walk import START, Walk
from decision_service.core.limits import DAY_MS
from decision_service.policies.signers import SigningKey

AUDIT_DAYS: Final = 3_653
PERSONAL_DAYS: Final = 730
ACCESS_DAYS: Final = 366
ACCESS_DAYS_MIN: Final = 184  # any six months
PAYLOAD_DONE: Final = "retention/payload.json"
assert ACCESS_DAYS_MIN <= ACCESS_DAYS
assert PERSONAL_DAYS <= AUDIT_DAYS


@dataclass(frozen=True, slots=True)
class Retention:
    """How many days each class is kept."""

    audit_days: int = AUDIT_DAYS
    personal_days: int = PERSONAL_DAYS
    access_days: int = ACCESS_DAYS

    def __post_init__(self) -> None:
        if self.access_days < ACCESS_DAYS_MIN:
            raise ValueError(f"accesses are kept at least {ACCESS_DAYS_MIN} days, not {self.access_days}")
        if not 1 <= self.personal_days <= self.audit_days:
            raise ValueError("what is personal is kept at least a day and no longer than the decision it belongs to")

    def days_of(self, place: int) -> int:
        """How long rows of a place stay."""
        return self.access_days if place == ACCESS else self.audit_days


@dataclass(slots=True)
class Purged:
    """What a purge did, or would do."""

    removed: dict[int, Link] = field(default_factory=dict)  # where chains begin now
    files: int = 0
    rows: int = 0
    payload: dict[int, int] = field(default_factory=dict)  # rows up to here have no payload any more
    payload_files: int = 0
    payload_rows: int = 0
    erasures: int = 0
    checkpoint: str = ""
    defects: list[Defect] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """For a report."""
        return {
            "removed": {place_name(place): link.position for place, link in self.removed.items()}, "files": self.files,
            "rows": self.rows, "payload": {place_name(place): at for place, at in self.payload.items()},
            "payload_files": self.payload_files, "payload_rows": self.payload_rows, "erasures": self.erasures,
            "checkpoint": self.checkpoint, "defects": [defect.as_json() for defect in self.defects],
        }  # fmt: skip


def places_of(archive: Archive) -> list[int]:
    """The places that have records."""
    names = {name for day in archive.days() for name in archive.names(f"{RECORDS}/day={day}")}
    return sorted(place_of(name.removeprefix("p=")) for name in names if name.startswith("p="))


def purge(
    archive: Archive, retention: Retention, key: SigningKey | None, now_ms: int, by: str, *, dry_run: bool = False,
    tell: Callable[[int], None] = lambda rows: None,
) -> Purged:  # fmt: skip
    """Take away what is too old, and carry out erasures that wait. ArchiveUnavailable."""
    told = Purged()
    with rewriting(archive):
        before = newest(archive)
        purged: Mapping[int, Link] = before.checkpoint.purged if before else {}
        payload: Mapping[int, int] = before.checkpoint.payload if before else {}
        places = places_of(archive)
        for place in places:
            _plan(archive, place, retention, purged.get(place, START), payload.get(place, 0), now_ms, told)
        if dry_run:
            return told
        if told.removed or told.payload:
            gained = Checkpoint(now_ms, by, purged=told.removed, payload=told.payload)
            made = make_checkpoint(archive, gained, key)
            told.checkpoint = made.name if made else ""
        done = _payload_done(archive)
        for place in places:
            begin = told.removed.get(place, purged.get(place, START)).position
            told.files += _remove(archive, place, begin)
            since, through = done.get(place, 0), told.payload.get(place, payload.get(place, 0))
            told.payload_rows += rewrite_place(archive, place, range(since + 1, through + 1), _whole, now_ms, tell)
            done[place] = through
        archive.write(PAYLOAD_DONE, orjson.dumps({place_name(place): at for place, at in done.items() if at}))
    for place in places:
        if place >= 0:
            told.erasures += sum(1 for _ in carry_out(archive, pending(archive, place), now_ms))
    return told


def _plan(
    archive: Archive, place: int, retention: Retention, begin: Link, payload: int, now_ms: int, told: Purged
) -> None:
    """What of a place is too old."""
    there = [segment for segment in without_covered(files_of(archive, place)) if segment.last > begin.position]
    old = _leading(there, day_of(now_ms - retention.days_of(place) * DAY_MS))
    if old:
        walked = Walk(archive, place, begin, {}).go(old)
        if walked.defects:
            told.defects += walked.defects
        else:
            told.removed[place] = walked.end
            told.rows += walked.rows
            there = there[len(old) :]
    if place >= 0:
        aged = [s for s in _leading(there, day_of(now_ms - retention.personal_days * DAY_MS)) if s.last > payload]
        if aged:
            told.payload[place] = aged[-1].last
            told.payload_files += len(aged)


def _whole(keys: Keys) -> Bools:
    return keys.whole


def _payload_done(archive: Archive) -> dict[int, int]:
    """Up to which row of each place payloads are gone for their age."""
    try:
        return {place_of(name): int(at) for name, at in orjson.loads(archive.read_bytes(PAYLOAD_DONE)).items()}
    except FileNotFoundError:
        return {}


def _leading(segments: list[Segment], first_day_kept: str) -> list[Segment]:
    """The segments at the front of a chain that are of days before one."""
    old = []
    for segment in segments:
        if segment.day >= first_day_kept:
            break
        old.append(segment)
    return old


def _remove(archive: Archive, place: int, through: int) -> int:
    """Remove the files of rows up to `through`; how many."""
    gone = [segment for segment in files_of(archive, place) if segment.last <= through]
    for segment in gone:
        archive.remove(segment.path)
    return len(gone)
