"""Connections under a real uvicorn: slow, oversize and broken ones are closed, the others are not held up."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import orjson
import pytest
import uvicorn
from api_fakes import DRAWDOWN, FakeCustomers, FakeDecisions, settings_of
from guarded_server import call, draw, guarded_server, until

from decision_service.api.access import Access
from decision_service.api.connection import GuardedConnection
from decision_service.api.connections import Connections
from decision_service.api.gate import Gate
from decision_service.api.handlers import Desk
from decision_service.api.routes import LABELS
from decision_service.telemetry import Meters

BODY = orjson.dumps(DRAWDOWN)
HEAD = b"POST /v1/decisions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
WHOLE = HEAD + b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY
PATIENCE_S = 10.0


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """A server with short time-outs (300 ms) over a desk of fakes."""
    meters = Meters(tmp_path_factory.mktemp("meters"), LABELS)
    settings = settings_of(
        header_timeout_ms=300, body_timeout_ms=300, header_bytes_max=2_048, headers_max=20, deadline_ms_default=5_000
    )
    decisions = FakeDecisions()

    @asynccontextmanager
    async def open_desk() -> AsyncIterator[Desk]:
        yield Desk(decisions, FakeCustomers(), settings, meters, decisions.now_ms)  # type: ignore[arg-type]

    gate = Gate(settings, Access(), meters, open_desk)
    config = uvicorn.Config(
        gate,
        loop="uvloop",
        http=GuardedConnection,
        ws="none",
        lifespan="on",
        log_config=None,
        interface="asgi3",
        proxy_headers=False,
        timeout_keep_alive=5,
        access_log=False,
    )
    server = uvicorn.Server(config)
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(256)
        thread = threading.Thread(target=server.run, args=([listening],))
        thread.start()
        while not server.started:
            time.sleep(0.01)
        yield listening.getsockname()[1]
        server.should_exit = True
        thread.join()
    meters.close()


def talk(port: int, *parts: bytes, pause_s: float = 0.0) -> bytes:
    """Send the parts and read until the server closes the connection."""
    with socket.create_connection(("127.0.0.1", port), PATIENCE_S) as caller:
        for part in parts:
            with contextlib.suppress(OSError):  # closed on us meanwhile: that is what we read next
                caller.sendall(part)
            time.sleep(pause_s)
        return read_all(caller)


def read_all(caller: socket.socket) -> bytes:
    """Everything up to the end of the connection."""
    answer = b""
    with contextlib.suppress(ConnectionResetError):
        while chunk := caller.recv(65_536):
            answer += chunk
    return answer


def status(answer: bytes) -> int:
    """The status of the first answer, 0 for none."""
    return int(answer.split(b" ")[1]) if answer else 0


def test_a_whole_request_is_answered_on_a_kept_connection(port: int) -> None:
    """Several requests follow each other on one connection, pipelined or not."""
    answer = talk(port, WHOLE, WHOLE + WHOLE, WHOLE.replace(b"Host", b"Connection: close\r\nHost"))
    assert answer.count(b"HTTP/1.1 200 OK") == 4


def test_a_connection_without_a_request_is_closed(port: int) -> None:
    """Silence ends at the header time-out."""
    assert talk(port) == b""


def test_half_sent_headers_are_closed(port: int) -> None:
    """A request line without an end is not waited for."""
    assert talk(port, HEAD) == b""


@pytest.mark.fault("E08")
def test_dripping_headers_are_closed(port: int) -> None:
    """Sending a byte now and then does not extend the time."""
    began = time.monotonic()
    assert talk(port, *(HEAD[i : i + 1] for i in range(30)), pause_s=0.02) == b""
    assert time.monotonic() - began < PATIENCE_S


def test_dripping_headers_of_a_second_request_are_closed(port: int) -> None:
    """A kept connection is watched like a new one."""
    answer = talk(port, WHOLE, *(HEAD[i : i + 1] for i in range(30)), pause_s=0.02)
    assert answer.count(b"HTTP/1.1") == 1


@pytest.mark.fault("E08")
def test_a_body_that_does_not_come_is_408(port: int) -> None:
    """The answer is a problem, and the connection ends."""
    answer = talk(port, HEAD + b"Content-Length: 500\r\n\r\n" + b'{"request_id"')
    assert status(answer) == 408
    assert b"application/problem+json" in answer
    assert b"body-timeout" in answer


@pytest.mark.fault("E06")
def test_an_announced_body_over_the_cap_is_not_waited_for(port: int) -> None:
    """60 MB are announced and hardly any sent: refused at once for its size, and not later for its time."""
    assert status(talk(port, HEAD + b"Content-Length: 60000000\r\n\r\n" + b'{"request_id"')) == 413


@pytest.mark.fault("E08")
def test_a_dripping_body_is_408(port: int) -> None:
    """Neither does a byte now and then extend the body's time."""
    assert status(talk(port, HEAD + b"Content-Length: 500\r\n\r\n", *[b" "] * 30, pause_s=0.02)) == 408


