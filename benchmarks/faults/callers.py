"""The load of the fault benchmarks: callers of core banking that retry, ask twice at once and settle; and what they
were told, which is what any fault is judged by.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from decision_service.http_client import Client, ConnectionLost
from decision_service.replay import instant

PARTITIONS: Final = 4
CUSTOMERS: Final = 48
LIMIT: Final = 2_000  # major units: room for twenty draws
AMOUNT: Final = 100
CALLERS: Final = 24
DEADLINES_MS: Final = (20, 100, 500, 1_000)
PAUSE_S: Final = 0.06  # of a caller between two questions: the load leaves room for workers to start
RETRY_S: Final = 0.05
GIVE_UP_S: Final = 120.0  # for one answer, retried: longer than any restart here


@dataclass(slots=True)
class Told:
    """What callers were told, and what they settled. Ids are request ids."""

    answers: dict[str, bytes] = field(default_factory=dict)
    answered_at: dict[str, float] = field(default_factory=dict)  # instants of the monotonic clock, in seconds
    asked: dict[str, dict[str, Any]] = field(default_factory=dict)
    differing: set[str] = field(default_factory=set)
    unanswered: set[str] = field(default_factory=set)
    odd: Counter[str] = field(default_factory=Counter)  # answers that are neither 200 nor 503
    settled: dict[str, str] = field(default_factory=dict)  # decision id -> booked, cancelled
    repaid: Counter[str] = field(default_factory=Counter)  # customer -> repayments
    unavailable: int = 0  # 503
    disconnected: int = 0
    again: int = 0  # answers that were checked against the first one while it went on

    def take(self, request_id: str, body: bytes) -> None:
        """An answer: the first one stands, any other must be the same bytes."""
        if self.answers.setdefault(request_id, body) != body:
            self.differing.add(request_id)
        self.answered_at.setdefault(request_id, time.monotonic())


class Caller:
    """One caller of core banking: asks, retries, asks twice at once, settles. Its connections are its own."""

    def __init__(self, name: str, url: str, told: Told, rng: random.Random, stop: asyncio.Event) -> None:
        self._name, self._told, self._rng, self._stop = name, told, rng, stop
        self._clients = [Client(url, timeout_s=5.0) for _ in range(4)]
        self._numbers = 0

    async def run(self) -> None:
        """Until told to stop; what was begun is brought to its end."""
        rng, told = self._rng, self._told
        while not self._stop.is_set():
            self._numbers += 1
            customer = rng.randrange(CUSTOMERS)
            request_id = f"{self._name}-{self._numbers}"
            body = drawdown(customer, request_id, rng.choice(DEADLINES_MS))
            told.asked[request_id] = body
            copies = rng.choices((1, 2, 4), (80, 15, 5))[0]
            await asyncio.gather(*(self._ask(client, request_id) for client in self._clients[:copies]))
            told.again += copies - 1
            if request_id in told.answers:
                await self._settle(customer, orjson.loads(told.answers[request_id]))
            if told.answers and rng.random() < 0.1:
                await self._ask(self._clients[0], f"{self._name}-{rng.randint(1, self._numbers)}", once=True)
                told.again += 1
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stop.wait(), rng.expovariate(1 / PAUSE_S))
        for client in self._clients:
            client.close()

    async def _ask(self, client: Client, request_id: str, once: bool = False) -> None:
        """Ask until there is an answer, always with the same id."""
        told = self._told
        until = time.monotonic() + GIVE_UP_S
        while time.monotonic() < until:
            status, body = await self._call(client, "/v1/decisions", told.asked[request_id])
            if status == 200:
                told.take(request_id, body)
                return
            if once:
                return
            await asyncio.sleep(RETRY_S * self._rng.uniform(0.5, 1.5))
        told.unanswered.add(request_id)

    async def _settle(self, customer: int, answer: dict[str, Any]) -> None:
        """What core banking says of a drawdown that was paid out: booked and perhaps repaid, cancelled, or nothing."""
        if answer["approved_amount"] <= 0:
            return
        decision_id = answer["decision_id"]
        ending = self._rng.choices(("booked", "cancelled", ""), (45, 45, 10))[0]
        if not ending:
            return
        sent = [event(customer, f"{decision_id}-{ending}", "drawdown", ending) | {"decision_id": decision_id}]
        repays = ending == "booked" and self._rng.random() < 0.9
        if repays:
            sent.append(event(customer, f"{decision_id}-repaid", "repayment", "booked"))
        until = time.monotonic() + GIVE_UP_S
        while time.monotonic() < until:
            status, body = await self._call(self._clients[0], "/v1/events", {"events": sent})
            if status == 200:
                results = [one["status"] for one in orjson.loads(body)["events"]]
                if set(results) <= {"accepted", "duplicate"}:
                    self._told.settled[decision_id] = ending
                    self._told.repaid[f"k-{customer}"] += repays
                else:
                    self._told.odd[f"event {body.decode()}"] += 1
                return
            await asyncio.sleep(RETRY_S)
        self._told.odd["an event that was never taken"] += 1

    async def _call(self, client: Client, path: str, body: dict[str, Any]) -> tuple[int, bytes]:
        try:
            reply = await client.call("POST", path, body)
        except ConnectionLost:
            self._told.disconnected += 1
            return 0, b""
        if reply.status == 503:
            self._told.unavailable += 1
        elif reply.status != 200:
            self._told.odd[f"{reply.status} {reply.body[:200].decode(errors='replace')}"] += 1
        return reply.status, reply.body


def drawdown(customer: int, request_id: str, deadline_ms: int) -> dict[str, Any]:
    """A draw of AMOUNT."""
    return {
        "request_id": request_id, "customer_id": f"k-{customer}", "facility_id": f"kf-{customer}", "amount": AMOUNT,
        "currency": "CNY", "channel": "app", "device_id": f"kd-{customer}", "deadline_ms": deadline_ms,
    }  # fmt: skip


def event(customer: int, event_id: str, kind: str, status: str) -> dict[str, Any]:
    """Something that happened on a customer's facility."""
    return {
        "event_id": event_id, "customer_id": f"k-{customer}", "facility_id": f"kf-{customer}", "kind": kind,
        "status": status, "amount": AMOUNT, "currency": "CNY", "occurred_at": instant(time.time_ns() // 1_000_000),
    }  # fmt: skip


async def open_lines(url: str, name: str = "k", customers: int = CUSTOMERS, limit: int = LIMIT) -> None:
    """Put the facility `<name>f-<n>` of every customer `<name>-<n>`."""
    now_ms = time.time_ns() // 1_000_000
    async with Client(url) as client:
        for customer in range(customers):
            line = {
                "customer_id": f"{name}-{customer}", "product": "revolving", "currency": "CNY", "limit": limit,
                "outstanding": 0, "as_of": instant(now_ms - 60_000), "apr": 0.18, "status": "active",
                "granted_at": instant(now_ms - 86_400_000),
            }  # fmt: skip
            reply = await client.call("PUT", f"/v1/facilities/{name}f-{customer}", line)
            assert reply.status < 300, reply.body
