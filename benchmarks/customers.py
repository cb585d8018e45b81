"""Customers for benchmarks: a facility and a history of a given length each, seeded, loaded through the
API.

Histories are what a year of ordinary use leaves: two draws for each repayment, purchases and logins between
them, from one of two devices and at places around one city. No drawdown is pending and nothing is overdue.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Iterator
from itertools import count
from typing import Any

import orjson

from decision_service.core.limits import DAY_MS
from decision_service.http_client import Client
from decision_service.replay import instant

KINDS = ("drawdown", "purchase", "drawdown", "login", "repayment")
AMOUNTS = (120.0, 260.5, 480.0, 735.25, 1_320.0)
TRIES_MAX = 60  # half a second apart
LOADERS = 8


def facility(number: int, now_ms: int) -> dict[str, Any]:
    """The facility of a customer: granted 400 days ago, hardly used."""
    return {
        "customer_id": f"b-{number}", "product": "revolving", "currency": "CNY", "limit": 50_000_000,
        "outstanding": 1_000, "as_of": instant(now_ms), "apr": 0.18, "status": "active",
        "granted_at": instant(now_ms - 400 * DAY_MS), "days_past_due": 0,
        "reviewed_at": instant(now_ms - 30 * DAY_MS),
    }  # fmt: skip


def history(number: int, events: int, now_ms: int) -> list[dict[str, Any]]:
    """A customer's events, oldest first."""
    rng = random.Random(number)
    instants = sorted(now_ms - rng.randrange(DAY_MS, 360 * DAY_MS) for _ in range(events))
    return [
        {
            "event_id": f"b-{number}-{i}", "customer_id": f"b-{number}", "facility_id": f"bf-{number}",
            "kind": KINDS[i % len(KINDS)], "amount": rng.choice(AMOUNTS), "currency": "CNY",
            "occurred_at": instant(at_ms), "channel": "app", "device_id": f"bd-{number}-{rng.randrange(2)}",
            "counterparty_id": f"bm-{rng.randrange(400)}",
            "geo": {"lat": 31.2 + rng.random() / 10, "lon": 121.4 + rng.random() / 10, "accuracy_m": 20},
        }
        for i, at_ms in enumerate(instants)
    ]  # fmt: skip


async def _patiently(client: Client, method: str, path: str, body: dict[str, Any]) -> Any:
    """The answer to a call that is made again while the service is too busy for it."""
    for _ in range(TRIES_MAX):
        response = await client.call(method, path, body)
        if response.status != 503:
            break
        await asyncio.sleep(0.5)
    return response


async def _load(url: str, numbers: range, events: int, now_ms: int) -> None:
    async with Client(url) as client:
        for number in numbers:
            response = await _patiently(client, "PUT", f"/v1/facilities/bf-{number}", facility(number, now_ms))
            assert response.status < 300, response.body
            sent = history(number, events, now_ms)
            response = await _patiently(client, "POST", "/v1/events", {"events": sent})
            assert response.status == 200, response.body
            assert response.json()["accepted"] == events, response.body


def load(url: str, customers: int, events: int, now_ms: int) -> None:
    """Load `customers` with `events` each."""

    async def all_of_them() -> None:
        async with asyncio.TaskGroup() as group:
            for loader in range(LOADERS):
                group.create_task(_load(url, range(loader, customers, LOADERS), events, now_ms))

    asyncio.run(all_of_them())


def drawdown(number: int, request_id: str, now_ms: int) -> dict[str, Any]:
    """One ordinary drawdown request of a customer."""
    return {
        "request_id": request_id, "customer_id": f"b-{number}", "facility_id": f"bf-{number}",
        "amount": AMOUNTS[number % len(AMOUNTS)], "currency": "CNY", "channel": "app",
        "device_id": f"bd-{number}-0", "counterparty_id": f"bm-{number % 400}", "purpose": "consumption",
        "geo": {"lat": 31.23, "lon": 121.47, "accuracy_m": 20}, "term_months": 12, "deadline_ms": 5_000,
    }  # fmt: skip


class Requests:
    """An endless stream of rendered decision requests, a new request_id each, customers in turn."""

    def __init__(self, customers: int) -> None:
        now_ms = time.time_ns() // 1_000_000
        mark = "#" * 10
        self._halves = [
            orjson.dumps(drawdown(number, f"bench-{mark}", now_ms)).split(mark.encode()) for number in range(customers)
        ]
        self._numbers = count()

    def __iter__(self) -> Iterator[bytes]:
        heads = [
            b"POST /v1/decisions HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
            b"content-length: %d\r\n\r\n%b" % (len(head) + 10 + len(tail), head)
            for head, tail in self._halves
        ]
        tails = [tail for _, tail in self._halves]
        for number in self._numbers:
            customer = number % len(heads)
            yield b"%b%010d%b" % (heads[customer], number, tails[customer])
