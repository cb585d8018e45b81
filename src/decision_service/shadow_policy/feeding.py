"""Feeding: from decisions that were answered to the shadow process, in pieces, when nobody waits.

    put ──▶ queue, at most QUEUE_MAX and QUEUE_BYTES_MAX ──PIECE of them, or what came in ROUND_S──▶ socket

`put` is one append; what finds no room is not evaluated, and counted. The event loop is kept for a piece at a time
(packing and sending take 14 us a decision of 200 events) and gives way between them: evenly over the time, for a round
of hundreds at once would be felt by whoever asks just then. From `put` to the write of the answer the loop runs nothing
else. A socket that is full, because the process is slow, is waited for here and nowhere else.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from contextlib import suppress
from time import monotonic
from typing import Final

from decision_service.core.decision import Decision
from decision_service.core.policy import Policy
from decision_service.core.request import DecisionRequest
from decision_service.core.state import CustomerState
from decision_service.shadow_policy.meters import ShadowMeters
from decision_service.shadow_policy.wire import log_bytes, pack_decisions, pack_policy

LOG = logging.getLogger("decision_service.shadow")
QUEUE_MAX: Final = 4_096  # decisions
QUEUE_BYTES_MAX: Final = 64 * 1_048_576  # of their logs, which the queue may be the last to hold
ROUND_S: Final = 0.25
PIECE: Final = 8  # decisions packed before others get a turn
PIECE_BYTES: Final = 262_144  # a piece ends with the decision that reaches it

_Waiting = tuple[DecisionRequest, CustomerState, Decision, Policy, int]


class Feed:
    """One connection's queue."""

    def __init__(self, writer: asyncio.StreamWriter, meters: ShadowMeters) -> None:
        self._writer = writer
        self._meters = meters
        self._queue: deque[_Waiting] = deque()
        self._bytes = 0
        self._some = asyncio.Event()  # something waits
        self._piece = asyncio.Event()  # enough for a piece
        self._told: bytes | None = None  # content of the policy that the process knows
        self._in_flight = 0
        self._moved_at = 0.0  # when the process last finished something, or was given the first
        self._failed: set[str] = set()

    def put(self, request: DecisionRequest, state: CustomerState, decision: Decision, policy: Policy) -> None:
        """Hand on a decision that was answered. Waits for nothing and raises nothing."""
        size = log_bytes(state)
        if len(self._queue) >= QUEUE_MAX or self._bytes + size > QUEUE_BYTES_MAX:
            self._meters.count("dropped")
            return
        self._bytes += size
        self._queue.append((request, state, decision, policy, size))
        if len(self._queue) == 1:
            self._some.set()
        elif len(self._queue) == PIECE:
            self._piece.set()

    def done(self, number: int) -> None:
        """The process has dealt with so many."""
        self._in_flight = max(0, self._in_flight - number)
        self._moved_at = monotonic()

    @property
    def stalled_s(self) -> float:
        """How long the process has had something to do and finished nothing."""
        return monotonic() - self._moved_at if self._in_flight else 0.0

    def shut(self) -> None:
        """Take nothing more; count what never got there, and what was on its way."""
        self._meters.count("dropped", len(self._queue))
        self._meters.count("lost", self._in_flight)
        self._queue.clear()
        self._bytes = self._in_flight = 0
        self._meters.set_waiting(0)

    async def work(self) -> None:
        """Send until cancelled, or the connection is lost."""
        with suppress(ConnectionError):
            while True:
                await self._some.wait()
                if not self._piece.is_set():
                    with suppress(TimeoutError):
                        async with asyncio.timeout(ROUND_S):
                            await self._piece.wait()
                self._some.clear()
                self._piece.clear()
                while self._queue:
                    self._meters.set_waiting(len(self._queue))
                    await self._send_piece()
                self._meters.set_waiting(0)

    async def _send_piece(self) -> None:
        policy, piece, size = self._queue[0][3], list[tuple[DecisionRequest, CustomerState, Decision]](), 0
        while self._queue and len(piece) < PIECE and size < PIECE_BYTES and self._queue[0][3] is policy:
            request, state, decision, _, its_size = self._queue.popleft()
            piece.append((request, state, decision))
            size += its_size
        self._bytes -= size
        try:
            parts = pack_decisions(piece)
        except Exception as error:  # a mistake of ours: these are not compared, those that follow are
            self._meters.count("lost", len(piece))
            if (kind := type(error).__name__) not in self._failed:
                self._failed.add(kind)
                LOG.error("decisions could not be sent to the shadow; told once for %s", kind, exc_info=error)
            return
        if policy.content != self._told:
            self._told = policy.content
            self._writer.writelines(pack_policy(policy))
        if not self._in_flight:
            self._moved_at = monotonic()
        self._in_flight += len(piece)
        self._writer.writelines(parts)
        await asyncio.sleep(0)  # `drain` alone gives way only where it has to wait
        await self._writer.drain()
