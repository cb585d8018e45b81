"""Servers and stores for the store's own tests."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from fault_proxy import FaultProxy

from decision_service.store import Store
from decision_service.store.open import open_store
from valkey_server import ValkeyServer, free_port

SLOTS = 16_384


class ValkeyCluster:
    """Primaries only, slots spread evenly."""

    def __init__(self, nodes: list[ValkeyServer]) -> None:
        self.nodes = nodes

    @property
    def url(self) -> str:
        return "redis+cluster://" + ",".join(f"127.0.0.1:{node.port}" for node in self.nodes)

    def form(self) -> None:
        for index, node in enumerate(self.nodes):
            first, last = (SLOTS * i // len(self.nodes) for i in (index, index + 1))
            with node.client() as client:
                client.execute_command("CLUSTER", "ADDSLOTSRANGE", first, last - 1)
                client.execute_command("CLUSTER", "SET-CONFIG-EPOCH", index + 1)
                for other in self.nodes[:index]:
                    client.execute_command("CLUSTER", "MEET", "127.0.0.1", other.port, other.bus_port)
        until = time.monotonic() + 30
        while not all(self._whole(node) for node in self.nodes):
            assert time.monotonic() < until, "the cluster never came together"
            time.sleep(0.05)

    def _whole(self, node: ValkeyServer) -> bool:
        with node.client() as client:
            told = client.execute_command("CLUSTER", "INFO")
            if isinstance(told, bytes):
                told = dict(line.split(":") for line in told.decode().split())
            return bool(told["cluster_state"] == "ok" and int(told["cluster_known_nodes"]) == len(self.nodes))

    def flush(self) -> None:
        for node in self.nodes:
            with node.client() as client:
                client.flushall()


@contextlib.contextmanager
def running_cluster(directory: Path, *arguments: str) -> Iterator[ValkeyCluster]:
    """Three primaries that found one another, stopped at the end."""
    with contextlib.ExitStack() as stack:
        nodes = []
        for number in range(3):
            bus_port = free_port()
            node = ValkeyServer(
                directory / f"node{number}",
                *("--cluster-enabled", "yes", "--cluster-port", str(bus_port), *arguments),
            )
            node.bus_port = bus_port
            stack.callback(node.stop)
            nodes.append(node.start())
        cluster = ValkeyCluster(nodes)
        cluster.form()
        yield cluster


@pytest.fixture(scope="session")
def _shared_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyCluster]:
    with running_cluster(tmp_path_factory.mktemp("cluster"), "--cluster-node-timeout", "2000") as cluster:
        yield cluster


@pytest.fixture
def cluster_private(tmp_path: Path) -> Iterator[ValkeyCluster]:
    """A cluster of the test's own that serves the slots it has when some are gone."""
    partial = ("--cluster-node-timeout", "1000", "--cluster-require-full-coverage", "no")
    with running_cluster(tmp_path, *partial) as cluster:
        yield cluster


@pytest.fixture
def valkey_cluster(_shared_cluster: ValkeyCluster) -> ValkeyCluster:
    _shared_cluster.flush()
    return _shared_cluster


@pytest.fixture(params=["memory", "standalone", "cluster"])
def store_url(request: pytest.FixtureRequest) -> str:
    """URL of an empty store, one of each kind."""
    if request.param == "memory":
        return "memory://"
    if request.param == "standalone":
        url: str = request.getfixturevalue("valkey")
        return url
    cluster: ValkeyCluster = request.getfixturevalue("valkey_cluster")
    return cluster.url


@pytest.fixture
async def any_store(store_url: str, anyio_backend: str) -> AsyncIterator[Store]:
    store = open_store(store_url)
    yield store
    await store.close()


@pytest.fixture
async def proxy(valkey_server: ValkeyServer, anyio_backend: str) -> AsyncIterator[FaultProxy]:
    """A proxy in front of the shared server, forwarding faithfully until told otherwise."""
    async with FaultProxy(valkey_server.port) as proxy:
        yield proxy


@pytest.fixture
async def proxied_store(proxy: FaultProxy) -> AsyncIterator[Store]:
    store = open_store(proxy.url)
    yield store
    await store.close()
