"""Crashes under load, with real processes: no acknowledged decision is lost, none is given twice differently."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from conftest_service import write_policy

from service_process import ServiceProcess
from valkey_server import ValkeyServer

CUSTOMERS = 5
DRAWS = 60  # a customer and round
LIMIT = 3_000


def facility(customer: int) -> dict[str, Any]:
    """A line with room for 30 draws of 100."""
    return {
        "customer_id": f"c-{customer}", "product": "revolver", "currency": "CNY", "limit": LIMIT, "outstanding": 0,
        "as_of": "2026-01-01T00:00:00Z", "apr": 0.18, "status": "active", "granted_at": "2025-01-01T00:00:00Z",
    }  # fmt: skip


def drawdown(customer: int, number: int | str) -> dict[str, Any]:
    """The n-th draw of 100 of a customer."""
    return {
        "request_id": f"r-{customer}-{number}", "customer_id": f"c-{customer}", "facility_id": f"f-{customer}",
        "amount": 100, "currency": "CNY", "deadline_ms": 2_000,
    }  # fmt: skip


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., ServiceProcess]]:
    """Start services with the small policy; stopped at the end."""
    started: list[ServiceProcess] = []
    rules = write_policy(tmp_path / "rules")
    (tmp_path / "models").mkdir()

    def go(**more: Any) -> ServiceProcess:
        directory = tmp_path / f"service-{len(started)}"
        service = ServiceProcess(directory, rules=rules, models=tmp_path / "models", **more)
        started.append(service)
        return service.start()

    yield go
    for service in started:
        service.stop()


async def open_lines(url: str) -> None:
    """Put every customer's facility."""
    async with httpx.AsyncClient(base_url=url) as client:
        for customer in range(CUSTOMERS):
            reply = await client.put(f"/v1/facilities/f-{customer}", json=facility(customer))
            assert reply.status_code == 200, reply.text


async def ask(client: httpx.AsyncClient, body: dict[str, Any]) -> bytes | None:
    """The answer's bytes, or None if there was none."""
    try:
        reply = await client.post("/v1/decisions", json=body)
    except httpx.HTTPError:
        return None
    assert reply.status_code in (200, 503), reply.text
    return reply.content if reply.status_code == 200 else None


async def load(url: str, round_: int, disturb: Callable[[], None], after_s: float) -> dict[str, bytes | None]:
    """Draw for all customers at once, disturb so long after the first answer, and return the answers by request id."""
    bodies = [drawdown(c, f"{round_}-{n}") for n in range(DRAWS) for c in range(CUSTOMERS)]
    gate = asyncio.Semaphore(32)
    answered = asyncio.Event()
    async with httpx.AsyncClient(base_url=url, timeout=10) as client:

        async def one(body: dict[str, Any]) -> tuple[str, bytes | None]:
            async with gate:
                answer = await ask(client, body)
                if answer is not None:
                    answered.set()
                return body["request_id"], answer

        tasks = [asyncio.create_task(one(body)) for body in bodies]
        await asyncio.wait_for(answered.wait(), 30)
        await asyncio.sleep(after_s)
        disturb()
        return dict(await asyncio.gather(*tasks))


async def judge(url: str, answers: dict[str, bytes | None]) -> None:
    """Every acknowledged answer stands; asking again answers everything, once; nothing is lent twice."""
    async with httpx.AsyncClient(base_url=url, timeout=10) as client:
        final: dict[str, bytes] = {}
        for request_id, answer in answers.items():
            _, customer, number = request_id.split("-", 2)
            again = await ask(client, drawdown(int(customer), number))
            assert again is not None, f"{request_id} is not answered after the recovery"
            assert answer in (None, again), f"{request_id} was answered twice differently"
            final[request_id] = again
        for customer in range(CUSTOMERS):
            told = (await client.get(f"/v1/facilities/f-{customer}")).json()["position"]
            mine = [a for r, a in final.items() if r.startswith(f"r-{customer}-")]
            approved = 100 * sum(b'"decision":"approve"' in a for a in mine)
            assert told["reserved"] == approved <= LIMIT, "the log and the answers disagree"


