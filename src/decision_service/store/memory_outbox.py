"""The outboxes of the store in memory; `outbox.py` says what they promise.

Ids of entries are instants of `now_ms` and a number, as a server makes them, and only rise.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from time import time_ns
from typing import NamedTuple

from decision_service.core.errors import StoreUnsafe, VersionMoved
from decision_service.store import keys
from decision_service.store.outbox import ArchiveHead, OutboxState, at_ms, refuse_step, stream_order

Entry = tuple[bytes, Mapping[bytes, bytes]]


class Lease(NamedTuple):
    """Who has a place, with which fence, until when."""

    owner: str
    fence: int
    until_ms: int


def wall_ms() -> int:
    """The instant now."""
    return time_ns() // 1_000_000


class MemoryOutboxes:
    """`Outboxes` in memory, beside the decisions whose frames it lets expire."""

    def __init__(self, now_ms: Callable[[], int]) -> None:
        self._now_ms = now_ms
        self._outbox: dict[int, list[Entry]] = {}
        self._last_ids: dict[int, bytes] = {}
        self._heads: dict[int, ArchiveHead] = {}
        self._leases: dict[int, Lease] = {}
        self._decisions: dict[str, bytes] = {}
        self._shadows: dict[str, bytes] = {}
        self._shadow_policies: dict[str, bytes] = {}
        self._expire_at_ms: dict[str, int] = {}  # of decisions
        self._lost = False

    def outbox(self, place: int) -> Sequence[Mapping[bytes, bytes]]:
        """The entries of a place's stream, oldest first."""
        return tuple(fields for _, fields in self._outbox.get(place, ()))

    def _append(self, place: int, fields: Mapping[bytes, bytes]) -> bytes:
        last_ms, number = stream_order(self._last_ids.get(place, b""))
        now_ms = self._now_ms()
        entry_id = b"%d-0" % now_ms if now_ms > last_ms else b"%d-%d" % (last_ms, number + 1)
        self._last_ids[place] = entry_id
        self._outbox.setdefault(place, []).append((entry_id, dict(fields)))
        return entry_id

    def _forget_expired(self) -> None:
        """Let go of frames and shadow records whose time is up."""
        now_ms = self._now_ms()
        for decision_id in [one for one, until_ms in self._expire_at_ms.items() if until_ms <= now_ms]:
            self._expire_at_ms.pop(decision_id)
            for kept in (self._decisions, self._shadows, self._shadow_policies):
                kept.pop(decision_id, None)

    def _refuse_lost(self) -> None:
        if self._lost:
            raise StoreUnsafe("the store is empty though it was in use: it lost its history")

    async def take_place(self, place: int, owner: str, lease_ms: int, timeout_s: float) -> ArchiveHead | None:
        """See `Outboxes.take_place`."""
        self._refuse_lost()
        held, now_ms = self._leases.get(place), self._now_ms()
        head = self._heads.get(place, ArchiveHead())
        if held is None or held.until_ms <= now_ms:
            head = head._replace(fence=head.fence + 1)
        elif held.owner != owner:
            return None
        self._heads[place] = head
        self._leases[place] = Lease(owner, head.fence, now_ms + lease_ms)
        return head

    async def leave_place(self, place: int, owner: str, timeout_s: float) -> None:
        """See `Outboxes.leave_place`."""
        held = self._leases.get(place)
        if held is not None and held.owner == owner:
            del self._leases[place]

    async def read_outbox(self, place: int, after: bytes, count: int, timeout_s: float) -> Sequence[Entry]:
        """See `Outboxes.read_outbox`."""
        return self._behind(place, after)[:count]

    def _behind(self, place: int, after: bytes) -> list[Entry]:
        behind = stream_order(after)
        return [entry for entry in self._outbox.get(place, ()) if stream_order(entry[0]) > behind]

    async def archived(
        self, place: int, expected: ArchiveHead, head: ArchiveHead, decision_ids: Sequence[str], frames_kept_ms: int,
        trim_through: bytes, timeout_s: float,
    ) -> None:  # fmt: skip
        """See `Outboxes.archived`."""
        refuse_step(expected, head, trim_through)
        for decision_id in decision_ids:
            keys.customer_decision_key(place, decision_id)
        held, now_ms = self._leases.get(place), self._now_ms()
        if (
            held is None
            or held.until_ms <= now_ms
            or held.fence != expected.fence
            or self._heads.get(place, ArchiveHead()) != expected
        ):
            raise VersionMoved("another has this place of the outbox, or had it meanwhile")
        self._heads[place] = head
        if stream_order(head.last_id) > stream_order(self._last_ids.get(place, b"")):
            self._last_ids[place] = head.last_id
        if trim_through and place in self._outbox:
            self._outbox[place] = self._behind(place, trim_through)
        self._expire_at_ms |= dict.fromkeys(decision_ids, now_ms + frames_kept_ms)

    async def expire_decisions(
        self, place: int, decision_ids: Sequence[str], kept_ms: int, timeout_s: float
    ) -> None:  # fmt: skip
        """See `Outboxes.expire_decisions`."""
        for decision_id in decision_ids:
            keys.customer_decision_key(place, decision_id)
        self._expire_at_ms |= dict.fromkeys(decision_ids, self._now_ms() + kept_ms)

    async def archive_head(self, place: int, timeout_s: float) -> ArchiveHead:
        """See `Outboxes.archive_head`."""
        return self._heads.get(place, ArchiveHead())

    async def outbox_state(self, place: int, timeout_s: float) -> OutboxState:
        """See `Outboxes.outbox_state`."""
        held = self._outbox.get(place, [])
        waiting = self._behind(place, self._heads.get(place, ArchiveHead()).last_id)
        return OutboxState(len(held), _first_ms(held), len(waiting), _first_ms(waiting))

    async def add_entry(self, place: int, fields: Mapping[bytes, bytes], timeout_s: float) -> bytes:
        """See `Outboxes.add_entry`."""
        return self._append(place, fields)


def _first_ms(entries: Sequence[Entry]) -> int:
    return at_ms(entries[0][0]) if entries else 0
