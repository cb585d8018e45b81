"""Sentinel: the store asks where the primary is, and follows a failover."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from store_cases import T, record

from decision_service.core.errors import OutcomeUnknown, StoreUnavailable, VersionMoved
from decision_service.core.event import EMPTY_LOG
from decision_service.core.limits import PARTITIONS
from decision_service.store import Commit, keys
from decision_service.store.embedded import server_binary
from decision_service.store.open import open_store
from valkey_server import ValkeyServer, free_port

pytestmark = pytest.mark.slow


class Watched:
    """A primary, a replica and one sentinel that promotes quickly."""

    def __init__(self, directory: Path) -> None:
        self.primary = ValkeyServer(directory / "primary")
        self.replica = ValkeyServer(directory / "replica", "--replicaof", "127.0.0.1", str(self.primary.port))
        self.sentinel_port = free_port()
        self._directory = directory
        self._sentinel: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis+sentinel://127.0.0.1:1,127.0.0.1:{self.sentinel_port}/lines/0"

    def start(self) -> None:
        self.primary.start()
        self.replica.start()
        settings = self._directory / "sentinel.conf"
        settings.write_text(
            f"port {self.sentinel_port}\nbind 127.0.0.1\ndir {self._directory}\n"
            f"sentinel monitor lines 127.0.0.1 {self.primary.port} 1\n"
            "sentinel down-after-milliseconds lines 500\nsentinel failover-timeout lines 2000\n"
        )
        with (self._directory / "sentinel.log").open("wb") as log:
            command = [str(server_binary()), str(settings), "--sentinel"]
            self._sentinel = subprocess.Popen(command, stdout=log, stderr=log)
        self._wait_linked()

    def _wait_linked(self) -> None:
        until = time.monotonic() + 20
        while time.monotonic() < until:
            with self.replica.client() as client, contextlib.suppress(Exception):
                if client.info("replication")["master_link_status"] == "up" and self._sentinel_knows():
                    return
            time.sleep(0.05)
        raise AssertionError("the replica never linked up")

    def _sentinel_knows(self) -> bool:
        watcher = ValkeyServer(self._directory)
        watcher.port = self.sentinel_port
        with watcher.client() as client:
            return bool(client.execute_command("SENTINEL", "REPLICAS", "lines"))

    def fail_over(self) -> None:
        watcher = ValkeyServer(self._directory)
        watcher.port = self.sentinel_port
        with watcher.client() as client:
            client.execute_command("SENTINEL", "FAILOVER", "lines")

    def refuse_writes_alone(self) -> None:
        """Without a replica neither takes writes: Sentinel lets a replaced primary that lives go on for ten seconds,
        and what it takes by then is lost (the store is refused as one that was set back)."""
        for server in (self.primary, self.replica):
            with server.client() as client:
                client.config_set("min-replicas-to-write", 1)

    def replica_leads(self) -> bool:
        with self.replica.client() as client:
            return bool(client.info("replication")["role"] == "master")

    def version_at_replica(self) -> int:
        with self.replica.client() as client:
            return int(client.hget(keys.meta_key(keys.partition_of("c-1", PARTITIONS), "c-1"), "v") or 0)

    def stop(self) -> None:
        if self._sentinel is not None:
            self._sentinel.terminate()
            self._sentinel.wait(10)
        self.replica.stop()
        self.primary.stop()


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Watched]:
    watched = Watched(tmp_path)
    try:
        watched.start()
        yield watched
    finally:
        watched.stop()


@pytest.mark.fault("C01")
def test_sentinel_failover_is_followed(watched: Watched) -> None:
    """When the primary dies the store finds the promoted replica and goes on with what was replicated."""

    async def run() -> None:
        store = open_store(watched.url)
        assert list(await store.check()) == []
        await store.commit(Commit("c-1", 0, record(1)), T)
        with watched.primary.client() as client:
            assert client.wait(1, 5_000) == 1
        watched.primary.kill()
        for _ in range(2_000):
            try:
                version = await store.commit(Commit("c-1", 1, record(2)), T)
                break
            except (StoreUnavailable, OutcomeUnknown, VersionMoved):
                await asyncio.sleep(0.01)
        assert version == 2
        assert (await store.read("c-1", None, T)).log == EMPTY_LOG + record(1) + record(2)
        await store.close()

    asyncio.run(run())


@pytest.mark.fault("B10")
def test_sentinel_demoted_primary_is_left(watched: Watched) -> None:
    """When the primary is demoted and lives on, the store's commits end up at the new primary by themselves."""

    async def run() -> None:
        store = open_store(watched.url)
        watched.refuse_writes_alone()
        version = await store.commit(Commit("c-1", 0), T)
        with watched.primary.client() as client:
            assert client.wait(1, 5_000) == 1
        watched.fail_over()
        for _ in range(2_500):  # Sentinel demotes a primary that lives some ten seconds after it was replaced
            with contextlib.suppress(StoreUnavailable, OutcomeUnknown, VersionMoved):
                version = await store.commit(Commit("c-1", (await store.read("c-1", None, T)).version), T)
            with contextlib.suppress(redis.ConnectionError):  # a server that changes its role closes connections
                if watched.version_at_replica() == version and watched.replica_leads():
                    break
            await asyncio.sleep(0.02)
        assert (watched.version_at_replica(), watched.replica_leads()) == (version, True)
        await store.close()

    asyncio.run(run())
