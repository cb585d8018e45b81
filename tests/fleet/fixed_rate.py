"""Background load: decisions at a fixed rate over a bounded number of connections, every answer kept."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from itertools import count
from time import perf_counter
from typing import Any

from decision_service.http_client import Client

CONNECTIONS = 24


@dataclass
class Load:
    """Decisions on `customers` customers, `rate` a second; `stop` ends it. A late one is sent as soon as a connection
    is free: nothing is left out, so the rate that was reached may be lower than the one asked for."""

    url: str
    rate: int
    customers: int
    statuses: dict[int, int] = field(default_factory=dict)
    policies: dict[str, int] = field(default_factory=dict)
    took_s: list[float] = field(default_factory=list)
    lasted_s: float = 0.0
    failures: list[Any] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._numbers = count()
        self._running = True
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Load:
        self._began = perf_counter()
        self._tasks = [asyncio.create_task(self._lane()) for _ in range(CONNECTIONS)]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._running = False
        await asyncio.gather(*self._tasks)
        self.lasted_s = perf_counter() - self._began

    async def _lane(self) -> None:
        async with Client(self.url) as client:
            while self._running:
                number = next(self._numbers)
                await asyncio.sleep(max(0.0, self._began + number / self.rate - perf_counter()))
                if self._running:
                    await self._one(client, number)

    async def _one(self, client: Client, number: int) -> None:
        customer = number % self.customers
        body = {
            "request_id": f"load-{number}", "customer_id": f"l-{customer}", "facility_id": f"lf-{customer}",
            "amount": 1, "currency": "CNY", "deadline_ms": 5_000,
        }  # fmt: skip
        sent = perf_counter()
        response = await client.call("POST", "/v1/decisions", body)
        self.took_s.append(perf_counter() - sent)
        told = response.json()
        self.statuses[response.status] = self.statuses.get(response.status, 0) + 1
        if response.status != 200:
            self.failures.append(told)
        else:
            policy = told["policy"]["id"]
            self.policies[policy] = self.policies.get(policy, 0) + 1

    def account(self) -> str:
        """What it came to, for people."""
        times = sorted(self.took_s)
        p99 = times[len(times) * 99 // 100] * 1e3
        return f"{len(times)} decisions in {self.lasted_s:.1f} s: {len(times) / self.lasted_s:.0f}/s, p99 {p99:.0f} ms"
