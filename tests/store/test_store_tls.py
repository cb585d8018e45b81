"""rediss://: encrypted, and only with a server that proves who it is."""

from __future__ import annotations

import asyncio
import shutil
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

pytestmark = [pytest.mark.anyio, pytest.mark.fault("A12")]


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


@pytest.mark.parametrize(
    ("address", "valid_days"), [("127.0.0.1", (-2, -1)), ("127.0.0.1", (1, 2)), ("127.0.0.2", (-1, 1))],
    ids=["expired", "not yet valid", "of another name"],
)  # fmt: skip
async def test_tls_certificate_that_does_not_hold_is_refused(
    valkey_server: ValkeyServer, tmp_path: Path, address: str, valid_days: tuple[int, int]
) -> None:
    """Out of its time or of another address: unavailable, although its issuer is trusted; nothing is sent to it."""
    wrong = make_certificate(tmp_path, address=address, valid_days=valid_days)
    async with FaultProxy(valkey_server.port, server_side(wrong)) as proxy:
        store = open_store(f"{proxy.url}?ssl_ca_certs={wrong}")
        with pytest.raises(StoreUnavailable):
            await store.read("c-1", None, T)
        assert b"c-1" not in proxy.requests
        await store.close()


async def test_tls_certificate_may_be_replaced_while_the_service_runs(
    valkey_server: ValkeyServer, tmp_path: Path, certificate: Path
) -> None:
    """The server's certificate expires: open connections go on, new ones fail closed; a new certificate, and its issuer
    in the file of trusted ones, and the store is back without a restart."""
    trusted = tmp_path / "trusted.pem"
    shutil.copyfile(certificate, trusted)
    context = server_side(certificate)
    async with FaultProxy(valkey_server.port, context) as proxy:
        store = open_store(f"{proxy.url}?ssl_ca_certs={trusted}")
        await store.read("c-1", None, T)
        context.load_cert_chain(make_certificate(tmp_path, valid_days=(-2, -1)))
        await store.read("c-1", None, T)
        proxy.cut()
        with pytest.raises(StoreUnavailable):
            await store.read("c-1", None, T)
        renewed = make_certificate(tmp_path)
        context.load_cert_chain(renewed)
        shutil.copyfile(renewed, trusted)
        for _ in range(100):
            try:
                await store.read("c-1", None, T)
                break
            except StoreUnavailable:
                await asyncio.sleep(0.05)
        else:
            raise AssertionError("the store did not come back")
        await store.close()


async def test_tls_store_that_asks_who_we_are_is_told(
    valkey_server: ValkeyServer, tmp_path: Path, certificate: Path
) -> None:
    """A server that demands a certificate gets ours (`ssl_certfile`, `ssl_keyfile`); without one, or with one it does
    not know, it is unavailable."""
    ours = make_certificate(tmp_path)
    other = make_certificate(tmp_path, name="other.pem")
    context = server_side(certificate)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(ours)
    async with FaultProxy(valkey_server.port, context) as proxy:
        for own, works in ((ours, True), (other, False), (None, False)):
            mine = "" if own is None else f"&ssl_certfile={own}&ssl_keyfile={own}"
            store = open_store(f"{proxy.url}?ssl_ca_certs={certificate}{mine}")
            if works:
                await store.read("c-1", None, T)
            else:
                with pytest.raises(StoreUnavailable):
                    await store.read("c-1", None, T)
            await store.close()
