"""The client of our own API, against a real socket whose other end says what each test needs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from decision_service.cli import main
from decision_service.core.errors import InvalidInput
from decision_service.http_client import Client, ConnectionLost

Speak = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def other_end(speak: Speak) -> AsyncIterator[str]:
    """A listening socket that serves every connection with `speak`; its URL."""
    spoken: list[asyncio.Task[None]] = []

    async def speak_and_close(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        spoken.append(task)
        await speak(reader, writer)
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(speak_and_close, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/base"
        await asyncio.gather(*spoken)


async def read_request(reader: asyncio.StreamReader) -> tuple[str, str, bytes]:
    """Request line, headers and body of one request."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    line, _, headers = head.partition("\r\n")
    length = next(int(h.split(":")[1]) for h in headers.split("\r\n") if h.startswith("content-length"))
    return line, headers, await reader.readexactly(length)


def test_requests_share_one_connection() -> None:
    """Two calls go over one connection, with the path's prefix, the bearer and JSON bodies; a response in
    small pieces is put together."""
    connections: list[list[tuple[str, str, bytes]]] = []

    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen: list[tuple[str, str, bytes]] = []
        connections.append(seen)
        for _ in range(2):
            seen.append(await read_request(reader))
            for byte in b'HTTP/1.1 200 OK\r\nX-Some: Thing\r\ncontent-length: 8\r\n\r\n{"a": 1}':
                writer.write(bytes([byte]))
                await writer.drain()

    async def main() -> None:
        async with other_end(speak) as url, Client(url, "secret") as client:
            first = await client.call("PUT", "/x", {"b": 2})
            second = await client.call("GET", "/y")
            assert (first.status, first.json(), first.headers["x-some"]) == (200, {"a": 1}, "Thing")
            assert second.json() == {"a": 1}

    asyncio.run(main())
    ((put, get),) = connections
    assert put[0] == "PUT /base/x HTTP/1.1"
    assert "authorization: Bearer secret" in put[1]
    assert put[2] == b'{"b":2}'
    assert (get[0], get[2]) == ("GET /base/y HTTP/1.1", b"")


def test_lost_connection_is_told_and_opened_again() -> None:
    """A connection that closes without an answer raises ConnectionLost; the next call opens another."""
    connections = 0

    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await read_request(reader)
        if connections == 2:
            writer.write(b"HTTP/1.1 204 No Content\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")

    async def main() -> None:
        async with other_end(speak) as url, Client(url) as client:
            with pytest.raises(ConnectionLost):
                await client.call("GET", "/")
            assert (await client.call("GET", "/")).json() is None

    asyncio.run(main())
    assert connections == 2


def test_silence_is_a_lost_connection() -> None:
    """An answer that does not come within the time-out raises ConnectionLost."""

    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async def main() -> None:
        async with other_end(speak) as url, Client(url, timeout_s=0.05) as client:
            with pytest.raises(ConnectionLost, match=r"no answer within 0\.05 s"):
                await client.call("GET", "/")

    asyncio.run(main())


def test_nobody_there_is_a_lost_connection() -> None:
    """A port that nobody listens on raises ConnectionLost, not an operating-system error."""

    async def unused(_reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        raise AssertionError("nobody calls before the port is closed")

    async def main() -> None:
        async with other_end(unused) as url:
            pass
        with pytest.raises(ConnectionLost):
            await Client(url).call("GET", "/")

    asyncio.run(main())


def test_only_http_addresses_are_called() -> None:
    """A URL of another scheme, or without a host, is refused at once."""
    for url in (
        "ftp://host",
        "127.0.0.1:8000",
        "http://",
        "",
        "http://[::1",
        "http://h:port",
        "http://h:99999",
        "http://a b",
    ):
        with pytest.raises(InvalidInput, match="not an http"):
            Client(url)


def test_commands_tell_which_option_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An address that is none, and a file without a key, are the option's mistake and no traceback."""
    ask = ["features", "explain", "c-1", "vol_req_cnt_7d", "--url"]
    (tmp_path / "empty").write_text("\n")
    (tmp_path / "lines").write_text("one\r\nx-evil: two")
    assert main([*ask, "nonsense"]) == main([*ask, ""]) == 5
    assert capsys.readouterr().err.startswith("decision-service: url: 'nonsense' is not an http")
    for name in ("absent", "empty", "lines"):
        assert main([*ask, "http://127.0.0.1:1", "--bearer-file", str(tmp_path / name)]) == 5
        assert capsys.readouterr().err.startswith("decision-service: bearer_file: ")
    assert main([*ask, "nonsense", "--json"]) == 5
    assert '"field":"url"' in capsys.readouterr().err
