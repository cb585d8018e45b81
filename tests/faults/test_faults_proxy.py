"""The proxy hurts what it says it hurts, and heals."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterator

import pytest
from tcp_proxy import TcpProxy, TcpProxyProcess

from valkey_server import ValkeyServer

LONG = b"x" * 300


@contextlib.contextmanager
def dialled(port: int) -> Iterator[socket.socket]:
    """A plain connection with a short patience."""
    with socket.create_connection(("127.0.0.1", port), timeout=5) as raw:
        yield raw


def say(raw: socket.socket, *words: bytes) -> None:
    """Send one command."""
    raw.sendall(b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(w), w) for w in words))


def heard(raw: socket.socket, size: int, patience_s: float = 5) -> bytes:
    """So many bytes, or what came of them."""
    raw.settimeout(patience_s)
    found = b""
    with contextlib.suppress(TimeoutError):
        while len(found) < size:
            piece = raw.recv(size - len(found))
            if not piece:
                break
            found += piece
    return found


@pytest.fixture
def proxy(valkey_server: ValkeyServer) -> Iterator[TcpProxy]:
    """A proxy before the shared server."""
    with TcpProxy(valkey_server.port, keep_requests=True) as made:
        yield made


def test_what_is_lost_on_the_way_back_was_done(proxy: TcpProxy, valkey_server: ValkeyServer) -> None:
    """A lost reply is of a command that ran, a lost request of one that did not; what lost bytes stays silent."""
    with dialled(proxy.port) as raw, dialled(proxy.port) as other, valkey_server.client() as direct:
        proxy.hurt(lose_replies=True)
        say(raw, b"INCR", b"n")
        assert heard(raw, 1, 0.2) == b""
        assert direct.get("n") == b"1"
        proxy.hurt(lose_requests=True)
        say(other, b"INCR", b"n")
        assert heard(other, 1, 0.2) == b""
        proxy.heal()
        for silent in (raw, other):
            say(silent, b"GET", b"n")
            assert heard(silent, 1, 0.1) == b""
        assert direct.get("n") == b"1"
        assert proxy.requests.count(b"INCR") == 2


def test_only_the_named_request_goes_unanswered(proxy: TcpProxy) -> None:
    """`lose_replies_of` leaves other connections alone, `cut_at` resets before anything is passed on."""
    proxy.hurt(lose_replies_of="INCR")
    with dialled(proxy.port) as first, dialled(proxy.port) as second:
        say(first, b"INCR", b"n")
        say(second, b"PING")
        assert heard(second, 7) == b"+PONG\r\n"
        assert heard(first, 1, 0.2) == b""
        proxy.hurt(cut_at="INCR")
        say(second, b"INCR", b"n")
        with pytest.raises(ConnectionResetError):
            heard(second, 1)
        proxy.heal()
    with dialled(proxy.port) as third:
        say(third, b"GET", b"n")
        assert heard(third, 7) == b"$1\r\n1\r\n"


def test_a_black_hole_takes_everything_and_says_nothing(proxy: TcpProxy) -> None:
    """Old connections and new ones; a new connection works once it is gone."""
    with dialled(proxy.port) as old:
        say(old, b"PING")
        assert heard(old, 7) == b"+PONG\r\n"
        proxy.hurt(black_hole=True)
        with dialled(proxy.port) as new:
            for raw in (old, new):
                say(raw, b"PING")
                assert heard(raw, 1, 0.1) == b""
    proxy.heal()
    with dialled(proxy.port) as raw:
        say(raw, b"PING")
        assert heard(raw, 7) == b"+PONG\r\n"


def test_replies_are_sliced_cut_short_and_reset(proxy: TcpProxy) -> None:
    """Bytes come one by one, end in silence, or end in a reset, after exactly as many as were asked for."""
    with dialled(proxy.port) as raw:
        proxy.hurt(slice_bytes=1)
        say(raw, b"ECHO", LONG)
        assert heard(raw, 308) == b"$300\r\n" + LONG + b"\r\n"
        proxy.hurt(silent_after_bytes=100)
        say(raw, b"ECHO", LONG)
        assert len(heard(raw, 300, 0.2)) == 100
    with dialled(proxy.port) as raw:
        proxy.hurt(reset_after_bytes=50)
        say(raw, b"ECHO", LONG)
        with pytest.raises(ConnectionResetError):
            heard(raw, 300)
    proxy.hurt(refuse=True)
    with pytest.raises(ConnectionResetError), dialled(proxy.port) as raw:
        heard(raw, 1)


def test_delay_and_rate_make_replies_late_and_change_no_byte(proxy: TcpProxy) -> None:
    """Two commands under a delay are both late by it once, not twice; a rate takes its time."""
    with dialled(proxy.port) as raw:
        proxy.hurt(delay_ms=100, jitter_ms=20)
        began = time.perf_counter()
        say(raw, b"ECHO", b"1")
        say(raw, b"ECHO", b"2")
        assert heard(raw, 14) == b"$1\r\n1\r\n$1\r\n2\r\n"
        assert time.perf_counter() - began >= 0.1
        proxy.hurt(bytes_per_s=2_000, slice_bytes=20)
        began = time.perf_counter()
        say(raw, b"ECHO", LONG)
        assert heard(raw, 308) == b"$300\r\n" + LONG + b"\r\n"
        assert time.perf_counter() - began >= 0.1


def test_cut_resets_whatever_is_open(proxy: TcpProxy) -> None:
    """The client is told at once."""
    with dialled(proxy.port) as raw:
        say(raw, b"PING")
        assert heard(raw, 7) == b"+PONG\r\n"
        assert proxy.cut() == 1
        with pytest.raises(ConnectionResetError):
            heard(raw, 1)


def test_a_server_that_dies_can_be_kept_from_the_client(valkey_private: ValkeyServer) -> None:
    """`hide_close`: the connection stays open though nobody is there; otherwise the client is reset."""
    with TcpProxy(valkey_private.port) as proxy:
        proxy.hurt(hide_close=True)
        with dialled(proxy.port) as raw:
            say(raw, b"PING")
            assert heard(raw, 7) == b"+PONG\r\n"
            valkey_private.kill()
            assert heard(raw, 1, 0.2) == b""
        proxy.heal()
        with pytest.raises(ConnectionResetError), dialled(proxy.port) as raw:
            heard(raw, 1)


def test_a_proxy_in_a_process_of_its_own_does_the_same(valkey_server: ValkeyServer) -> None:
    """Faults, counts and cuts through its standard input."""
    with TcpProxyProcess(valkey_server.port) as proxy, dialled(proxy.port) as raw:
        say(raw, b"PING")
        assert heard(raw, 7) == b"+PONG\r\n"
        proxy.hurt(lose_replies=True)
        say(raw, b"PING")
        assert heard(raw, 1, 0.2) == b""
        proxy.heal()
        assert (proxy.accepted, proxy.cut()) == (1, 1)
        with pytest.raises(ConnectionResetError):
            heard(raw, 1)
