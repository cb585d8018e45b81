"""Load on a store while its servers change: draws that are each one atomic commit, and what became of them."""

from __future__ import annotations

import asyncio
from collections import Counter

from store_cases import record

from decision_service.core.errors import OutcomeUnknown, StoreError, VersionMoved
from decision_service.core.limits import PARTITIONS
from decision_service.store import Commit, Store, keys
from topology_servers import Servers

CALL_S = 0.25
PATIENCE_S = 30.0


class Draws:
    """Every customer appends record after record, each with a decision and an outbox entry, each asked again by id
    until it is known to have happened."""

    def __init__(self, store: Store, customers: int = 8) -> None:
        self.customers = [f"c-{n}" for n in range(customers)]
        self.acknowledged: Counter[str] = Counter()
        self.errors: Counter[str] = Counter()
        self._store = store
        self._stopped = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Draws:
        self._tasks = [asyncio.create_task(self._draw(customer)) for customer in self.customers]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._stopped.set()
        await asyncio.gather(*self._tasks)

    async def more(self, draws: int) -> None:
        """Wait until every customer has drawn so many times more."""
        wanted = {customer: self.acknowledged[customer] + draws for customer in self.customers}
        async with asyncio.timeout(PATIENCE_S):
            while any(self.acknowledged[customer] < count for customer, count in wanted.items()):  # noqa: ASYNC110
                await asyncio.sleep(0.01)

    async def _draw(self, customer: str) -> None:
        while not self._stopped.is_set():
            number = self.acknowledged[customer]
            decision_id = keys.decision_id_of(customer, f"r-{number}", PARTITIONS)
            try:
                state = await self._store.read(customer, decision_id, CALL_S)
                if state.decision is None:
                    commit = Commit(customer, state.version, record(number), decision=(decision_id, b"f"))
                    await self._store.commit(commit, CALL_S)
                self.acknowledged[customer] += 1
            except (StoreError, VersionMoved) as error:
                self.errors[error.code] += 1
                await asyncio.sleep(0.002 if isinstance(error, VersionMoved | OutcomeUnknown) else 0.02)

    async def check(self, servers: Servers, *, lost_max: int = 0) -> None:
        """Each draw is there whole and once. `lost_max`: how many acknowledged ones a customer may lack."""
        for customer in self.customers:
            state = await self._store.read(customer, None, PATIENCE_S)
            held = state.log[64:]
            numbers = [int.from_bytes(held[at + 16 : at + 24], "little") for at in range(0, len(held), 64)]
            assert len(numbers) == state.version == len(set(numbers)), customer
            missing = set(range(self.acknowledged[customer])) - set(numbers)
            assert len(missing) <= lost_max, f"{customer} lacks {sorted(missing)} of {self.acknowledged[customer]}"
            ids = [keys.decision_id_of(customer, f"r-{number}", PARTITIONS) for number in numbers]
            partition = keys.partition_of(customer, PARTITIONS)
            assert await self._store.read_decisions(partition, ids, PATIENCE_S) == [b"f"] * len(ids), customer
            with servers.leader(customer).client() as client:
                told = Counter(fields[b"id"].decode() for _, fields in client.xrange(keys.outbox_key(partition)))
            assert {one: told[one] for one in ids} == dict.fromkeys(ids, 1), customer
