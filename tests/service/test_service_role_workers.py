"""Two workers over a real Valkey: a customer has one role wherever they are asked about, also while the share grows."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from conftest_service import write_policy
from scorecard_maker import train, write_scorecard
from test_service_roles import add, roles
from test_service_trace import SCORED_FEATURES

from decision_service.core.scorecards.roles import share_of
from decision_service.decision_log import decode
from decision_service.store.keys import decision_key, partition_of_decision
from service_process import ServiceProcess
from valkey_server import ValkeyServer

CUSTOMERS = [f"c-{i}" for i in range(1_000)]
SOME = CUSTOMERS[:120]
ROLES = "scorecards:\n  behaviour: {champion: '1', challenger: {version: '2', share: SHARE}, shadows: ['3']}\n"
AT_ONCE = 16


@pytest.fixture
def rules(tmp_path: Path) -> Path:
    """The rules folder of both workers: a tenth of the customers is the challenger's."""
    folder = write_policy(tmp_path / "rules", features=SCORED_FEATURES)
    roles(folder, ROLES.replace("SHARE", "0.10"))
    return folder


@pytest.fixture
def workers(tmp_path: Path, rules: Path, valkey_server: ValkeyServer) -> Iterator[tuple[ServiceProcess, ...]]:
    """Two services on one Valkey, each in a process of its own."""
    models = tmp_path / "models"
    model = train(10, 4)
    write_scorecard(models, model)
    for version, trees in (("2", 8), ("3", 6)):
        add(models, "behaviour", version, train(trees, 4))
    both = [
        ServiceProcess(tmp_path / name, store_url=valkey_server.url, rules=rules, models=models) for name in ("a", "b")
    ]
    with both[0], both[1]:
        yield tuple(both)


def body(customer: str, request_id: str) -> dict[str, Any]:
    """A drawdown with the line's snapshot."""
    line = {
        "customer_id": customer, "product": "revolver", "currency": "CNY", "limit": 1000, "outstanding": 0,
        "as_of": "2026-01-01T00:00:00Z", "apr": 0.18, "status": "active", "granted_at": "2025-01-01T00:00:00Z",
    }  # fmt: skip
    return {
        "request_id": request_id, "customer_id": customer, "facility_id": f"f-{customer}", "amount": 1,
        "currency": "CNY", "facility": line, "deadline_ms": 5000,
    }  # fmt: skip


async def decide_all(service: ServiceProcess, request_id: str, customers: list[str]) -> dict[str, str]:
    """The decision ids of one drawdown of each customer."""
    ids: dict[str, str] = {}
    left = iter(customers)

    async def caller(client: httpx.AsyncClient) -> None:
        for customer in left:
            reply = await client.post(f"{service.url}/v1/decisions", json=body(customer, f"{request_id}-{customer}"))
            assert reply.status_code == 200, reply.text
            ids[customer] = reply.json()["decision_id"]

    async with httpx.AsyncClient(timeout=30.0) as client:
        await asyncio.gather(*(caller(client) for _ in range(AT_ONCE)))
    return ids


def roles_in(store: ValkeyServer, ids: dict[str, str]) -> dict[str, tuple[str, str]]:
    """Version and role by customer, as the decisions record them."""
    with store.client() as client:
        frames = client.mget([decision_key(partition_of_decision(one) or 0, one) for one in ids.values()])
    told = (decode(frame).rest["scorecards"]["behaviour"] for frame in frames)
    return {customer: (version, role) for customer, (version, _, role) in zip(ids, told, strict=True)}


@pytest.mark.slow
def test_both_workers_give_a_customer_the_same_role_while_the_share_grows(
    workers: tuple[ServiceProcess, ...], rules: Path, valkey_server: ValkeyServer
) -> None:
    """Of 1,000 customers a tenth, as chance goes, is the challenger's on both workers; the share grows to a third while
    both decide: no request fails, whoever was in stays in, and each decision is of one of the two shares."""
    first = roles_in(valkey_server, asyncio.run(decide_all(workers[0], "one", CUSTOMERS)))
    again = roles_in(valkey_server, asyncio.run(decide_all(workers[1], "two", SOME)))
    assert again == {customer: first[customer] for customer in SOME}
    inside = {customer for customer, said in first.items() if said == ("2", "challenger")}
    assert {said for customer, said in first.items() if customer not in inside} == {("1", "champion")}
    assert abs(len(inside) - 100) < 4 * math.sqrt(1_000 * 0.1 * 0.9)

    async def growing() -> list[dict[str, str]]:
        under_way = asyncio.gather(decide_all(workers[0], "three", SOME), decide_all(workers[1], "four", SOME))
        await asyncio.to_thread(roles, rules, ROLES.replace("SHARE", "0.33"))
        return list(await under_way)

    for ids in asyncio.run(growing()):
        during = roles_in(valkey_server, ids)
        now_in = {customer for customer, said in during.items() if said == ("2", "challenger")}
        assert inside & set(SOME) <= now_in <= {one for one in SOME if share_of("behaviour", one) < 0.33}
    for worker in workers:
        assert httpx.post(f"{worker.url}/v1/policy/reload", timeout=30.0).status_code == 200  # it may be under way
        status = httpx.get(f"{worker.url}/v1/policy", timeout=30.0).json()
        assert status["roles"]["behaviour"]["challenger"]["share"] == 0.33
    last = roles_in(valkey_server, asyncio.run(decide_all(workers[1], "last", SOME)))
    large = {customer for customer, said in last.items() if said == ("2", "challenger")}
    assert large == {customer for customer in SOME if share_of("behaviour", customer) < 0.33}
    assert inside & set(SOME) < large
    with valkey_server.client() as client:
        assert len(client.keys("ds:*:s:*")) > 0, "shadows were recorded"
