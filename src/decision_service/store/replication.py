"""Profile `replicated`: a write is acknowledged once enough servers hold it.

WAIT (and WAITAOF) speak for all that its connection wrote before it, and hold up what comes behind it. So the writes of
a lane share them: one is under way at a time, and what is written meanwhile is covered by the next.

    lane     W W W WAIT ........ W W W W WAIT ........ W WAIT
    server         └─ asks the replicas ─┘
    callers  told when the WAIT behind their write says that enough replicas have it

Too few replicas in time is NotReplicated: the write happened, and may yet be forgotten by a fail-over. Error replies
are passed on at once, for nothing was written then. Replication is one ordered stream, so a write that is replicated
vouches for everything before it, by whomever: that is how a stored decision is told only once it is replicated
(`RedisStore` writes the partition's fence for it).
"""

from __future__ import annotations

from asyncio import Future
from typing import Any, Final, NamedTuple

from decision_service.core.errors import NotReplicated, OutcomeUnknown, StoreUnavailable
from decision_service.store.lane import Lane, LaneOwner, pack
from decision_service.store.replies import ErrorReply

FSYNC_ASK_MS: Final = 10  # after which a replica is asked again what it has fsynced: by itself it says so once a second
WAIT_SPARE_S: Final = 0.5  # beyond the server's own time-out, for the reply to a WAIT to come


class Replicas(NamedTuple):
    """How many replicas must hold a write; `on_disk`: they and the primary must have fsynced it (WAITAOF)."""

    number: int
    timeout_ms: int
    on_disk: bool = False

    def command(self) -> bytes:
        """What asks for it."""
        if self.on_disk:
            return pack(("WAITAOF", 1, self.number, min(self.timeout_ms, FSYNC_ASK_MS)))
        return pack(("WAIT", self.number, self.timeout_ms))

    def enough(self, reply: Any) -> bool:
        """Whether the reply says that enough hold it."""
        if isinstance(reply, list):  # WAITAOF: whether this server has it on disk, and how many replicas
            return bool(reply[0] >= 1 and reply[1] >= self.number)
        return isinstance(reply, int) and reply >= self.number


REPLICAS_DEFAULT: Final = Replicas(1, 200)

# What the caller waits for; the reply to the write itself; and until when the replicas may hold it.
_Member = tuple["Future[Any]", "Future[Any]", float]


class ReplicatedLane(Lane):
    """A lane whose writes are acknowledged only once they are replicated."""

    __slots__ = ("_asked", "_asking", "_joined", "_replicas")

    def __init__(self, owner: LaneOwner, replicas: Replicas) -> None:
        super().__init__(owner)
        self._replicas = replicas
        self._asked = replicas.command()
        self._joined: list[_Member] = []
        self._asking = False

    def call(
        self, command: bytes, timeout_s: float, *, write: bool, preface: bytes = b"", replies: int = 1
    ) -> Future[Any]:
        """See `Lane.call`; NotReplicated besides."""
        written = super().call(command, timeout_s, write=write, preface=preface, replies=replies)
        if not write:
            return written
        told: Future[Any] = self._loop.create_future()
        expiry = self._loop.call_later(timeout_s, _expire, told, written)
        told.add_done_callback(lambda _: expiry.cancel())
        written.add_done_callback(lambda _: _pass_on_failure(written, told))
        if not self._joined and not self._asking:
            self._loop.call_soon(self._ask)  # once all that is written in this turn is written
        self._joined.append((told, written, self._loop.time() + self._replicas.timeout_ms / 1000))
        return told

    def _ask(self) -> None:
        """Wait for the replicas, on behalf of all that was written so far."""
        if self._asking:
            return
        members, self._joined = self._joined, []
        if self._transport is None or not members:
            return
        wait_s = self._replicas.timeout_ms / 1000 + WAIT_SPARE_S
        try:
            asked = super().call(self._asked, wait_s, write=False)
        except StoreUnavailable:
            _tell_short(members)
            return
        self._asking = True
        asked.add_done_callback(lambda done: self._answered(done, members))

    def _answered(self, asked: Future[Any], members: list[_Member]) -> None:
        self._asking = False
        if asked.cancelled() or asked.exception() is not None:
            _tell_short(members)
        elif self._replicas.enough(asked.result()):
            for told, written, _ in members:
                if not told.done():
                    told.set_result(written.result())
        else:
            now = self._loop.time()
            _tell_short([member for member in members if member[2] <= now or not self._replicas.on_disk])
            self._joined = [member for member in members if not member[0].done()] + self._joined
        if self._joined:
            self._ask()


def _expire(told: Future[Any], written: Future[Any]) -> None:
    if told.done():
        return
    if written.done():
        told.set_exception(NotReplicated("the replicas did not confirm in time"))
    else:
        told.set_exception(OutcomeUnknown("no reply from the store in time"))


def _pass_on_failure(written: Future[Any], told: Future[Any]) -> None:
    """A write that failed is told as it is; and so is one that did nothing."""
    if told.done():
        return
    if written.cancelled():
        told.cancel()
    elif (error := written.exception()) is not None:
        told.set_exception(error)
    elif type(written.result()) is ErrorReply:
        told.set_result(written.result())


def _tell_short(members: list[_Member]) -> None:
    for told, _, _ in members:
        if not told.done():
            told.set_exception(NotReplicated("too few replicas hold what was written"))
