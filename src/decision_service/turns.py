"""Turns: the requests of one customer inside one worker queue up behind each other instead of racing.

Whoever holds a customer's turn is the only one of this worker who reads, decides and commits for that customer, so a
contended customer costs one commit a request and not one commit and many conflicts. Nothing is held across workers:
there the store's conditional commit decides.
"""

from __future__ import annotations

import asyncio
from collections import deque

from decision_service.core.errors import DeadlineExceeded


class Turns:
    """Who is being served and who waits, by customer. Memory is bounded by the requests in flight.

    if not turns.take(customer_id):
        await turns.wait(customer_id, deadline)
    try: ...
    finally: turns.leave(customer_id)
    """

    def __init__(self) -> None:
        self._waiting: dict[str, deque[asyncio.Future[None]] | None] = {}  # None: served, and nobody waits

    def take(self, customer_id: str) -> bool:
        """Take the turn if nobody has it; nothing is awaited, which is the usual case."""
        if customer_id in self._waiting:
            return False
        self._waiting[customer_id] = None
        return True

    async def wait(self, customer_id: str, deadline: float) -> None:
        """Wait for the turn until `deadline`, an instant of the running loop's clock. DeadlineExceeded."""
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        queue = self._waiting[customer_id]
        if queue is None:
            queue = self._waiting[customer_id] = deque()
        queue.append(place)
        try:
            async with asyncio.timeout_at(deadline):
                await place
        except BaseException as error:
            if place.done() and not place.cancelled():
                self.leave(customer_id)  # the turn came while we were giving up: it must not be lost
            if isinstance(error, TimeoutError):
                raise DeadlineExceeded("other requests of this customer are still being decided") from None
            raise

    def leave(self, customer_id: str) -> None:
        """Pass the turn on to the next who still waits."""
        queue = self._waiting[customer_id]
        while queue:
            place = queue.popleft()
            if not place.done():
                place.set_result(None)
                return
        del self._waiting[customer_id]
