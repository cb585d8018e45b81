"""Recovery: what a new owner of a place does before it writes, so that head and archive agree.

  * The head's segment is published if it still waits in staging: its writer died between the two.
  * An archive that is ahead of the head is taken for what it says: the store was set back to a backup, or is a new one
    beside an old archive. The head moves to the archive's last row, so the chain goes on where it ended. Entries that
    the store has and the archive has not, though it has later ones, are written behind the last row.
  * Attempts that can no longer count are removed from staging.
  * The frames of the last segment are given their time of expiry again: its writer may have died before it did so.

A head whose segment is neither staged nor published is ArchiveDamaged: rows are missing that nobody but the archive
could have, most likely because this is not the archive that the others write to. Nothing is written then, and nothing
trimmed, until an operator looks: the same rows under the same positions must not be made twice.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Final, NamedTuple

from decision_service.archive.checkpoints import newest
from decision_service.archive.files import Archive
from decision_service.archive.rows import Entry, entry_id, read_entry
from decision_service.archive.segments import Segment, segment_at
from decision_service.core.errors import ArchiveDamaged
from decision_service.store import Store
from decision_service.store.outbox import ArchiveHead

LOG = logging.getLogger("decision_service.archive")
ENTRIES_AT_ONCE: Final = 500
_EntryId = tuple[int, int]


class _Tail(NamedTuple):
    """The last row of a place in the archive, and the entries behind the head that are archived already."""

    segment: Segment
    hash: bytes
    at: _EntryId
    archived: frozenset[tuple[_EntryId, str]]


class Recovered(NamedTuple):
    """A head to go on from. `left` are entries that it covers and that the archive lacks: they are to be written behind
    it, and the store's head is still the one from before."""

    head: ArchiveHead
    left: Sequence[Entry] = ()


class Recovery:
    """Brings heads and archive together."""

    def __init__(self, store: Store, archive: Archive, frames_kept_ms: int, timeout_s: float) -> None:
        self._store = store
        self._archive = archive
        self._frames_kept_ms = frames_kept_ms
        self._timeout_s = timeout_s

    async def recover(self, place: int, head: ArchiveHead) -> Recovered:
        """The head to go on from. StoreError, VersionMoved, ArchiveUnavailable, ArchiveDamaged."""
        if head.path and not await asyncio.to_thread(self._published, place, head):
            raise ArchiveDamaged(
                f"{self._archive.url} lacks {head.path}, which holds rows up to {head.position} of its place: is it "
                "the archive that all consumers write to?"
            )
        tail = await asyncio.to_thread(self._tail_ahead, place, head)
        if tail is not None:
            head, left = await self._adopt(place, head, tail)
            if left:
                return Recovered(head, left)
        ids = await asyncio.to_thread(self._tidy, place, head)
        if ids:
            await self._store.archived(place, head, head, ids, self._frames_kept_ms, b"", self._timeout_s)
        return Recovered(head)

    def _published(self, place: int, head: ArchiveHead) -> bool:
        """Whether the head's rows are in the archive, or were until their retention ended."""
        if self._archive.publish(head.path) or self._archive.is_published(head.path):
            return True
        last = newest(self._archive)
        purged = None if last is None else last.checkpoint.purged.get(place)
        return purged is not None and purged.position >= head.position

    # --- an archive that is ahead ----------------------------------------------------------------------------------

    def _tail_ahead(self, place: int, head: ArchiveHead) -> _Tail | None:
        """What the archive has of a place beyond its head, if it has anything."""
        since = entry_id(head.last_id) if head.last_id else (0, -1)
        newest = self._archive.newest(place, since[0])
        if newest is None or newest.last <= head.position:
            return None
        _, last_hash = self._archive.hashes(newest)
        archived: set[tuple[_EntryId, str]] = set()
        last = (0, 0)
        for segment in self._archive.segments(since[0], None, [place]):
            table = self._archive.read(segment, ["at_ms", "at_n", "decision_id"])
            columns = [table[name].to_pylist() for name in ("at_ms", "at_n", "decision_id")]
            for at_ms, at_n, decision_id in zip(*columns, strict=True):
                last = max(last, (at_ms, at_n))
                if (at_ms, at_n) > since:
                    archived.add(((at_ms, at_n), decision_id or ""))
        return _Tail(newest, last_hash, last, frozenset(archived))

    async def _adopt(self, place: int, head: ArchiveHead, tail: _Tail) -> Recovered:
        """Move the head to the archive's end, if nothing is left behind by that."""
        LOG.warning(
            "place %d: the archive has %d rows and the store knows of %d: going on behind the archive's last",
            place, tail.segment.last, head.position,
        )  # fmt: skip
        ahead = ArchiveHead(tail.segment.last, tail.hash, b"%d-%d" % tail.at, tail.segment.path, head.fence)
        left = await self._left(place, head, tail)
        if left:
            LOG.warning("place %d: %d entries of the store are older and not in the archive", place, len(left))
        else:
            await self._store.archived(place, head, ahead, [], self._frames_kept_ms, b"", self._timeout_s)
        return Recovered(ahead, left)

    async def _left(self, place: int, head: ArchiveHead, tail: _Tail) -> list[Entry]:
        """The entries of the stream that the archive lacks though they come before its last row."""
        left: list[Entry] = []
        after = head.last_id
        while True:
            some = await self._store.read_outbox(place, after, ENTRIES_AT_ONCE, self._timeout_s)
            entries = [read_entry(at, fields) for at, fields in some]
            before = [entry for entry in entries if entry_id(entry.at) <= tail.at]
            left += [entry for entry in before if (entry_id(entry.at), entry.decision_id) not in tail.archived]
            if len(before) < len(entries) or not entries:
                return left
            after = entries[-1].at

    # --- tidying up -------------------------------------------------------------------------------------------------

    def _tidy(self, place: int, head: ArchiveHead) -> Sequence[str]:
        """Remove what can never count; the decisions of the head's segment, if it still is a file of its own."""
        for path, _ in self._archive.staged():
            segment = segment_at(path)
            if segment is None or segment.place != place or path == head.path or not segment.fence:
                continue
            if segment.first <= head.position or segment.fence < head.fence:
                self._archive.discard(path)
        last = segment_at(head.path) if head.path else None
        if last is None or place < 0:
            return []
        try:
            ids = self._archive.read(last, ["decision_id"])["decision_id"].to_pylist()
        except FileNotFoundError:
            return []
        return list(dict.fromkeys(one for one in ids if one and one.startswith(f"d{place:03x}")))
