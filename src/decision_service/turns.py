"""Turns: the requests of one customer inside one worker queue up behind each other instead of racing.

Whoever holds a customer's turn is the only one of this worker who reads, decides and commits for that customer, so a
contended customer costs one commit a request and not one commit and many conflicts. Nothing is held across workers:
there the store's conditional commit decides.
"""

from __future__ import annotations

import asyncio
from collections import deque
from types import TracebackType

from decision_service.core.errors import DeadlineExceeded


class Turns:
    """Who is being served and who waits, by customer. Memory is bounded by the requests in flight."""

    def __init__(self) -> None:
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}

    def turn(self, customer_id: str, deadline: float) -> Turn:
        """An async context manager for the customer's turn; DeadlineExceeded if it does not come by `deadline`
        (an instant of the running loop's clock)."""
        return Turn(self._waiting, customer_id, deadline)


class Turn:
    """One place in a customer's queue."""

    __slots__ = ("_customer_id", "_deadline", "_waiting")

    def __init__(self, waiting: dict[str, deque[asyncio.Future[None]]], customer_id: str, deadline: float) -> None:
        self._waiting = waiting
        self._customer_id = customer_id
        self._deadline = deadline

    async def __aenter__(self) -> None:
        queue = self._waiting.get(self._customer_id)
        if queue is None:
            self._waiting[self._customer_id] = deque()
            return
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        queue.append(place)
        try:
            async with asyncio.timeout_at(self._deadline):
                await place
        except BaseException as error:
            if place.done() and not place.cancelled():
                self._pass_on()  # the turn came while we were giving up: it must not be lost
            if isinstance(error, TimeoutError):
                raise DeadlineExceeded("other requests of this customer are still being decided") from None
            raise

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pass_on()

    def _pass_on(self) -> None:
        queue = self._waiting[self._customer_id]
        while queue:
            place = queue.popleft()
            if not place.done():
                place.set_result(None)
                return
        del self._waiting[self._customer_id]
