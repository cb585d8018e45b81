"""One of several processes that append to the same customer: `python store_racer.py URL FIRST COUNT`.

Each of COUNT callers reads, and commits on the version it read until it wins; AT_ONCE of them race at any moment.
Prints how often they lost.
"""

from __future__ import annotations

import asyncio
import sys

from store_cases import decision_id, record

from decision_service.core.errors import VersionMoved
from decision_service.store import Commit, Store
from decision_service.store.open import open_store

PATIENCE_S = 30.0
AT_ONCE = 8  # callers of one process; all of them would spend the test losing to one another
CREDIT = 10  # how many records the racers let the customer have


async def draw(store: Store, number: int) -> int:
    """Append a record unless there are CREDIT already; how often the version had moved."""
    lost = 0
    while True:
        state = await store.read("c-1", None, PATIENCE_S)
        granted = len(state.log) // 64 - 1
        records = record(number) if granted < CREDIT else b""
        wanted = (decision_id("c-1", f"r-{number}"), b"approve" if records else b"hold")
        try:
            await store.commit(Commit("c-1", state.version, records, decision=wanted), PATIENCE_S)
            return lost
        except VersionMoved:
            lost += 1


async def race(url: str, first: int, count: int) -> int:
    """All callers at once."""
    store = open_store(url)
    gate = asyncio.Semaphore(AT_ONCE)

    async def gated(number: int) -> int:
        async with gate:
            return await draw(store, number)

    try:
        return sum(await asyncio.gather(*(gated(n) for n in range(first, first + count))))
    finally:
        await store.close()


if __name__ == "__main__":
    print(asyncio.run(race(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))))
