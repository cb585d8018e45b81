"""What a store call costs the client: CPU and wall time per read (200-event log) and per commit, at a
rising number of concurrent callers, through our lanes and through plain redis-py, on an embedded server
(fsync always).

    python benchmarks/store_commands.py [--calls 4000] [--json]

CPU is this process's user and system time; the server runs beside it. The commit appends one record, stores
a 2 kB decision frame and adds one outbox entry. redis-py runs the same scripts through `evalsha`.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import redis.asyncio
import uvloop
from redis.backoff import NoBackoff
from redis.retry import Retry

from decision_service.core.event import Event, event_key
from decision_service.core.facility import Attribute, Facility
from decision_service.core.limits import PARTITIONS
from decision_service.store import Commit, Store, keys, scripts
from decision_service.store.embedded import EmbeddedServer
from decision_service.store.open import open_store

CUSTOMERS = 256
EVENTS = 200
FRAME = bytes(2_048)
CONCURRENCY = (1, 16, 64)
TIMEOUT_S = 10.0

Call = Callable[[int], Awaitable[None]]


class Workload:
    """Customers of one measurement, and the two calls made on them."""

    def __init__(self, run: str) -> None:
        self._run = run
        self._versions = [1] * CUSTOMERS

    def customer(self, number: int) -> str:
        return f"{self._run}-{number % CUSTOMERS}"

    def decision_id(self, number: int) -> str:
        return keys.decision_id_of(self.customer(number), f"r-{number}", PARTITIONS)

    async def prepare(self, store: Store) -> None:
        log = b"".join(_record(n) for n in range(EVENTS))
        attributes = {"bureau_inquiries_30d": Attribute(2.0, 1)}
        await asyncio.gather(
            *(
                store.commit(Commit(c, 0, log, None, {"f-1": _facility(c)}, attributes), TIMEOUT_S)
                for c in map(self.customer, range(CUSTOMERS))
            )
        )

    def through_lanes(self, store: Store) -> dict[str, Call]:
        async def read(number: int) -> None:
            await store.read(self.customer(number), self.decision_id(number), TIMEOUT_S)

        async def commit(number: int) -> None:
            change = Commit(
                self.customer(number),
                self._versions[number % CUSTOMERS],
                _record(number),
                decision=(self.decision_id(number), FRAME),
            )
            self._versions[number % CUSTOMERS] = await store.commit(change, TIMEOUT_S)

        return {"read": read, "commit": commit}

    def through_redis_py(self, client: redis.asyncio.Redis) -> dict[str, Call]:
        def names(number: int) -> tuple[bytes, ...]:
            customer = self.customer(number)
            partition = keys.partition_of(customer, PARTITIONS)
            return (
                keys.meta_key(partition, customer),
                keys.log_key(partition, customer),
                keys.outbox_key(partition),
                keys.waiting_key(partition),
                keys.marker_key(partition),
                keys.decision_key(partition, self.decision_id(number)),
            )

        async def read(number: int) -> None:
            meta, log, _, _, marker, frame = names(number)
            await client.evalsha(scripts.READ.sha.decode(), 4, meta, log, marker, frame)

        async def commit(number: int) -> None:
            version = str(self._versions[number % CUSTOMERS])
            arguments = (version, str(int(version) + 1), b"", _record(number), FRAME, b"", b"", "0")
            reply = client.evalsha(scripts.COMMIT.sha.decode(), 6, *names(number), *arguments)
            self._versions[number % CUSTOMERS] = await reply

        return {"read": read, "commit": commit}


def _record(number: int) -> bytes:
    return Event(event_key(str(number)), 1, 1, 1_764_000_000_000 + number, 9_900).pack()


def _facility(customer: str) -> Facility:
    return Facility("f-1", customer, "revolver", "CNY", 1_000_000, 0, 1, 1_800, "active", 1)


async def _measure(call: Call, concurrency: int, calls: int, first: int) -> tuple[float, float]:
    """CPU and wall microseconds per call. Each caller keeps to customers of its own, so no version moves."""

    async def caller(number: int) -> None:
        for step in range(number, calls, concurrency):
            await call(first + step)

    cpu, wall = time.process_time(), time.perf_counter()
    await asyncio.gather(*(caller(n) for n in range(concurrency)))
    return 1e6 * (time.process_time() - cpu) / calls, 1e6 * (time.perf_counter() - wall) / calls


async def _run(url: str, calls: int) -> list[dict[str, object]]:
    store = open_store(url)
    client = redis.asyncio.Redis.from_url(url, retry=Retry(NoBackoff(), 0), max_connections=128)
    rows: list[dict[str, object]] = []
    for script in (scripts.READ, scripts.COMMIT):
        await client.script_load(script.source)
    try:
        for sort, concurrency in itertools.product(("read", "commit"), CONCURRENCY):
            for name in ("lanes", "redis-py"):
                work = Workload(f"{sort}{concurrency}{name}")
                await work.prepare(store)
                ways = work.through_lanes(store) if name == "lanes" else work.through_redis_py(client)
                await _measure(ways[sort], concurrency, CUSTOMERS, 0)
                cpu_us, wall_us = await _measure(ways[sort], concurrency, calls, CUSTOMERS)
                rows.append(
                    {"call": sort, "concurrency": concurrency, "client": name}
                    | {"cpu_us": round(cpu_us, 1), "wall_us": round(wall_us, 1)}
                )
    finally:
        await client.aclose()
        await store.close()
    return rows


def main() -> None:
    """Measure and print."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--calls", type=int, default=4_096)
    arguments.add_argument("--json", action="store_true")
    chosen = arguments.parse_args()
    with tempfile.TemporaryDirectory() as data_dir, EmbeddedServer(Path(data_dir)) as server:
        rows = uvloop.run(_run(server.url, chosen.calls))
    if chosen.json:
        print(json.dumps(rows))
        return
    print(f"{'call':8}{'callers':>8}  {'client':10}{'CPU us':>8}{'wall us':>9}")
    for row in rows:
        print("{call:8}{concurrency:>8}  {client:10}{cpu_us:>8}{wall_us:>9}".format(**row))


if __name__ == "__main__":
    main()
