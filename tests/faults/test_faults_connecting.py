"""Connecting to a store that resets in the middle of the greeting: unavailable, never a bug."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
from typing import Any

import pytest
from tcp_proxy import TcpProxy

from decision_service.core.errors import StoreUnavailable
from decision_service.store.client import open_lane, parse_store_url
from decision_service.store.lane import Lane
from valkey_server import ValkeyServer

pytestmark = pytest.mark.anyio


class Nobody:
    """Owns a lane and does not care."""

    def lost(self, lane: Lane) -> None: ...

    def silent(self, lane: Lane) -> None: ...

    def elsewhere(self) -> None: ...


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    """Both event loops: uvloop has words of its own for a connection that is gone."""
    return "asyncio", {"use_uvloop": request.param}


@pytest.mark.fault("A02", "A08")
@pytest.mark.parametrize(
    "faults",
    [{"refuse": True}, {"reset_after_bytes": 0}, {"reset_after_bytes": 2}, {"cut_at": "AUTH"}, {"cut_at": "SELECT"}],
    ids=str,
)
async def test_a_connection_reset_while_it_opens_is_unavailable(
    valkey_server: ValkeyServer, faults: dict[str, Any]
) -> None:
    """Whatever moment the reset comes in: the caller learns one error, and the next attempt works once it is over."""
    with TcpProxy(valkey_server.port) as proxy:
        endpoint = parse_store_url(f"redis://default:none@127.0.0.1:{proxy.port}/1")

        async def opened() -> Lane:
            return await open_lane(endpoint, endpoint.addresses[0], lambda address: Lane(Nobody()))

        proxy.hurt(**faults)
        for _ in range(3):
            failures = await asyncio.gather(*(opened() for _ in range(10)), return_exceptions=True)
            assert {type(failure) for failure in failures} == {StoreUnavailable}
        assert proxy.accepted <= 30, "nothing is tried again behind our back"
        proxy.heal()
        lane = await opened()
        lane.drop("done")
        await asyncio.sleep(0)


@pytest.mark.fault("A02")
async def test_a_peer_that_resets_faster_than_we_write_is_unavailable() -> None:
    """Of hundreds of connections that a bare socket resets at once, some are gone before the first byte is written."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(100)

        def reset_all() -> None:
            with contextlib.suppress(OSError):
                while True:
                    peer, _ = listening.accept()
                    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    peer.close()

        thread = threading.Thread(target=reset_all, daemon=True)
        thread.start()
        endpoint = parse_store_url(f"redis://default:none@127.0.0.1:{listening.getsockname()[1]}/1")
        for _ in range(20):
            failures = await asyncio.gather(
                *(open_lane(endpoint, endpoint.addresses[0], lambda address: Lane(Nobody())) for _ in range(20)),
                return_exceptions=True,
            )
            assert {type(failure) for failure in failures} == {StoreUnavailable}
        listening.shutdown(socket.SHUT_RDWR)
        thread.join(10)
