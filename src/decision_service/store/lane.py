"""A lane: one connection on which the commands of concurrent callers travel together.

redis-py spends 110 to 140 us of CPU on a command because each takes a connection from the pool, writes, waits
and reads alone. Here the commands of one turn of the event loop leave together (uvloop would make a write of each, some
15 us), replies are parsed by hiredis as they arrive and given to the waiting callers in order, and the connection is
never idle while a reply is on its way.

    callers ──call()──▶ _unsent ── a write a turn ──▶ transport ──▶ server
       ▲          └─ one _Waiting each, in _waiting, oldest first
       └── future ◀── data_received: hiredis, as many replies as were asked for ◀──┘

Invariants
  * Replies come in the order of commands, so the next reply is for the oldest _Waiting until that has all of its own.
    A caller that gave up (time-out, cancellation) leaves its place in the queue: the late replies are dropped and
    nothing slips out of step.
  * Nothing is ever sent twice.
  * A caller learns either a reply, or StoreUnavailable (its command was never taken, or
    writes nothing), or OutcomeUnknown (a write that may have arrived: whatever is in _waiting).
  * What can grow is bounded: calls waiting for replies, and bytes not yet taken by the server.

A connection whose oldest command was given up and is more than STALLED_S old is dropped: black holes and
half-open connections show in no other way. Long before that the lane tells its owner that the server is *silent*: at
least SILENT_CALLS commands in a row got no reply in their time, over SILENT_S or more. Impatience is no silence: a
command that was given less than PATIENCE_S does not count, unless even the oldest one waits for HURRIED_S by now
(where all callers are impatient, nobody else would notice).
"""

from __future__ import annotations

import asyncio
from asyncio import Future, TimerHandle
from collections import deque
from collections.abc import Callable
from typing import Any, Final, Protocol, cast

import hiredis

from decision_service.core.errors import OutcomeUnknown, StoreUnavailable
from decision_service.store.replies import ELSEWHERE, ErrorReply

WAITING_MAX: Final = 16_384  # calls of one lane without their replies; a decision reads with up to four
UNSENT_BYTES_MAX: Final = 8 * 1_048_576  # bytes the server has not taken; beyond, new commands are refused
STALLED_S: Final = 1.0
SILENT_CALLS: Final = 5
SILENT_S: Final = 0.05
PATIENCE_S: Final = 0.005
HURRIED_S: Final = 0.25
SWEEP_PAUSE_S: Final = 0.001  # callers whose time is up are looked for at most this often

_NEVER: Final = float("inf")
_NOT_YET: Final = object()

# A command as bytes. (The library's own annotation says a tuple of one.)
pack: Final = cast(Callable[[tuple[Any, ...]], bytes], hiredis.pack_command)


# What went out together: who waits, since when and until when, whether it writes, and how many replies it gets. (A
# plain tuple: one is made a call, and a class of its own costs more than everything else `call` does.)
_Waiting = tuple[Future[Any], float, float, bool, int]


class LaneOwner(Protocol):
    """Who opens lanes again, and turns callers away while that is no use."""

    def lost(self, lane: Lane) -> None:
        """The lane has ended."""
        ...

    def silent(self, lane: Lane) -> None:
        """The server does not answer in time; told again while that lasts."""
        ...

    def elsewhere(self) -> None:
        """The server is no longer the one to use."""
        ...


def _fail(waiting: _Waiting, why: str) -> None:
    future, _, _, write, _ = waiting
    if not future.done():
        future.set_exception(OutcomeUnknown(why) if write else StoreUnavailable(why))


