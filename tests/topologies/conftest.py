"""Fixtures of the topology tests.

topology          a running topology of each kind, empty; shared by the session: leave it as it was found
topology_private  one of the test's own of each kind, to kill and to partition
any_store         a store on `topology`, so that the contract of `tests/store` is checked here, too
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from decision_service.store import Store
from decision_service.store.open import open_store
from topology_servers import KINDS, Servers, started

for folder in ("store", "service", "reconcile"):
    sys.path.insert(0, str(Path(__file__).parent.parent / folder))

from conftest_service import clock, rules, run  # noqa: E402, F401


@pytest.fixture(scope="session")
def _started_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Servers]]:
    running: dict[str, Servers] = {}
    with ExitStack() as stack:

        def once(kind: str) -> Servers:
            if kind not in running:
                running[kind] = stack.enter_context(started(kind, tmp_path_factory.mktemp(kind)))
            return running[kind]

        yield once


@pytest.fixture(params=KINDS)
def topology(request: pytest.FixtureRequest, _started_once: Callable[[str], Servers]) -> Servers:
    servers = _started_once(request.param)
    servers.flush()
    return servers


@pytest.fixture(params=KINDS)
def topology_private(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Servers]:
    with started(request.param, tmp_path) as servers:
        yield servers


@pytest.fixture
async def any_store(topology: Servers, anyio_backend: str) -> AsyncIterator[Store]:
    store = open_store(topology.url)
    yield store
    await store.close()
