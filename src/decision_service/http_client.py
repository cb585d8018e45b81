"""A client of our own API: keep-alive HTTP/1.1 connections over plain asyncio, one request on each at a
time.

Why not httpx: sending a request through it costs more CPU than the service spends on deciding it. This
speaks to our own service only: responses carry a content-length or are chunked, and nothing is redirected.
Times in seconds.
"""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final
from urllib.parse import SplitResult, urlsplit

import httptools
import orjson

from decision_service.core.errors import InvalidInput

CALL_TIMEOUT_S: Final = 30.0


class ConnectionLost(Exception):
    """The connection closed, or nothing came back in time. The request may have been carried out."""


@dataclass(frozen=True, slots=True)
class Response:
    """What came back. `headers` are lower-case."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        """The body as JSON, None where there is none."""
        return orjson.loads(self.body) if self.body else None


class _Exchange(asyncio.Protocol):
    """Feeds received bytes to the parser and completes the one future that waits."""

    def __init__(self) -> None:
        self.waiting: asyncio.Future[Response] | None = None
        self.transport: asyncio.WriteTransport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._headers: dict[str, str] = {}
        self._body: list[bytes] = []

    def on_message_begin(self) -> None:
        self._headers, self._body = {}, []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._fail(f"not HTTP: {error}")

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        response = Response(self._parser.get_status_code(), self._headers, b"".join(self._body))
        waiting, self.waiting = self.waiting, None
        if self.transport is not None and not self._parser.should_keep_alive():
            self.transport.close()
            self.transport = None
        if waiting is not None and not waiting.done():
            waiting.set_result(response)

    def connection_lost(self, error: Exception | None) -> None:
        self._fail(str(error or "closed by the service"))

    def _fail(self, why: str) -> None:
        self.transport = None
        waiting, self.waiting = self.waiting, None
        if waiting is not None and not waiting.done():
            waiting.set_exception(ConnectionLost(why))


def bearer_in(path: Path | None) -> str | None:
    """The API key or token in a file. InvalidInput for a file that cannot be read or holds none."""
    if path is None:
        return None
    try:
        bearer = path.read_text(encoding="ascii").strip()
    except OSError as error:
        raise InvalidInput("bearer_file", f"{path}: {error.strerror}") from None
    except UnicodeDecodeError:
        bearer = ""
    if not bearer.isprintable() or not bearer:
        raise InvalidInput("bearer_file", f"{path}: holds no key or token in one line")
    return bearer


def _address_in(url: str) -> tuple[SplitResult, str, int | None]:
    try:
        parts = urlsplit(url)
        if parts.scheme in ("http", "https") and parts.hostname and url.isprintable() and " " not in url:
            return parts, parts.hostname, parts.port
    except ValueError:  # brackets that do not close, a port that is none
        pass
    raise InvalidInput("url", f"{url!r} is not an http:// or https:// address")


class Client:
    """One connection to the service at `url`, opened when first used and again after it was lost."""

    def __init__(self, url: str, bearer: str | None = None, timeout_s: float = CALL_TIMEOUT_S) -> None:
        """InvalidInput for a `url` that is no address of a service."""
        parts, self._host, port = _address_in(url)
        self._tls = parts.scheme == "https"
        self._port = port or (443 if self._tls else 80)
        self._prefix = parts.path.rstrip("/")
        access = f"authorization: Bearer {bearer}\r\n" if bearer else ""
        self._headers = f"host: {parts.netloc}\r\n{access}"
        self._timeout_s = timeout_s
        self._exchange: _Exchange | None = None

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; the next call would open another."""
        if self._exchange is not None and self._exchange.transport is not None:
            self._exchange.transport.close()
        self._exchange = None

    async def call(self, method: str, path: str, body: object = None) -> Response:
        """Send one request, `body` as JSON, and wait for its response. Raises ConnectionLost."""
        content = b"" if body is None else orjson.dumps(body)
        kind = "content-type: application/json\r\n" if content else ""
        headers = f"{self._headers}{kind}content-length: {len(content)}\r\n\r\n"
        request = f"{method} {self._prefix}{path} HTTP/1.1\r\n{headers}".encode() + content
        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._send(request)
        except TimeoutError:
            self.close()
            raise ConnectionLost(f"no answer within {self._timeout_s:g} s") from None
        except OSError as error:
            raise ConnectionLost(str(error)) from error

    async def _send(self, request: bytes) -> Response:
        exchange = self._exchange
        if exchange is None or exchange.transport is None:
            exchange = self._exchange = await self._open()
        assert exchange.transport is not None
        assert exchange.waiting is None, "one request at a time"
        exchange.waiting = asyncio.get_running_loop().create_future()
        exchange.transport.write(request)
        return await exchange.waiting

    async def _open(self) -> _Exchange:
        context = ssl.create_default_context() if self._tls else None
        loop = asyncio.get_running_loop()
        _, exchange = await loop.create_connection(_Exchange, self._host, self._port, ssl=context)
        return exchange