class Lane(asyncio.Protocol):
    """One connection in full-duplex use. Made by `client.open_lane` on a connection that is already
    authenticated."""

    __slots__ = (
        "_choked", "_come", "_late", "_late_since", "_loop", "_owner", "_reader", "_release", "_retired", "_sweep_at",
        "_sweeping", "_swept_at", "_transport", "_unsent", "_waiting",
    )  # fmt: skip

    def __init__(self, owner: LaneOwner) -> None:
        self._loop = asyncio.get_running_loop()
        self._owner = owner
        self._late = 0  # commands in a row without a reply in time
        self._late_since = 0.0  # when the first of them was sent
        self._swept_at = 0.0
        self._reader = hiredis.Reader(replyError=ErrorReply, notEnoughData=_NOT_YET)
        self._waiting: deque[_Waiting] = deque()
        self._come: list[Any] = []  # replies to the oldest of `_waiting`, while it does not have all
        self._unsent: list[bytes] = []  # commands of this turn
        self._transport: asyncio.Transport | None = None
        self._release: Callable[[], None] = lambda: None
        self._choked = False
        self._retired = False
        self._sweep_at = _NEVER
        self._sweeping: TimerHandle | None = None

    def adopt(self, transport: asyncio.Transport, release: Callable[[], None]) -> None:
        """Take over a connected transport; `release` frees whoever opened it once it is closed."""
        self._transport = transport
        self._release = release
        transport.set_write_buffer_limits(high=UNSENT_BYTES_MAX)
        transport.set_protocol(self)

    def call(
        self, command: bytes, timeout_s: float, *, write: bool, preface: bytes = b"", replies: int = 1
    ) -> Future[Any]:
        """Send one packed command; the future yields the reply (error replies are values). Or several that write
        nothing, together; then it yields the list of so many `replies`. `preface` is a packed command that goes
        immediately before it and whose reply nobody wants (ASKING)."""
        if self._transport is None:
            raise StoreUnavailable("the connection to the store is lost")
        if timeout_s <= 0:
            raise StoreUnavailable("no time left to ask the store")
        if self._choked or len(self._waiting) >= WAITING_MAX:
            raise StoreUnavailable("the store does not keep up")
        waiting, unsent, loop = self._waiting, self._unsent, self._loop
        now = loop.time()
        if not unsent:
            loop.call_soon(self._send)
        if preface:
            unsent.append(preface)
            nobody: Future[Any] = loop.create_future()
            nobody.cancel()
            waiting.append((nobody, now, _NEVER, False, 1))
        future: Future[Any] = loop.create_future()
        until = now + timeout_s
        unsent.append(command)
        waiting.append((future, now, until, write, replies))
        if until < self._sweep_at:
            self._sweep_by(until)
        return future

    def _send(self) -> None:
        unsent, self._unsent = self._unsent, []
        if self._transport is not None:
            self._transport.write(unsent[0] if len(unsent) == 1 else b"".join(unsent))

    def data_received(self, data: bytes) -> None:
        reader, waiting = self._reader, self._waiting
        now = self._loop.time() if self._late else _NEVER
        try:
            reader.feed(data)
            while (reply := reader.gets()) is not _NOT_YET:
                if type(reply) is ErrorReply and reply.code in ELSEWHERE:
                    self._owner.elsewhere()
                future, _, until, _, replies = waiting[0]
                if until > now:
                    self._late = 0
                if replies > 1:
                    self._come.append(reply)
                    if len(self._come) < replies:
                        continue
                    reply, self._come = self._come, []
                waiting.popleft()
                if not future.done():
                    future.set_result(reply)
        except (hiredis.HiredisError, IndexError, UnicodeDecodeError):
            self.drop("the store answered what is not the protocol")
        if self._retired and not waiting:
            self.drop("retired")

    def _sweep_by(self, at: float) -> None:
        """Look for callers whose time is up at `at`. One timer for the whole lane: one a command costs 2 us."""
        if self._sweeping is not None:
            self._sweeping.cancel()
        self._sweep_at = at
        self._sweeping = self._loop.call_at(at, self._sweep)

    def _sweep(self) -> None:
        now, before = self._loop.time(), self._swept_at
        self._swept_at = now
        self._sweep_at, self._sweeping, soonest = _NEVER, None, _NEVER
        late = self._late
        patience_s = 0.0 if self._waiting and now - self._waiting[0][1] >= HURRIED_S else PATIENCE_S
        for waiting in self._waiting:
            future, sent_at, until, _, _ = waiting
            if before < until <= now and until - sent_at >= patience_s:
                if not late:
                    self._late_since = sent_at
                late += 1
            if future.done():
                continue
            if until <= now:
                _fail(waiting, "no reply from the store in time")
            elif until < soonest:
                soonest = until
        newly, self._late = late > self._late, late
        if self._stalled(now):
            self.drop("the store stopped answering")
            return
        if soonest != _NEVER:
            self._sweep_by(max(soonest, now + SWEEP_PAUSE_S))
        if newly and late >= SILENT_CALLS and now - self._late_since >= SILENT_S:
            self._owner.silent(self)

    def _stalled(self, now: float) -> bool:
        if not self._waiting:
            return False
        future, sent_at, _, _, _ = self._waiting[0]
        return future.done() and now - sent_at > STALLED_S

    def retire(self) -> None:
        """Take no more commands, and close once the replies under way have come."""
        self._retired = True
        if not self._waiting:
            self.drop("retired")

    def drop(self, why: str) -> None:
        """Close now. Commands under way fail as their kind demands."""
        if self._transport is None:
            return
        transport, self._transport = self._transport, None
        if self._sweeping is not None:
            self._sweeping.cancel()
        transport.abort()
        self._release()
        for waiting in self._waiting:
            _fail(waiting, why)
        self._waiting.clear()
        self._owner.lost(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self.drop("the connection to the store was lost")

    def pause_writing(self) -> None:
        self._choked = True

    def resume_writing(self) -> None:
        self._choked = False
