"""A lane: one connection on which the commands of concurrent callers travel together.

redis-py spends 110 to 140 us of CPU on a command because each takes a connection from the pool, writes, waits
and reads alone. Here the commands of one turn of the event loop leave in one write, replies are parsed by
hiredis as they arrive and given to the waiting callers in order, and the connection is never idle while a
reply is on its way.

    callers ──call()──▶ _outgoing ──one write a turn──▶ transport ──▶ server
       ▲                    └─ one _Waiting each, in _waiting, oldest first
       └── future ◀── data_received: hiredis, one reply each ◀────────┘

Invariants
  * Replies come in the order of commands, so the n-th reply is for the n-th _Waiting. A caller that gave up
    (time-out, cancellation) leaves its place in the queue: the late reply is dropped and nothing slips out of
    step.
  * Nothing is ever sent twice.
  * A caller learns either a reply, or StoreUnavailable (its command was never handed to the transport, or
    wrote nothing), or OutcomeUnknown (a write that may have arrived).
  * What can grow is bounded: commands waiting for a reply, and bytes not yet taken by the server.

A connection whose oldest command was given up and is more than STALLED_S old is dropped: black holes and
half-open connections show in no other way.
"""

from __future__ import annotations

import asyncio
from asyncio import Future, TimerHandle
from collections import deque
from collections.abc import Callable
from typing import Any, Final, cast

import hiredis

from decision_service.core.errors import OutcomeUnknown, StoreUnavailable
from decision_service.store.replies import ErrorReply

WAITING_MAX: Final = 8_192  # commands of one lane without a reply
UNSENT_BYTES_MAX: Final = 8 * 1_048_576  # bytes the server has not taken; beyond, new commands are refused
STALLED_S: Final = 1.0
SWEEP_PAUSE_S: Final = 0.001  # callers whose time is up are looked for at most this often

_NEVER: Final = float("inf")
_NOT_YET: Final = object()

# A command as bytes. (The library's own annotation says a tuple of one.)
pack: Final = cast(Callable[[tuple[Any, ...]], bytes], hiredis.pack_command)


class _Waiting:
    """One command on its way: who waits for the reply, since when and until when, and whether it writes."""

    __slots__ = ("future", "sent_at", "until", "write")

    def __init__(self, future: Future[Any] | None, sent_at: float, until: float, write: bool) -> None:
        self.future = future
        self.sent_at = sent_at
        self.until = until
        self.write = write

    def settle(self, reply: Any) -> None:
        if self.future is not None and not self.future.done():
            self.future.set_result(reply)

    def fail(self, why: str, *, sent: bool) -> None:
        if self.future is not None and not self.future.done():
            unknown = self.write and sent
            self.future.set_exception(OutcomeUnknown(why) if unknown else StoreUnavailable(why))

    @property
    def abandoned(self) -> bool:
        return self.future is None or self.future.done()


class Lane(asyncio.Protocol):
    """One connection in full-duplex use. Made by `client.open_lane` on a connection that is already
    authenticated."""

    def __init__(self, on_lost: Callable[[Lane], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._on_lost = on_lost
        self._reader = hiredis.Reader(replyError=ErrorReply, notEnoughData=_NOT_YET)
        self._waiting: deque[_Waiting] = deque()
        self._outgoing: list[bytes] = []
        self._unsent: list[_Waiting] = []
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

    def call(self, command: bytes, timeout_s: float, *, write: bool, preface: bytes = b"") -> Future[Any]:
        """Send one packed command; the future yields the reply (error replies are values). `preface` is a
        packed command that goes immediately before it and whose reply nobody wants (ASKING)."""
        if self._transport is None:
            raise StoreUnavailable("the connection to the store is lost")
        if timeout_s <= 0:
            raise StoreUnavailable("no time left to ask the store")
        if self._choked or len(self._waiting) + len(self._unsent) >= WAITING_MAX:
            raise StoreUnavailable("the store does not keep up")
        if not self._outgoing:
            self._loop.call_soon(self._flush)
        now = self._loop.time()
        if preface:
            self._outgoing.append(preface)
            self._unsent.append(_Waiting(None, now, now, False))
        future: Future[Any] = self._loop.create_future()
        until = now + timeout_s
        self._outgoing.append(command)
        self._unsent.append(_Waiting(future, now, until, write))
        if until < self._sweep_at:
            self._sweep_by(until)
        return future

    def _flush(self) -> None:
        if self._transport is None or not self._outgoing:
            return
        commands, self._outgoing = self._outgoing, []
        self._waiting.extend(self._unsent)
        self._unsent.clear()
        self._transport.write(commands[0] if len(commands) == 1 else b"".join(commands))

    def data_received(self, data: bytes) -> None:
        reader = self._reader
        try:
            reader.feed(data)
            while (reply := reader.gets()) is not _NOT_YET:
                self._waiting.popleft().settle(reply)
        except (hiredis.HiredisError, IndexError, UnicodeDecodeError):
            self.drop("the store answered what is not the protocol")
        if self._retired and not self._waiting and not self._unsent:
            self.drop("retired")

    def _sweep_by(self, at: float) -> None:
        """Look for callers whose time is up at `at`. One timer for the whole lane: one a command costs 2 us."""
        if self._sweeping is not None:
            self._sweeping.cancel()
        self._sweep_at = at
        self._sweeping = self._loop.call_at(at, self._sweep)

    def _sweep(self) -> None:
        self._flush()  # so that _waiting holds every caller
        now = self._loop.time()
        self._sweep_at, self._sweeping, soonest = _NEVER, None, _NEVER
        for waiting in self._waiting:
            if waiting.abandoned:
                continue
            if waiting.until <= now:
                waiting.fail("no reply from the store in time", sent=True)
            elif waiting.until < soonest:
                soonest = waiting.until
        if self._waiting and self._waiting[0].abandoned and now - self._waiting[0].sent_at > STALLED_S:
            self.drop("the store stopped answering")
        elif soonest != _NEVER:
            self._sweep_by(max(soonest, now + SWEEP_PAUSE_S))

    def retire(self) -> None:
        """Take no more commands, and close once the replies under way have come."""
        self._retired = True
        if not self._waiting and not self._unsent:
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
        self._fail_all(why)
        self._on_lost(self)

    def _fail_all(self, why: str) -> None:
        sent, unsent = list(self._waiting), list(self._unsent)
        self._waiting.clear()
        self._unsent.clear()
        self._outgoing.clear()
        for waiting in sent:
            waiting.fail(why, sent=True)
        for waiting in unsent:
            waiting.fail(why, sent=False)

    def connection_lost(self, exc: Exception | None) -> None:
        self.drop("the connection to the store was lost")

    def pause_writing(self) -> None:
        self._choked = True

    def resume_writing(self) -> None:
        self._choked = False
