"""The writer: brings what waits in the outbox of one place into the archive, one segment at a time.

    take_place ──▶ recover ──▶ read entries, frames ──▶ seal ──▶ keep policies ──▶ stage ──▶ archived ──▶ publish
                                                                                 (fsync)   (head moves)

An entry is in the archive exactly once, whenever this is killed, because the head in the store decides:

  * what is staged counts once the head names it, and only one attempt at the rows behind a head can win that; the names
    of attempts differ (`segments.py`);
  * who takes a place next finds the head's segment staged and publishes it before anything else (`recovery.py`);
  * an attempt that lost, or whose reply was lost and that turns out to have lost, is an orphan. It is removed once the
    head is past it: until then a command that was delayed on its way could still make it count;
  * entries are trimmed from the stream one segment later, when a head that covered them is published. So whatever
    becomes of a segment on its way, its entries are still there.

A place is taken under a lease, whose fence the head remembers: who was away for so long that another took the place
cannot move the head any more.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Final, NamedTuple, Protocol

from decision_service.archive.files import Archive
from decision_service.archive.recovery import Recovery
from decision_service.archive.rows import Entry, read_entry
from decision_service.archive.rule_names import RuleNames
from decision_service.archive.sealing import Sealed, Taken, rows_from, seal
from decision_service.archive.segments import day_of
from decision_service.core.errors import VersionMoved
from decision_service.store import Store
from decision_service.store.outbox import ArchiveHead

LOG = logging.getLogger("decision_service.archive")
LEASE_MS: Final = 60_000  # of a place: several times what a segment takes
STORE_TIMEOUT_S: Final = 5.0
ENTRIES_AT_ONCE: Final = 500  # read in one command: 2 MB with their frames
SEGMENT_BYTES_MAX: Final = 48 * 1024 * 1024  # of entries and frames in memory; an entry of an import may have 2 MB

KeepPolicies = Callable[[Iterable[str]], Awaitable[frozenset[str]]]
"""Writes what these policies were into the archive, so that no row names a policy that it does not have; those that
cannot be kept yet are to be asked for again."""


class Limits(NamedTuple):
    """How segments are cut, and how long the store keeps a decision's frame once it is archived."""

    rows_max: int = 10_000
    frames_kept_ms: int = 7 * 86_400_000


class Told(Protocol):
    """What is told of the writing, for metrics."""

    def archive_wrote(self, kinds: Iterable[tuple[str, int]], file_bytes: int) -> None:
        """A segment counts now: so many rows of each kind, so many bytes."""
        ...


