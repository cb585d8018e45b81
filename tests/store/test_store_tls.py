"""rediss://: encrypted, and only with a server that proves who it is."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

import pytest
from fault_proxy import FaultProxy
from store_cases import T, record

from certificates import make_certificate
from decision_service.core.errors import StoreUnavailable
from decision_service.core.event import EMPTY_LOG
from decision_service.store import Commit
from decision_service.store.open import open_store
from valkey_server import ValkeyServer

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A self-signed certificate of 127.0.0.1 with its key, in one file."""
    return make_certificate(tmp_path_factory.mktemp("tls"))


def server_side(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    return "asyncio", {"use_uvloop": request.param}


async def test_tls_store_works_like_any_other(valkey_server: ValkeyServer, certificate: Path) -> None:
    """Over TLS, with a server whose certificate is trusted, commits and large reads work side by side."""
    async with FaultProxy(valkey_server.port, server_side(certificate)) as proxy:
        store = open_store(f"{proxy.url}?ssl_ca_certs={certificate}")
        records = b"".join(record(n) for n in range(4_096))
        await store.commit(Commit("c-1", 0, records), T)
        states = await asyncio.gather(*(store.read("c-1", None, T) for _ in range(8)))
        assert {state.log for state in states} == {EMPTY_LOG + records}
        await store.close()


async def test_tls_stranger_is_refused(valkey_server: ValkeyServer, certificate: Path) -> None:
    """A server whose certificate nobody vouches for is unavailable."""
    async with FaultProxy(valkey_server.port, server_side(certificate)) as proxy:
        store = open_store(proxy.url)
        with pytest.raises(StoreUnavailable):
            await store.read("c-1", None, T)
        await store.close()