@pytest.mark.fault("E09")
@pytest.mark.parametrize(
    "headers",
    [
        b"X: " + b"a" * 200_000,
        b"X: " + b"a" * 3_000 + b"\r\n\r\n",
        b"".join(b"X%d: a\r\n" % i for i in range(10_000)),
        b"".join(b"X%d: a\r\n" % i for i in range(30)) + b"\r\n",
    ],
)
def test_oversize_headers_are_431(headers: bytes, port: int) -> None:
    """Bytes and fields are bounded, complete or not."""
    answer = talk(port, b"GET /livez HTTP/1.1\r\nHost: 127.0.0.1\r\n" + headers)
    assert status(answer) in (431, 0)  # 0: the answer was lost to the reset that follows unread bytes
    assert answer.count(b"HTTP/1.1") <= 1


def test_an_oversize_request_line_is_431(port: int) -> None:
    """The path counts as well."""
    assert status(talk(port, b"GET /" + b"a" * 3_000 + b" HTTP/1.1\r\n\r\n")) in (431, 0)


@pytest.mark.fault("E09")
@pytest.mark.parametrize(
    "request_bytes",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GE T / HTTP/1.1\r\n\r\n",
        b"\x00" * 64,
        b"GET / HTTP/1.1\r\nHost 127.0.0.1\r\n\r\n",
        HEAD + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        HEAD + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n",
        HEAD + b"Content-Length: -5\r\n\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
        "GET /ä HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode("latin-1"),
    ],
)
def test_what_is_no_http_is_400(request_bytes: bytes, port: int) -> None:
    """Smuggling attempts included; the connection ends."""
    answer = talk(port, request_bytes)
    assert status(answer) == 400
    assert answer.count(b"HTTP/1.1") == 1


@pytest.mark.fault("E06")
def test_an_endless_chunked_body_is_cut_off(port: int) -> None:
    """413 after the cap, and the connection ends."""
    chunk = b"1000\r\n" + b" " * 4_096 + b"\r\n"
    answer = talk(port, HEAD + b"Transfer-Encoding: chunked\r\n\r\n", *[chunk] * 64)
    assert status(answer) in (413, 0)
    assert answer.count(b"HTTP/1.1") <= 1


@pytest.mark.fault("E08")
def test_two_hundred_slow_connections_do_not_hold_up_the_others(port: int) -> None:
    """Callers that send nothing more get no answer; a whole request beside them does."""
    slow = [socket.create_connection(("127.0.0.1", port), PATIENCE_S) for _ in range(200)]
    try:
        for caller in slow:
            caller.sendall(HEAD)
        assert status(talk(port, WHOLE.replace(b"Host", b"Connection: close\r\nHost"))) == 200
        assert all(read_all(caller) == b"" for caller in slow)
    finally:
        for caller in slow:
            caller.close()


@pytest.mark.fault("D19")
def test_a_caller_that_hangs_up_leaves_nothing_behind(port: int, tmp_path: Path) -> None:
    """Disconnects in the middle of headers and of a body end quietly; the gauge returns to the asking request."""
    del tmp_path
    for part in (HEAD, HEAD + b"Content-Length: 500\r\n\r\n{", WHOLE):
        with socket.create_connection(("127.0.0.1", port), PATIENCE_S) as caller:
            caller.sendall(part)
    asked = b"GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"
    until = time.monotonic() + PATIENCE_S
    while b"requests_in_flight 1.0" not in talk(port, asked):
        assert time.monotonic() < until


def test_fifty_callers_at_once_all_get_their_answer(tmp_path: Path) -> None:
    """On fifty connections."""

    async def ask(port: int) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(WHOLE.replace(b"Host", b"Connection: close\r\nHost"))
        answer = await reader.read()
        writer.close()
        await writer.wait_closed()
        return answer

    async def all_at_once(port: int) -> list[bytes]:
        return await asyncio.gather(*(ask(port) for _ in range(50)))

    with guarded_server(tmp_path, deadline_ms_default=5_000) as server:
        assert {status(answer) for answer in asyncio.run(all_at_once(server.port))} == {200}


