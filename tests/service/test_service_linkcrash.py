"""Entity logs with real processes: seen by the next decision within a second, nothing lost or doubled by kill -9."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from conftest_service import RULES, write_policy
from test_service_links import LINKED, MULE

from decision_service.core.event import drawdown_key, words_of
from decision_service.core.limits import PARTITIONS
from decision_service.core.links import log_names
from decision_service.store import Store
from decision_service.store.open import open_store
from service_process import ServiceProcess
from valkey_server import ValkeyServer

CUSTOMERS, DRAWS = 6, 40
NAMED = {"device_id": "d-1", "counterparty_id": "m-1", "ip": "203.0.113.7"}
SWEPT_S = 30.0  # a sweep comes round long before


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., ServiceProcess]]:
    """Start services whose policy looks at payees; stopped at the end."""
    started: list[ServiceProcess] = []
    rules = write_policy(tmp_path / "rules", RULES.replace("\n  - id: otherwise\n", MULE), LINKED)
    (tmp_path / "models").mkdir()

    def go(**more: Any) -> ServiceProcess:
        directory = tmp_path / f"service-{len(started)}"
        service = ServiceProcess(directory, rules=rules, models=tmp_path / "models", links_budget_ms=500, **more)
        started.append(service)
        return service.start()

    yield go
    for service in started:
        service.stop()


def drawdown(customer: int, number: int | str) -> dict[str, Any]:
    """The n-th draw of a customer, all to one payee."""
    line = {
        "product": "revolver", "currency": "CNY", "limit": 100_000, "outstanding": 0, "as_of": "2026-01-01T00:00:00Z",
        "apr": 0.18, "status": "active", "granted_at": "2025-01-01T00:00:00Z",
    }  # fmt: skip
    return {
        "request_id": f"r-{customer}-{number}", "customer_id": f"c-{customer}", "facility_id": f"f-{customer}",
        "amount": 100, "currency": "CNY", "deadline_ms": 2_000, "facility": line, **NAMED,
    }  # fmt: skip


async def ask(client: httpx.AsyncClient, body: dict[str, Any]) -> dict[str, Any] | None:
    """The answer, or None if there was none."""
    try:
        reply = await client.post("/v1/decisions", json=body)
    except httpx.HTTPError:
        return None
    assert reply.status_code in (200, 503), reply.text
    answer: dict[str, Any] = reply.json()
    return answer if reply.status_code == 200 else None


async def load(url: str, disturb: Callable[[], None], after: int) -> None:
    """Draw for all customers at once, and disturb when so many are answered."""
    gate = asyncio.Semaphore(32)
    answered = asyncio.Semaphore(0)
    async with httpx.AsyncClient(base_url=url, timeout=10) as client:

        async def one(customer: int, number: int) -> None:
            async with gate:
                if await ask(client, drawdown(customer, number)) is not None:
                    answered.release()

        tasks = [asyncio.create_task(one(c, n)) for n in range(DRAWS) for c in range(CUSTOMERS)]
        for _ in range(after):
            await answered.acquire()
        disturb()
        await asyncio.gather(*tasks)


async def waiting(store: Store) -> int:
    return sum([len((await store.waiting_links(p, 0, 2))[1]) for p in range(PARTITIONS)])


async def judge(store_url: str) -> int:
    """Once nothing waits: every drawdown of every customer's log is in each entity's log exactly once; how many."""
    store = open_store(store_url)
    try:
        until = time.monotonic() + SWEPT_S
        while await waiting(store):
            assert time.monotonic() < until, "links are never brought home"
            await asyncio.sleep(0.2)
        committed = Counter[int]()
        for customer in range(CUSTOMERS):
            committed.update(words_of((await store.read(f"c-{customer}", None, 2)).log)[1:, 1].tolist())
        for log in await store.read_links(log_names(**NAMED), 2).logs():
            assert log is not None
            assert Counter(words_of(log)[1:, 1].tolist()) == committed
        assert set(committed.values()) == {1}
        return committed.total()
    finally:
        await store.close()


def test_the_third_decision_sees_two_others_within_a_second(start: Callable[..., ServiceProcess], valkey: str) -> None:
    """Over HTTP and two workers: two customers pay one payee, and within a second the next decision counts them."""
    service = start(store_url=valkey, workers=2)

    async def go() -> float:
        async with httpx.AsyncClient(base_url=service.url, timeout=10) as client:
            for customer in (1, 2):
                answer = await ask(client, drawdown(customer, 0))
                assert answer is not None
                assert answer["decision"] == "approve"
            await asyncio.sleep(1)
            answer = await ask(client, drawdown(3, 0))
            assert answer is not None
            assert (answer["decision"], answer["rung"]) == ("hold", "full")
            told = (await client.get(f"/v1/decisions/{answer['decision_id']}")).json()
            metrics = (await client.get("/metrics")).text
            assert 'links_total{result="appended"}' in metrics
            assert "link_lag_seconds 0.0" in metrics
            return float(told["trace"]["features"]["payers_24h"]["value"])

    assert asyncio.run(go()) == 2


def test_a_worker_killed_right_after_its_answer_loses_no_link(
    start: Callable[..., ServiceProcess], valkey: str
) -> None:
    """kill -9 between the answer and the link: the next start finds what was left, and links it once."""
    service = start(store_url=valkey)

    async def one() -> str:
        async with httpx.AsyncClient(base_url=service.url, timeout=10) as client:
            answer = await ask(client, drawdown(0, 0))
            service.kill()
            assert answer is not None
            return str(answer["decision_id"])

    decision_id = asyncio.run(one())
    service.start()
    assert asyncio.run(judge(valkey)) == 1

    async def keys() -> list[int]:
        store = open_store(valkey)
        log = (await store.read_links(log_names(**NAMED), 2).logs()).payee
        await store.close()
        assert log is not None
        return [int(key) for key in words_of(log)[1:, 1].view("u8")]

    assert asyncio.run(keys()) == [drawdown_key(decision_id)]


@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=pytest.mark.slow), pytest.param(3, marks=pytest.mark.slow)])
@pytest.mark.fault("H01", "H14")
def test_a_killed_worker_loses_and_doubles_no_link(
    start: Callable[..., ServiceProcess], valkey: str, seed: int
) -> None:
    """kill -9 of one of two workers under load: another brings home what it left."""
    service = start(store_url=valkey, workers=2)
    rng = random.Random(seed)

    def disturb() -> None:
        os.kill(rng.choice(service.worker_pids()), signal.SIGKILL)

    asyncio.run(load(service.url, disturb, rng.randrange(20, 160)))
    service.wait_ready()
    assert asyncio.run(judge(valkey)) > 0


@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_killed_store_loses_and_doubles_no_link(
    start: Callable[..., ServiceProcess], valkey_private: ValkeyServer, seed: int
) -> None:
    """kill -9 of the store under load and its restart: links whose commit stands are brought home once."""
    service = start(store_url=valkey_private.url)
    rng = random.Random(seed)
    asyncio.run(load(service.url, valkey_private.kill, rng.randrange(20, 160)))
    valkey_private.start()
    service.wait_ready()
    assert asyncio.run(judge(valkey_private.url)) > 0
