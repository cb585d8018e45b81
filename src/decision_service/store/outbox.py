"""The outbox as whoever archives it sees it: places, the lease of a place, how far it is archived, and trimming.

A *place* is where a stream lives: a partition (0, 1, ...), POLICY, LISTS or ACCESS. Its *head* says how far its entries
are archived. Both lie beside each other in one slot, so they change together or not at all:

    take_place ──▶ read_outbox after head.last_id ──▶ rows, written where nobody sees them yet (head.path)
         ▲                                                       │
         └── next round ◀── put where readers look ◀── archived(expected, head)   one script: all of it or nothing

Archiving exactly once rests on three things. The entries of a stream never change and their ids only rise, so whoever
reads on from the same head reads the same. `archived` moves the head only from the one that is expected, for the owner
who holds the lease now, so of two who read the same entries one moves it and the other is told VersionMoved. And what
the head covers is trimmed only by a later call, for which `trim_through` is at most what an *earlier* head covered: by
then its path is known to be where readers look.

Whoever dies in between leaves one of two things. Rows without a head: nobody ever looks for them, and another writes
them again. A head whose path is not yet where readers look: `take_place` tells it, and whoever takes the place finishes
that first, and calls `archived` once more with this head as expected *and* head for the ids of the decisions in it:
what follows the head (frames that are to expire) may not be done.

A lease lapses by the server's clock, `lease_ms` after it was last taken. Its *fence* rises with every new owner, and
`archived` wants the one that stands in the lease, so an owner that was away for too long (paused, cut off) writes
nothing more, even if nobody took its place. A lease that is gone is taken with a new fence by anyone, its last owner
too. Owners that live at one time have different names.

A store that was set back (restored from a backup, emptied and accepted again, a failover that lost its tail) tells a
head from before the archive's own. Then the archive is right: what it has happened. Its reader goes on from the last
segment it has, with `archived(expected=<head of the store>, head=<head of the archive, fence of the store>)`. The
stream is then moved on, so that ids go on rising behind `last_id` whatever the server's clock says. Only what the store
took between its return and that call, and only if its clock went back, too, has ids that are not behind `last_id`:
before that call one must look for entries up to `last_id` whose ids the last segments lack.

The consumer group `archive` of a stream mirrors the head, and says to every tool that knows streams how far behind the
archive is (XINFO GROUPS: lag) and who works on it. Entries are not read through it: XREADGROUP would spread a place's
entries over consumers, and a chain needs all of them in one order, so whole places are shared, by the lease; and a list
of entries that are read and not acknowledged would tell nothing that the head does not.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple, Protocol

from decision_service.store.keys import ACCESS, LISTS, POLICY

__all__ = ["ACCESS", "GROUP", "LISTS", "POLICY", "ArchiveHead", "OutboxState", "Outboxes", "refuse_step"]

GROUP: Final = b"archive"
HASH_BYTES: Final = 32
FRAMES_AT_ONCE: Final = 100  # decisions whose frames one script lets expire: about 0.5 ms of the server's time
COUNTED_MAX: Final = 10_000  # entries that are counted one by one where the server cannot tell how many wait
_STREAM_ID: Final = re.compile(rb"(\d{1,20})-(\d{1,20})", re.ASCII)


class ArchiveHead(NamedTuple):
    """How far a place is archived: rows so far (an entry is a row), the hash of the last, the stream id of the last
    entry, where the segment with it is; and the fence of the owner who says so."""

    position: int = 0
    hash: bytes = bytes(HASH_BYTES)
    last_id: bytes = b""
    path: str = ""
    fence: int = 0


class OutboxState(NamedTuple):
    """How much a place's stream holds, and how much of it is not archived yet; instants by the store's clock, 0 where
    there is none. Where the server cannot tell how many wait (right after a store was set back), it is at most
    `waiting`."""

    length: int
    first_ms: int
    waiting: int
    oldest_waiting_ms: int


class Outboxes(Protocol):
    """What an archive asks of a store. `timeout_s` as in `Store`."""

    async def take_place(self, place: int, owner: str, lease_ms: int, timeout_s: float) -> ArchiveHead | None:
        """Take a place, or keep it, for `lease_ms` from now; its head, or None while it is another owner's.
        StoreUnsafe where the history of the store is missing; StoreUnavailable, OutcomeUnknown: to be given again."""
        ...

    async def leave_place(self, place: int, owner: str, timeout_s: float) -> None:
        """Let others take a place at once; nothing if it is not this owner's. StoreUnavailable, OutcomeUnknown."""
        ...

    async def read_outbox(
        self, place: int, after: bytes, count: int, timeout_s: float
    ) -> Sequence[tuple[bytes, Mapping[bytes, bytes]]]:
        """At most `count` entries behind an id (from the first if it is empty), each with its id, oldest first."""
        ...

    async def archived(
        self, place: int, expected: ArchiveHead, head: ArchiveHead, decision_ids: Sequence[str], frames_kept_ms: int,
        trim_through: bytes, timeout_s: float,
    ) -> None:  # fmt: skip
        """Move the head; trim entries through `trim_through` (empty: none), which `expected` must cover; then let the
        frames and shadow records of these decisions expire `frames_kept_ms` from now.

        VersionMoved if the head, or the fence of the lease, is not the one expected: nothing was written. ValueError
        for a step back, or one that trims what `expected` does not cover. StoreUnavailable, OutcomeUnknown: look with
        `take_place`; if it tells `head`, ask again with that as `expected` and `head`, and otherwise the same again."""
        ...

    async def expire_decisions(
        self, place: int, decision_ids: Sequence[str], kept_ms: int, timeout_s: float
    ) -> None:  # fmt: skip
        """Let the frames and shadow records of archived decisions expire `kept_ms` from now, sooner than `archived`
        said: of a customer who is erased. StoreUnavailable, OutcomeUnknown: to be given again."""
        ...

    async def archive_head(self, place: int, timeout_s: float) -> ArchiveHead:
        """How far a place is archived, whoever has it: for those who only look. StoreUnavailable."""
        ...

    async def outbox_state(self, place: int, timeout_s: float) -> OutboxState:
        """How much there is, and how much of it waits."""
        ...

    async def add_entry(self, place: int, fields: Mapping[bytes, bytes], timeout_s: float) -> bytes:
        """Append an entry that is no commit's (an erasure, an access); its id. OutcomeUnknown: it may be there, and
        giving it again may make two."""
        ...


