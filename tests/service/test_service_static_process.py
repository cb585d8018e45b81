"""Static answers of real worker processes: killed before they deliver, two at one journal, explained and counted."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from conftest_service import write_policy
from static_cases import STATIC_RULES

from service_process import ServiceProcess
from valkey_server import ValkeyServer

ANSWERS = 30


@pytest.fixture
def service(tmp_path: Path, valkey_private: ValkeyServer) -> Iterator[Callable[..., ServiceProcess]]:
    """Start a service on the test's own store; stopped at the end."""
    started: list[ServiceProcess] = []
    rules = write_policy(tmp_path / "rules", STATIC_RULES)
    (tmp_path / "models").mkdir()

    def start(**more: Any) -> ServiceProcess:
        one = ServiceProcess(
            tmp_path / "service", store_url=valkey_private.url, rules=rules, models=tmp_path / "models", **more
        )
        started.append(one)
        return one.start()

    yield start
    for one in started:
        one.stop()


def drawdown(n: int) -> dict[str, Any]:
    """The n-th drawdown, of one of a few customers."""
    return {
        "request_id": f"r-{n}", "customer_id": f"c-{n % 5}", "facility_id": f"f-{n % 5}", "amount": 100,
        "currency": "CNY", "deadline_ms": 5_000,
    }  # fmt: skip


def open_lines(client: httpx.Client) -> None:
    """Put the facilities."""
    for n in range(5):
        line = {
            "customer_id": f"c-{n}", "product": "revolver", "currency": "CNY", "limit": 10_000, "outstanding": 0,
            "as_of": "2026-01-01T00:00:00Z", "apr": 0.18, "status": "active", "granted_at": "2025-01-01T00:00:00Z",
        }  # fmt: skip
        reply = client.put(f"/v1/facilities/f-{n}", json=line)
        assert reply.status_code == 200, reply.text


def ask(client: httpx.Client, n: int) -> httpx.Response:
    """The answer to it, asked for until there is one."""
    for _ in range(100):
        try:
            reply = client.post("/v1/decisions", json=drawdown(n))
        except httpx.HTTPError:
            time.sleep(0.1)
            continue
        if reply.status_code == 200:
            return reply
        assert reply.status_code == 503, reply.text
        time.sleep(0.1)
    raise AssertionError(f"r-{n} was never answered")


def metric(client: httpx.Client, line: str) -> float:
    """The value of a metric by the beginning of its line."""
    page = client.get("/metrics").text
    return float(next(told for told in page.splitlines() if told.startswith(line)).split()[-1])


def empty_journal(client: httpx.Client) -> None:
    """Wait until everything is delivered."""
    for _ in range(600):
        if metric(client, "decision_service_journal_pending ") == 0:
            return
        time.sleep(0.1)
    raise AssertionError("the journal was never delivered")


@pytest.mark.fault("A02", "D07", "H01")
def test_a_killed_service_delivers_after_its_next_start(
    service: Callable[..., ServiceProcess], valkey_private: ValkeyServer
) -> None:
    """Everything is killed between journal and delivery: the next start delivers what was told, and the store then says
    the same."""
    running = service()
    with httpx.Client(base_url=running.url, timeout=30) as client:
        open_lines(client)
        valkey_private.kill()
        first = {n: ask(client, n).content for n in range(ANSWERS)}
        assert all(b'"rung":"static"' in body for body in first.values())
        told = client.get(f"/v1/decisions/{decision_id(first[0])}").json()
        assert told["trace"]["cells"] == ["fallback:static"]
        running.kill()
        valkey_private.start()
        running.start()
        empty_journal(client)
        for n, body in first.items():
            again = ask(client, n)
            assert again.content == body
            assert again.headers["idempotency-replayed"] == "true"
        told = client.get(f"/v1/decisions/{decision_id(first[0])}").json()
        assert (told["rung"], told["trace"]["rules"]) == ("static", [])
        assert metric(client, "decision_service_journal_conflicts ") == 0


@pytest.mark.slow
@pytest.mark.fault("A03", "D02", "H01")
def test_two_workers_tell_the_same_and_one_may_die(
    service: Callable[..., ServiceProcess], valkey_private: ValkeyServer
) -> None:
    """Two workers share a journal while the store is frozen: whichever is asked tells the same bytes, also when one of
    them was killed meanwhile; after the thaw everything is delivered, once."""
    running = service(workers=2)
    with httpx.Client(base_url=running.url, timeout=30, headers={"connection": "close"}) as client:
        open_lines(client)
        valkey_private.freeze()
        bodies = {n: {**drawdown(n), "deadline_ms": 400} for n in range(ANSWERS)}
        first = {n: client.post("/v1/decisions", json=body) for n, body in bodies.items()}
        static = {n: reply.content for n, reply in first.items() if reply.status_code == 200}
        assert len(static) > ANSWERS // 2, "a busy machine may miss some deadlines"
        os.kill(running.worker_pids()[0], signal.SIGKILL)
        for n, body in static.items():
            assert ask(client, n).content == body
        valkey_private.thaw()
        running.wait_ready()
        empty_journal(client)
        for n, body in static.items():
            assert ask(client, n).content == body
        assert metric(client, 'decision_service_journal_total{result="conflict"}') == 0


def decision_id(answer: bytes) -> str:
    """The id in an answer."""
    told: str = httpx.Response(200, content=answer).json()["decision_id"]
    return told