@pytest.mark.fault("D02", "D05")
def test_four_workers_lend_a_limit_once(start: Callable[..., ServiceProcess], valkey: str) -> None:
    """Two hundred concurrent drawdowns of 100 on a limit of 1,000 through four processes approve exactly ten, and one
    drawdown asked for fifty times at once is one."""
    service = start(store_url=valkey, workers=4)
    assert len(service.worker_pids()) == 4

    async def go() -> list[bytes | None]:
        limits = httpx.Limits(max_connections=200)
        async with httpx.AsyncClient(base_url=service.url, timeout=30, limits=limits) as client:
            line = {**facility(0), "limit": 1_000}
            assert (await client.put("/v1/facilities/f-0", json=line)).status_code == 200
            bodies = [{**drawdown(0, n), "deadline_ms": 5_000} for n in range(200)]
            first = await asyncio.gather(*(ask(client, body) for body in bodies))
            missing = [body for body, answer in zip(bodies, first, strict=True) if answer is None]
            return [a for a in first if a is not None] + [await ask(client, body) for body in missing]

    answers = asyncio.run(go())
    assert len(answers) == 200
    assert sum(b'"decision":"approve"' in (a or b"") for a in answers) == 10

    async def the_same() -> list[bytes | None]:
        async with httpx.AsyncClient(
            base_url=service.url, timeout=30, limits=httpx.Limits(max_connections=50)
        ) as client:
            assert (await client.put("/v1/facilities/f-1", json=facility(1))).status_code == 200
            body = {**drawdown(1, "same"), "deadline_ms": 5_000}
            first = await asyncio.gather(*(ask(client, body) for _ in range(50)))
            assert (await client.get("/v1/facilities/f-1")).json()["position"]["reserved"] == 100
            return [*first, await ask(client, body)]

    assert len(set(asyncio.run(the_same())) - {None}) == 1


@pytest.mark.fault("D07", "H01", "H03")
@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=pytest.mark.slow), pytest.param(3, marks=pytest.mark.slow)])
def test_a_killed_worker_loses_and_repeats_nothing(
    start: Callable[..., ServiceProcess], valkey: str, seed: int
) -> None:
    """kill -9 of one of two workers under load: what was acknowledged stands, what was not is decided once."""
    service = start(store_url=valkey, workers=2)
    rng = random.Random(seed)
    asyncio.run(open_lines(service.url))

    def disturb() -> None:
        os.kill(rng.choice(service.worker_pids()), signal.SIGKILL)

    answers = asyncio.run(load(service.url, 0, disturb, rng.uniform(0.05, 0.4)))
    service.wait_ready()
    asyncio.run(judge(service.url, answers))


@pytest.mark.fault("A02")
@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=pytest.mark.slow), pytest.param(3, marks=pytest.mark.slow)])
def test_a_killed_store_loses_and_repeats_nothing(
    start: Callable[..., ServiceProcess], valkey_private: ValkeyServer, seed: int
) -> None:
    """kill -9 of the store under load and its restart: the same, with 503 in between and never an approval made up."""
    service = start(store_url=valkey_private.url)
    rng = random.Random(seed)
    asyncio.run(open_lines(service.url))
    answers = asyncio.run(load(service.url, 0, valkey_private.kill, rng.uniform(0.05, 0.4)))
    valkey_private.start()
    service.wait_ready()
    asyncio.run(judge(service.url, answers))


@pytest.mark.slow
@pytest.mark.fault("A02")
def test_a_killed_embedded_store_is_started_again(start: Callable[..., ServiceProcess]) -> None:
    """kill -9 of the embedded store under load: it comes back by itself on the same data, and nothing is lost."""
    service = start()
    asyncio.run(open_lines(service.url))

    def disturb() -> None:
        _, store_pid, _ = (service.directory / "data" / "embedded.lock").read_text().split()
        os.kill(int(store_pid), signal.SIGKILL)

    answers = asyncio.run(load(service.url, 0, disturb, 0.3))
    service.wait_ready()
    asyncio.run(judge(service.url, answers))
    assert "started again" in service.log()


@pytest.mark.fault("D07", "H01")
def test_everything_killed_at_once_comes_back_as_it_was(start: Callable[..., ServiceProcess]) -> None:
    """kill -9 of the service with its embedded store: the next start on the same directory continues."""
    service = start()
    asyncio.run(open_lines(service.url))
    answers = asyncio.run(load(service.url, 0, service.kill, 0.3))
    assert any(answers.values())
    assert not all(answers.values())
    service.start()
    asyncio.run(judge(service.url, answers))
    assert service.stop() == 0
