"""The part of `RedisStore` that an archive needs; `outbox.py` says what it promises, `scripts/` how it is kept."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from time import monotonic
from typing import Any, Final

from decision_service.store import keys, scripts
from decision_service.store.history import History
from decision_service.store.outbox import (
    COUNTED_MAX,
    FRAMES_AT_ONCE,
    HASH_BYTES,
    ArchiveHead,
    OutboxState,
    at_ms,
    refuse_step,
    successor,
)

_HEAD_FIELDS: Final = ("fence", "position", "hash", "last", "path")  # as `take_place.lua` tells them


class RedisOutboxes(ABC):
    """`Outboxes` over the commands of a store."""

    _history: History

    @abstractmethod
    async def _call(self, key: bytes, command: tuple[Any, ...], timeout_s: float, *, write: bool) -> Any:
        """The reply to one command."""

    @abstractmethod
    async def _run(
        self, script: scripts.Script, names: list[bytes], arguments: tuple[bytes, ...], timeout_s: float
    ) -> Any:
        """The reply of a script."""

    async def take_place(self, place: int, owner: str, lease_ms: int, timeout_s: float) -> ArchiveHead | None:
        """See `Outboxes.take_place`."""
        if not self._history.admitted:
            timeout_s = await self._history.safe_within(timeout_s)
        names = [keys.lease_key(place), keys.head_key(place)]
        if place >= 0:
            names.append(keys.marker_key(place))
        arguments = (owner.encode(), b"%d" % lease_ms, self._history.epoch)
        told = await self._run(scripts.TAKE_PLACE, names, arguments, timeout_s)
        if told is None:
            return None
        return _head(told)

    async def leave_place(self, place: int, owner: str, timeout_s: float) -> None:
        """See `Outboxes.leave_place`."""
        await self._run(scripts.LEAVE_PLACE, [keys.lease_key(place)], (owner.encode(),), timeout_s)

    async def read_outbox(
        self, place: int, after: bytes, count: int, timeout_s: float
    ) -> Sequence[tuple[bytes, Mapping[bytes, bytes]]]:
        """See `Outboxes.read_outbox`."""
        key = keys.outbox_key(place)
        command = ("XRANGE", key, b"(" + after if after else b"-", b"+", "COUNT", count)
        entries = await self._call(key, command, timeout_s, write=False)
        return [(entry_id, dict(zip(told[::2], told[1::2], strict=True))) for entry_id, told in entries]

    async def archived(
        self, place: int, expected: ArchiveHead, head: ArchiveHead, decision_ids: Sequence[str], frames_kept_ms: int,
        trim_through: bytes, timeout_s: float,
    ) -> None:  # fmt: skip
        """See `Outboxes.archived`. The head and the trimming are one script; frames follow in portions, so that no
        other command waits for thousands of them."""
        refuse_step(expected, head, trim_through)
        until = monotonic() + timeout_s
        portions = [decision_ids[at : at + FRAMES_AT_ONCE] for at in range(0, len(decision_ids), FRAMES_AT_ONCE)]
        expiring = [[key for one in some for key in keys.of_decision(place, one)] for some in portions]
        arguments = (
            b"%d" % expected.fence, *_words(expected), *_words(head),
            successor(trim_through) if trim_through else b"", b"%d" % (head.position - expected.position),
        )  # fmt: skip
        where = [keys.lease_key(place), keys.head_key(place), keys.outbox_key(place)]
        await self._run(scripts.ARCHIVED, where, arguments, timeout_s)
        for names in expiring:
            await self._run(scripts.EXPIRE, names, (b"%d" % frames_kept_ms,), until - monotonic())

    async def expire_decisions(
        self, place: int, decision_ids: Sequence[str], kept_ms: int, timeout_s: float
    ) -> None:  # fmt: skip
        """See `Outboxes.expire_decisions`."""
        until = monotonic() + timeout_s
        for start in range(0, len(decision_ids), FRAMES_AT_ONCE):
            some = decision_ids[start : start + FRAMES_AT_ONCE]
            names = [key for one in some for key in keys.of_decision(place, one)]
            await self._run(scripts.EXPIRE, names, (b"%d" % kept_ms,), until - monotonic())

    async def archive_head(self, place: int, timeout_s: float) -> ArchiveHead:
        """See `Outboxes.archive_head`."""
        key = keys.head_key(place)
        return _head(await self._call(key, ("HMGET", key, *_HEAD_FIELDS), timeout_s, write=False))

    async def outbox_state(self, place: int, timeout_s: float) -> OutboxState:
        """See `Outboxes.outbox_state`."""
        names = [keys.outbox_key(place), keys.head_key(place)]
        length, first, waiting, oldest = await self._run(
            scripts.OUTBOX_STATE, names, (b"%d" % COUNTED_MAX,), timeout_s
        )  # fmt: skip
        return OutboxState(length, at_ms(first), waiting, at_ms(oldest))

    async def add_entry(self, place: int, fields: Mapping[bytes, bytes], timeout_s: float) -> bytes:
        """See `Outboxes.add_entry`."""
        key = keys.outbox_key(place)
        words = [word for field in fields.items() for word in field]
        entry_id: bytes = await self._call(key, ("XADD", key, "*", *words), timeout_s, write=True)
        return entry_id


def _words(head: ArchiveHead) -> tuple[bytes, bytes, bytes, bytes]:
    """A head as the scripts have it: one that nobody wrote yet has no hash."""
    digest = b"" if not head.position and not any(head.hash) else head.hash
    return b"%d" % head.position, digest, head.last_id, head.path.encode()


def _head(told: Sequence[Any]) -> ArchiveHead:
    """The head that a place's fields tell."""
    fence, position, digest, last_id, path = told
    return ArchiveHead(
        int(position or 0), digest or bytes(HASH_BYTES), last_id or b"", (path or b"").decode(), int(fence or 0)
    )
