"""Many customers at the same time, not too many: work is given out while there is room, the first failure ends it.

A customer whom others change all the time, or a store that restarts, is no failure yet: `change_patiently` tries again.

Room is counted in weight as well as in tasks, because what travels to the store at one time is bounded
(`store.lane.UNSENT_BYTES_MAX`). Something heavier than the whole room goes when it is alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from types import TracebackType
from typing import Any, Final

from decision_service.change import Plan, Prepare, change_customer
from decision_service.core.errors import Conflict, OutcomeUnknown, StoreUnavailable
from decision_service.store import Store

BUDGET_S: Final = 30.0  # of one attempt: nobody waits for it, and a server may be busy
PAUSES_S: Final = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 4.0, 8.0)
TASKS_MAX: Final = 48
WEIGHT_MAX: Final = 32_768  # records on their way: 2 MB in the logs, as much in the outbox, up to half more in links


class Crew:
    """`async with Crew() as crew: await crew.start(work)`. Leaving waits for all work, and raises the first failure."""

    def __init__(self, tasks_max: int = TASKS_MAX, weight_max: int = WEIGHT_MAX) -> None:
        self._tasks_max, self._weight_max = tasks_max, weight_max
        self._tasks: dict[asyncio.Task[None], int] = {}
        self._weight = 0

    async def start(self, work: Coroutine[Any, Any, None], weight: int = 1) -> None:
        """Begin a piece of work as soon as there is room. Raises what an earlier piece failed with."""
        try:
            while self._tasks and (len(self._tasks) >= self._tasks_max or self._weight + weight > self._weight_max):
                await self._wait(asyncio.FIRST_COMPLETED)
        except BaseException:
            work.close()
            raise
        self._tasks[asyncio.ensure_future(work)] = weight
        self._weight += weight

    async def _wait(self, until: str) -> None:
        done, _ = await asyncio.wait(self._tasks, return_when=until)
        for task in done:
            self._weight -= self._tasks.pop(task)
        for task in done:
            task.result()

    async def __aenter__(self) -> Crew:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            while error is None and self._tasks:
                await self._wait(asyncio.FIRST_EXCEPTION)
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)


async def change_patiently(store: Store, customer_id: str, plan: Plan, prepare: Prepare | None = None) -> None:
    """Change a customer, several times if need be. StoreError, Conflict in the end."""
    for pause_s in PAUSES_S:
        try:
            await change_customer(store, customer_id, plan, BUDGET_S, prepare)
        except (Conflict, StoreUnavailable, OutcomeUnknown):
            await asyncio.sleep(pause_s)
        else:
            return
    await change_customer(store, customer_id, plan, BUDGET_S, prepare)
