"""Consumers in processes of their own, killed at random moments on a real server: every entry once, chains whole."""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
from archive_checks import PARTITIONS, TIMEOUT_S, check_exactly_once, decide

from decision_service.archive.files import Archive
from decision_service.archive.schema import ACCESS, LISTS, POLICY
from decision_service.store import Store
from decision_service.store.keys import lease_key
from decision_service.store.open import open_store

KILLS = 16
CUSTOMERS = 8


def started(url: str, folder: Path, log: Path) -> subprocess.Popen[bytes]:
    """A consumer that archives all the time, in small segments."""
    environment = {
        **os.environ, "DECISION_SERVICE_PARTITIONS": str(PARTITIONS), "DECISION_SERVICE_ARCHIVE_FLUSH_S": "1",
        "DECISION_SERVICE_ARCHIVE_SEGMENT_ROWS": "100",
    }  # fmt: skip
    command = [sys.executable, "-m", "decision_service", "archive", "run", "--redis-url", url, "--archive", str(folder)]
    with log.open("ab") as output:
        return subprocess.Popen(command, env=environment, stdout=output, stderr=output)


async def forget_leases(store: Store) -> None:
    """Let what killed consumers held be taken at once: tests have no time to wait for the end of a lease."""
    for place in (*range(PARTITIONS), POLICY, LISTS, ACCESS):
        key = lease_key(place)
        await store._call(key, ("DEL", key), TIMEOUT_S, write=True)  # type: ignore[attr-defined]


@pytest.mark.slow
def test_consumers_killed_at_random_lose_and_double_nothing(valkey: str, tmp_path: Path) -> None:
    """Two at a time, one of them killed again and again while decisions are made; the last one finishes."""
    rng = random.Random(8)
    folder, log = tmp_path / "archive", tmp_path / "log"
    running = [started(valkey, folder, log) for _ in range(2)]
    try:
        ids = asyncio.run(_decide_and_kill(valkey, folder, log, running, rng))
    finally:
        for process in running:
            process.kill()
            process.wait()
    asyncio.run(_forget(valkey))
    for _ in range(2):
        once = subprocess.run(
            [sys.executable, "-m", "decision_service", "archive", "run", "--once", "--redis-url", valkey, "--archive",
             str(folder)],
            env={**os.environ, "DECISION_SERVICE_PARTITIONS": str(PARTITIONS)}, capture_output=True, timeout=120,
        )  # fmt: skip
        assert once.returncode == 0, once.stderr
    check_exactly_once(folder, ids)
    assert len(Archive(folder).segments()) > KILLS
    assert "Traceback" not in log.read_text()


async def _forget(url: str) -> None:
    store = open_store(url, partitions=PARTITIONS)
    try:
        await forget_leases(store)
    finally:
        await store.close()


async def _decide_and_kill(
    url: str, folder: Path, log: Path, running: list[subprocess.Popen[bytes]], rng: random.Random
) -> list[str]:
    store, ids, numbers = open_store(url, partitions=PARTITIONS), [], iter(range(10**6))
    try:
        for _ in range(KILLS):
            files = len(Archive(folder).segments())
            until = time.monotonic() + 30
            while len(Archive(folder).segments()) == files:  # it writes now
                assert time.monotonic() < until, "nothing is written any more"
                n = next(numbers)
                ids += [one for customer in range(CUSTOMERS) for one in await decide(store, customer, [n])]
            for n in (next(numbers) for _ in range(rng.randrange(6))):
                ids += [one for customer in range(CUSTOMERS) for one in await decide(store, customer, [n])]
            at = rng.randrange(2)
            running[at].kill()
            running[at].wait()
            await forget_leases(store)
            running[at] = started(url, folder, log)
    finally:
        await store.close()
    return ids
