"""Processes that are killed, hosts that are copied, memory that must not grow."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import pytest
from bank import RECOVERY_S, Bank, bank_rules

from service_process import ServiceProcess
from valkey_server import ValkeyServer

BENCHMARKS = Path(__file__).parents[2] / "benchmarks" / "faults"
GROWTH_MAX_MB = 12.0
GROWING = 4_000  # requests; a leak of 3 kB each would show


@pytest.mark.slow
@pytest.mark.fault("H01")
def test_kills_at_random_moments_lose_change_and_lend_nothing() -> None:
    """One small run of the benchmark: workers, store and everything at once, killed under load."""
    command = [sys.executable, str(BENCHMARKS / "kills.py"), "--kills", "16", "--workers", "2"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def start(stack: ExitStack, directory: Path, store_url: str) -> ServiceProcess:
    """A host: a service on a directory of its own; stopped with the stack."""
    (directory / "models").mkdir(parents=True, exist_ok=True)
    return stack.enter_context(
        ServiceProcess(
            directory, store_url=store_url, rules=bank_rules(directory / "rules"), models=directory / "models"
        )
    )


async def delivered(url: str) -> None:
    """Wait until a host's journal holds nothing any more."""
    async with httpx.AsyncClient(base_url=url) as client:
        until = time.monotonic() + RECOVERY_S
        while "\ndecision_service_journal_pending 0.0\n" not in (page := (await client.get("/metrics")).text):
            assert time.monotonic() < until, "static answers are never delivered"
            assert "\ndecision_service_journal_pending " in page
            await asyncio.sleep(0.1)
        assert "\ndecision_service_journal_conflicts 0.0\n" in page


def announced(server: ValkeyServer) -> Counter[bytes]:
    """How often each decision is in the outboxes."""
    with server.client() as client:
        return Counter(e[b"id"] for k in client.keys("*:out") for _, e in client.xrange(k) if e[b"kind"] == b"decision")


@pytest.mark.slow
@pytest.mark.fault("H19")
def test_a_host_that_is_copied_delivers_twice_what_has_one_effect(tmp_path: Path, valkey_private: ValkeyServer) -> None:
    """Two hosts with the same journal and the same table of what was sent: each decision once, one answer at both."""
    server = valkey_private

    async def one_host(bank: Bank) -> None:
        await bank.open_lines()
        assert {said.rung for said in await bank.draws("full", 10)} == {"full"}
        server.freeze()
        await bank.draws("static", 20, deadline_ms=1_000)
        await bank.draws("later", 20, deadline_ms=1_000)
        assert sum(b'"rung":"static"' in answer for answer in bank.told.values()) > 0

    async def two_hosts(bank: Bank, urls: list[str]) -> None:
        for url in urls:
            await delivered(url)
        async with Bank(urls[0], "x") as here, Bank(urls[1], "x") as there:
            for host in (here, there):
                host.told, host.asked = bank.told, bank.asked
            draws = (host.draw(f"new-{n}", deadline_ms=2_000) for n in range(20) for host in (here, there))
            await asyncio.gather(*draws)
            for host in (here, there):
                await host.judge()

    with ExitStack() as stack:
        first = start(stack, tmp_path / "first", server.url)

        async def go() -> Bank:
            async with Bank(first.url, "x") as bank:
                await one_host(bank)
                first.kill()
                return bank

        bank = asyncio.run(go())
        shutil.copytree(tmp_path / "first" / "data", tmp_path / "second" / "data")
        server.thaw()
        first.start()
        second = start(stack, tmp_path / "second", server.url)
        asyncio.run(two_hosts(bank, [first.url, second.url]))
        assert set(announced(server).values()) == {1}


def drawdowns(numbers: Iterator[int]) -> Iterator[dict[str, Any]]:
    """Requests in which everything is new each time: customer, line, device, payee, purpose, id."""
    for n in numbers:
        line = {
            "product": "revolver", "currency": "CNY", "limit": 1_000, "outstanding": 0, "apr": 0.18, "status": "active",
            "as_of": "2026-01-01T00:00:00Z", "granted_at": "2025-01-01T00:00:00Z",
        }  # fmt: skip
        yield {
            "request_id": f"r-{n}", "customer_id": f"c-{n}", "facility_id": f"f-{n}", "amount": 100, "currency": "CNY",
            "device_id": f"d-{n}", "counterparty_id": f"m-{n}", "deadline_ms": 5_000, "facility": line,
        }  # fmt: skip


def resident_mb(pid: int) -> float:
    """The memory a process has, in MB (10^6 bytes)."""
    status = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in status if line.startswith("VmRSS")).split()[1]) * 1_024 / 1e6


@pytest.mark.slow
@pytest.mark.fault("H03")
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_worker_that_sees_only_new_ids_does_not_grow(tmp_path: Path, valkey: str) -> None:
    """Whatever is kept by customer, line, device, payee or request is bounded."""
    with ExitStack() as stack:
        service = start(stack, tmp_path, valkey)
        pid = service.worker_pids()[0]
        bodies = drawdowns(count())

        async def ask(requests: int) -> None:
            async with httpx.AsyncClient(base_url=service.url, timeout=30) as client:

                async def some() -> None:
                    for _ in range(requests // 16):
                        reply = await client.post("/v1/decisions", json=next(bodies))
                        assert reply.status_code in (200, 503), reply.text

                await asyncio.gather(*(some() for _ in range(16)))

        asyncio.run(ask(GROWING))
        before = resident_mb(pid)
        asyncio.run(ask(GROWING))
        assert resident_mb(pid) - before < GROWTH_MAX_MB