# --- callers that do not read, and too many of them -------------------------------------------------------------------


@pytest.mark.fault("E08")
def test_two_hundred_callers_that_never_read_are_let_go(tmp_path: Path) -> None:
    """Each asks for far more than its socket takes and reads nothing: they are closed, others are answered meanwhile,
    and nothing of them is left."""
    with guarded_server(tmp_path, write_timeout_ms=300, deadline_ms_default=5_000) as server:
        slow = []
        for _ in range(200):
            caller = socket.socket()
            caller.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
            caller.connect(("127.0.0.1", server.port))
            caller.settimeout(PATIENCE_S)
            caller.sendall(call(b"GET /openapi.json") * 16)
            slow.append(caller)
        with contextlib.closing(server.caller()) as other:
            assert other.ask(draw("beside"))[0] == 200
            until(lambda: server.gate.connections.open == 1)
            assert other.ask(draw("after"))[0] == 200
        assert server.gate.admission.here == 0
        for caller in slow:
            caller.close()


@pytest.mark.fault("E08")
def test_an_answer_that_nobody_takes_does_not_hold_its_connection(tmp_path: Path) -> None:
    """Not even the last one, after which the connection is to be closed."""
    with guarded_server(tmp_path, write_timeout_ms=300) as server, socket.socket() as caller:
        caller.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        caller.connect(("127.0.0.1", server.port))
        until(lambda: server.gate.connections.open == 1)
        caller.sendall(call(b"GET /openapi.json") * 2 + call(b"GET /openapi.json", b"", b"Connection: close"))
        until(lambda: server.gate.connections.open == 0)


@pytest.mark.fault("E08", "H18")
def test_connections_beyond_the_bound_are_told_so(tmp_path: Path) -> None:
    """503 too-busy and the end; once another hangs up there is room."""
    with guarded_server(tmp_path, connections_max=8) as server:
        callers = [server.caller() for _ in range(8)]
        assert all(caller.ask(call(b"GET /livez"))[0] == 200 for caller in callers)
        with contextlib.closing(server.caller()) as excess:
            status, headers, body = excess.answer()
            assert (status, headers["connection"]) == (503, "close")
            assert b"too-busy" in body
            assert excess.ended()
        assert callers[0].ask(call(b"GET /livez"))[0] == 200
        callers[0].close()
        until(lambda: server.gate.connections.open == 7)
        callers[0] = server.caller()
        assert callers[0].ask(call(b"GET /livez"))[0] == 200
        for caller in callers:
            caller.close()


@pytest.mark.fault("E08")
def test_one_address_cannot_take_all_connections() -> None:
    """It has a bound of its own; another address is let in."""
    connections = Connections(100, 2)
    assert [connections.enter(n, "10.0.0.1") for n in range(3)] == [True, True, False]
    assert connections.enter(3, "10.0.0.2")
    connections.leave(2)  # was never let in
    connections.leave(0)
    assert connections.enter(4, "10.0.0.1")
    assert connections.open == 3


@pytest.mark.fault("E09")
def test_a_smuggled_request_is_never_carried_out(port: int) -> None:
    """Content-length and transfer-encoding together, in either order: 400, the end, and the rest is not looked at."""
    hidden = b"GET /livez HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    both = [b"Content-Length: %d\r\n" % (len(hidden) + 5), b"Transfer-Encoding: chunked\r\n"]
    for first, second in (both, both[::-1]):
        answer = talk(port, HEAD + first + second + b"\r\n0\r\n\r\n" + hidden)
        assert status(answer) == 400
        assert b"alive" not in answer


@pytest.mark.fault("H17")
def test_labels_do_not_grow_with_what_callers_send(tmp_path: Path) -> None:
    """A thousand calls with ids, paths and queries of their own leave the page of metrics as long as it was."""
    with guarded_server(tmp_path, deadline_ms_default=5_000) as server, contextlib.closing(server.caller()) as caller:

        def send(n: int) -> None:
            caller.ask(draw(f"canary-{n}", customer_id=f"canary-{n}"))
            caller.ask(call(b"GET /v1/decisions/canary-%d" % n))
            caller.ask(call(b"GET /canary-%d?canary=%d" % (n, n)))
            caller.ask(call(b"OPTIONS /v1/facilities/canary-%d" % n))

        send(0)
        server.page()  # is on the page itself
        before = server.page()
        for n in range(1, 250):
            send(n)
        after = server.page()
        assert "canary" not in after
        assert len(after.splitlines()) == len(before.splitlines())
