"""Making checkpoints: by the consumer, of the heads that it moved itself; by a command, of what it has verified.

    Checkpointing   in `archive run`: every few minutes and at the end, from heads in memory: files are not read
    checkpoint_verified   `archive checkpoint`: walks what came since the newest checkpoint, and pins it if it is sound

Either pins what else was kept (records of policies) since the checkpoint before, by its SHA-256.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from typing import Any

from decision_service.archive.checkpoints import (
    Checkpoint,
    KeptCheckpoint,
    Link,
    checked,
    make_checkpoint,
    newest,
    read_checkpoints,
)
from decision_service.archive.defects import Defect
from decision_service.archive.files import Archive
from decision_service.archive.retention import places_of
from decision_service.archive.rewriting import files_of
from decision_service.archive.segments import without_covered
from decision_service.archive.walk import START, Walk
from decision_service.core.limits import MINUTE_MS
from decision_service.policies.signers import Signers, SigningKey

RECORDS_OF_POLICIES = "policies"


class Checkpointing:
    """One consumer's checkpoints. Waits for the disk: call it in a thread."""

    def __init__(self, archive: Archive, key: SigningKey | None, by: str, every_minutes: int) -> None:
        self._archive = archive
        self._key = key
        self._by = by
        self._every_ms = every_minutes * MINUTE_MS
        self._next_ms = 0
        self._known: set[str] | None = None  # documents that checkpoints pin

    def due(self, now_ms: int) -> bool:
        """Whether it is time for one."""
        return now_ms >= self._next_ms

    def make(self, heads: Mapping[int, Link], now_ms: int) -> KeptCheckpoint | None:
        """Write a checkpoint of these heads; None if nothing is new. ArchiveUnavailable."""
        if self._known is None:
            self._known = documents_pinned(self._archive)
        kept = documents_new(self._archive, self._known)
        told = {place: link for place, link in heads.items() if link.position}
        made = make_checkpoint(self._archive, Checkpoint(now_ms, self._by, places=told, kept=kept), self._key)
        self._known |= kept.keys()
        self._next_ms = now_ms + self._every_ms
        return made


def documents_pinned(archive: Archive) -> set[str]:
    """The documents that checkpoints pin already."""
    return {path for kept in read_checkpoints(archive)[0] for path in kept.checkpoint.kept}


def documents_new(archive: Archive, known: set[str]) -> dict[str, str]:
    """The SHA-256 of documents that no checkpoint pins yet."""
    paths = (f"{RECORDS_OF_POLICIES}/{name}" for name in archive.names(RECORDS_OF_POLICIES))
    return {path: sha256(archive.read_bytes(path)).hexdigest() for path in paths if path not in known}


def checkpoint_verified(
    url: str, storage_options: Mapping[str, Any], key: SigningKey | None, now_ms: int, by: str,
    trusted: Signers | None = None,
) -> tuple[KeptCheckpoint | None, list[Defect]]:  # fmt: skip
    """Verify what came since the newest checkpoint and pin it. None, and why, if it is not sound.

    Whoever signs answers for everything up to there, so with a key what came since the newest checkpoint is verified
    that the key or one of `trusted` signed; the others only add what must hold as well. ArchiveUnavailable."""
    archive = Archive(url, storage_options)
    last = newest(archive)
    before = last if key is None else _believed(archive, {**(trusted or {}), key.name: key.key.public_key()})
    if last is not None and _lets_more_be_gone(last.checkpoint, before):
        what = (
            "it lets rows or payloads be gone, and nobody who is trusted signed that: sign with whose key purged them"
        )
        return None, [Defect("checkpoint", what, last.name)]
    pinned: Mapping[int, Link] = before.checkpoint.places if before else {}
    claimed: Mapping[int, Link] = last.checkpoint.places if last else {}
    purged: Mapping[int, Link] = before.checkpoint.purged if before else {}
    heads: dict[int, Link] = {}
    defects: list[Defect] = []
    for place in sorted({*places_of(archive), *claimed}):
        start = max(purged.get(place, START), pinned.get(place, START))
        heads[place] = start
        there = without_covered(files_of(archive, place))
        end = there[-1].last if there else purged.get(place, START).position
        if place in claimed and end < claimed[place].position:
            what = "the last rows are missing: the newest checkpoint knows of later ones"
            defects.append(Defect("tail", what, "", place, end + 1, claimed[place].position))
            continue
        ahead = [segment for segment in there if segment.last > start.position]
        if not ahead:
            continue
        pins = {start.position: [(start.hash, "the checkpoint before")]}
        if place in claimed:
            pins.setdefault(claimed[place].position, []).append((claimed[place].hash, "the newest checkpoint"))
        walked = Walk(archive, place, _before(archive, ahead[0], start), pins).go(ahead)
        defects += walked.defects
        heads[place] = walked.end
    if defects:
        return None, defects
    kept = documents_new(archive, documents_pinned(archive))
    return make_checkpoint(archive, Checkpoint(now_ms, by, places=heads, kept=kept), key), []


def _believed(archive: Archive, trusted: Signers) -> KeptCheckpoint | None:
    """The newest checkpoint that somebody trusted signed."""
    good, _ = checked(read_checkpoints(archive)[0], trusted)
    return good[-1] if good else None


def _lets_more_be_gone(checkpoint: Checkpoint, believed: KeptCheckpoint | None) -> bool:
    then = Checkpoint(0, "") if believed is None else believed.checkpoint
    return (checkpoint.purged, checkpoint.payload) != (then.purged, then.payload)


def _before(archive: Archive, segment: Any, start: Link) -> Link:
    """Where to begin: at the link, or at the file that holds its row, which the pin then proves."""
    if segment.first == start.position + 1:
        return start
    return Link(segment.first - 1, archive.hashes(segment)[0]) if segment.first <= start.position else start
