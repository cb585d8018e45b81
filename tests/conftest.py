"""Fixtures that several parts share. Asynchronous tests are marked `anyio` and run on asyncio.

valkey          URL of a running server with the settings we want, empty; shared by the session
valkey_server   the same as an object (`client()` looks inside)
valkey_private  a server of the test's own, to kill, freeze and restart
store           an empty `RedisStore` on `valkey`

Tests carry the faults they show (`tests/faults`), and `--fault-report PATH` writes what a run says of them.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from decision_service.store import Store
from decision_service.store.open import open_store
from valkey_server import ValkeyServer

sys.path.insert(0, str(Path(__file__).parent / "faults"))  # its proxy, for every folder of tests
import fault_report


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--fault-report PATH`."""
    fault_report.add_option(parser)


def pytest_configure(config: pytest.Config) -> None:
    """Report on faults if that is asked for."""
    fault_report.configure(config)


def pytest_itemcollected(item: pytest.Item) -> None:
    """Each test knows which faults it shows."""
    fault_report.note_faults(item)


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def _shared_valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyServer]:
    server = ValkeyServer(tmp_path_factory.mktemp("valkey")).start()
    yield server
    server.stop()


@pytest.fixture
def valkey_server(_shared_valkey: ValkeyServer) -> ValkeyServer:
    with _shared_valkey.client() as client:
        client.flushall()
    return _shared_valkey


@pytest.fixture
def valkey(valkey_server: ValkeyServer) -> str:
    return valkey_server.url


@pytest.fixture
def valkey_private(tmp_path: Path) -> Iterator[ValkeyServer]:
    server = ValkeyServer(tmp_path / "valkey").start()
    yield server
    server.stop()


@pytest.fixture
async def store(valkey: str, anyio_backend: str) -> AsyncIterator[Store]:
    store = open_store(valkey)
    yield store
    await store.close()