def refuse_step(expected: ArchiveHead, head: ArchiveHead, trim_through: bytes) -> None:
    """ValueError for what `archived` must not be asked."""
    if len(head.hash) != HASH_BYTES or head.position < expected.position:
        raise ValueError(f"position: the head is at {expected.position} and does not go back to {head.position}")
    if head.fence != expected.fence:
        raise ValueError(f"fence: {head.fence} is not the one expected, {expected.fence}")
    if stream_order(head.last_id) < stream_order(expected.last_id):
        raise ValueError("last_id: the head does not go back")
    if stream_order(trim_through) > stream_order(expected.last_id):
        raise ValueError("trim_through: an earlier head does not cover it")


def stream_order(stream_id: bytes) -> tuple[int, int]:
    """What ids of entries are compared by; nothing comes before all. ValueError."""
    if not stream_id:
        return -1, -1
    found = _STREAM_ID.fullmatch(stream_id)
    if found is None:
        raise ValueError(f"{stream_id!r} is not the id of an entry")
    return int(found[1]), int(found[2])


def successor(stream_id: bytes) -> bytes:
    """The least id behind another."""
    at_ms, number = stream_order(stream_id)
    return b"%d-%d" % (at_ms, number + 1)


def at_ms(stream_id: bytes | None) -> int:
    """The instant of an entry, 0 of none."""
    return max(0, stream_order(stream_id or b"")[0])
