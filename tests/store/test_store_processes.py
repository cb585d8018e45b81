"""Several processes, one customer: the conditional commit lets nobody spend the same credit twice."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest
from store_cases import T, decision_id
from store_racer import CREDIT

from decision_service.core.limits import PARTITIONS
from decision_service.store import Store, keys
from decision_service.store.open import open_store
from valkey_server import ValkeyServer

PROCESSES, CALLERS = 4, 50
RACER = Path(__file__).with_name("store_racer.py")


def run_race(url: str) -> int:
    """How often the racers lost, over all processes."""
    racers = [
        subprocess.Popen(
            [sys.executable, str(RACER), url, str(n * CALLERS), str(CALLERS)], stdout=subprocess.PIPE, text=True
        )
        for n in range(PROCESSES)
    ]
    told = [racer.communicate(timeout=120)[0] for racer in racers]
    assert [racer.returncode for racer in racers] == [0] * PROCESSES
    return sum(int(lost) for lost in told)


async def outcomes(store: Store) -> list[bytes | None]:
    ids = [decision_id("c-1", f"r-{n}") for n in range(PROCESSES * CALLERS)]
    return [await store.read_decision(one, T) for one in ids]


@pytest.mark.fault("D05")
@pytest.mark.parametrize("kind", ["standalone", pytest.param("cluster", marks=pytest.mark.slow)])
def test_processes_two_hundred_commits_grant_exactly_the_credit(kind: str, request: pytest.FixtureRequest) -> None:
    """200 concurrent commits from 4 processes all happen once, one after another; exactly ten find credit left."""
    if kind == "standalone":
        servers = [request.getfixturevalue("valkey_server")]
        url = servers[0].url
    else:
        cluster = request.getfixturevalue("valkey_cluster")
        servers, url = cluster.nodes, cluster.url
    assert run_race(url) > 0
    asyncio.run(look(url))
    wanted = [decision_id("c-1", f"r-{number}").encode() for number in range(PROCESSES * CALLERS)]
    assert sorted(outbox_of(servers)) == sorted(wanted)


async def look(url: str) -> None:
    """The customer's state and the 200 decisions are what a serial history would have left."""
    store = open_store(url)
    state = await store.read("c-1", None, T)
    found = await outcomes(store)
    await store.close()
    assert (state.version, len(state.log) // 64 - 1) == (PROCESSES * CALLERS, CREDIT)
    assert (found.count(b"approve"), found.count(b"hold")) == (CREDIT, PROCESSES * CALLERS - CREDIT)


def outbox_of(servers: list[ValkeyServer]) -> list[bytes]:
    """The decisions in the outbox of c-1's partition, on whichever server holds it."""
    key = keys.outbox_key(keys.partition_of("c-1", PARTITIONS))
    ids: list[bytes] = []
    for server in servers:
        with server.client() as client:
            if key in client.keys("*:out"):
                ids += [entry[b"id"] for _, entry in client.xrange(key)]
    return ids