class Writer:
    """Writes places, one at a time or several at once, under one owner's name."""

    def __init__(
        self, store: Store, archive: Archive, owner: str, limits: Limits, told: Told,
        keep_policies: KeepPolicies | None = None,
    ) -> None:  # fmt: skip
        self._store = store
        self._archive = archive
        self._owner = owner
        self._limits = limits
        self._told = told
        self._keep_policies = keep_policies
        self._kept: set[str] = set()
        self._rules = RuleNames(store, STORE_TIMEOUT_S)
        self._recovery = Recovery(store, archive, limits.frames_kept_ms, STORE_TIMEOUT_S)
        self._sure: dict[int, tuple[int, str]] = {}  # by place: fence and path of a head that is published, by us
        self._held: set[int] = set()  # places whose lease may be ours
        self.heads: dict[int, ArchiveHead] = {}  # by place, the last one that is known to be published

    async def write(self, place: int) -> int | None:
        """Write one segment of what waits in a place; how many rows, 0 if nothing waited, None if it is another's.

        StoreError, ArchiveUnavailable: nothing is lost, the same entries are written when it is called again.
        """
        self._held.add(place)
        head = await self._store.take_place(place, self._owner, LEASE_MS, STORE_TIMEOUT_S)
        if head is None:
            self._held.discard(place)
            self._sure.pop(place, None)
            return None
        if self._sure.get(place) != (head.fence, head.path):
            self._sure.pop(place, None)
            expected, (head, left) = head, await self._recovery.recover(place, head)
            if left:
                return await self._write_left(place, expected, head, left)
            self._sure[place] = (head.fence, head.path)
            self.heads[place] = head
        taken = await self._read(place, head)
        if not taken:
            return 0
        sealed = await self._seal(place, taken, head)
        del taken
        return await self._count_in(place, head, sealed)

    async def _write_left(
        self, place: int, expected: ArchiveHead, head: ArchiveHead, left: Sequence[Entry]
    ) -> int | None:
        """Write entries that come before the archive's last row and are not in it, in one segment behind it."""
        frames = await self._frames(place, [entry.decision_id for entry in left if entry.decision_id])
        sealed = await self._seal(place, [Taken(entry, frames.get(entry.decision_id)) for entry in left], head)
        return await self._count_in(place, expected, sealed._replace(head=sealed.head._replace(last_id=head.last_id)))

    async def _read(self, place: int, head: ArchiveHead) -> list[Taken]:
        """The entries behind a head that make the next segment: of one day, and not too many."""
        taken: list[Taken] = []
        size, after, day = 0, head.last_id, ""
        while len(taken) < self._limits.rows_max and size < SEGMENT_BYTES_MAX:
            wanted = min(ENTRIES_AT_ONCE, self._limits.rows_max - len(taken))
            some = await self._store.read_outbox(place, after, wanted, STORE_TIMEOUT_S)
            entries = [read_entry(at, fields) for at, fields in some]
            day = day or (day_of(entries[0].at_ms) if entries else "")
            of_day = [entry for entry in entries if day_of(entry.at_ms) == day]
            frames = await self._frames(place, [entry.decision_id for entry in of_day if entry.decision_id])
            for entry in of_day:
                one = Taken(entry, frames.get(entry.decision_id))
                taken.append(one)
                size += sum(map(len, entry.fields.values())) + len(one.frame or b"")
            if len(of_day) < wanted:
                break
            after = entries[-1].at
        return taken

    async def _frames(self, place: int, decision_ids: Sequence[str]) -> dict[str, bytes | None]:
        own = [one for one in decision_ids if one.startswith(f"d{place:03x}")]  # an id of elsewhere is nobody's frame
        if not own:
            return {}
        return dict(zip(own, await self._store.read_decisions(place, own, STORE_TIMEOUT_S), strict=True))

    async def _seal(self, place: int, taken: Sequence[Taken], head: ArchiveHead) -> Sealed:
        rows = await asyncio.to_thread(rows_from, place, taken, self._rules.fired)
        if await self._rules.load():
            rows = await asyncio.to_thread(rows_from, place, taken, self._rules.fired)
        return await asyncio.to_thread(seal, place, taken, rows, head)

    async def _count_in(self, place: int, head: ArchiveHead, sealed: Sealed) -> int | None:
        """Make a sealed segment count; how many rows it has, or None if another owner was faster."""
        await self._keep(sealed.policy_ids)
        await asyncio.to_thread(self._archive.stage, sealed.head.path, sealed.content)
        self._sure.pop(place, None)  # until it is published
        ids = [one for one in sealed.decision_ids if one.startswith(f"d{place:03x}")]
        try:
            await self._store.archived(
                place, head, sealed.head, ids, self._limits.frames_kept_ms, head.last_id, STORE_TIMEOUT_S
            )
        except VersionMoved:
            return None
        await asyncio.to_thread(self._archive.publish, sealed.head.path)
        self._sure[place] = (sealed.head.fence, sealed.head.path)
        self.heads[place] = sealed.head
        self._told.archive_wrote(sealed.kinds.items(), len(sealed.content))
        return sealed.rows

    async def _keep(self, policy_ids: frozenset[str]) -> None:
        """What these policies were is in the archive before a row that names one of them counts."""
        new = policy_ids - self._kept
        if not new or self._keep_policies is None:
            return
        self._kept |= new - await self._keep_policies(new)

    async def leave(self) -> None:
        """Let others take every place that is ours, also those that could not be written. StoreError."""
        for place in list(self._held):
            await self.give_back(place)

    async def give_back(self, place: int) -> None:
        """Let others take a place: what fails here may be written elsewhere. A command of ours that is still on its way
        is told from theirs by the fence. StoreError."""
        self._sure.pop(place, None)
        await self._store.leave_place(place, self._owner, STORE_TIMEOUT_S)
        self._held.discard(place)
