"""The direct way: POST /v1/decisions from the bytes of one read to the bytes of one write, past scope, messages and
FastAPI.

    bytes -> Head (the parser's view of the headers) -> Gate.answer_draw -> bytes

It takes only what is plainly one whole request that ends where the read ends: `POST /v1/decisions HTTP/1.1`, a
content-length, a connection that lives on, nothing about transfer, expectations or upgrades, within the bounds of the
connection. Whatever else may arrive goes the ordinary way, and the answers of both ways are the same bytes
(`tests/api/test_api_direct.py`).

What is HTTP and what is not is decided by one parser in both ways: a head is read by llhttp, as everything is, or it
is, but for the digits of its content-length, byte for byte the head that llhttp read before on the same connection.
Callers that keep a connection mostly send the same headers again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from decision_service.api.call import JSON, Reply
from decision_service.api.routes import DECIDE_PATH

Headers = tuple[tuple[bytes, bytes], ...]
DefaultHeaders = list[tuple[bytes, bytes]]
START: Final = b"POST %b HTTP/1.1\r\n" % DECIDE_PATH.encode()
LENGTH_DIGITS_MAX: Final = 9
_BLANK: Final = b"\r\n\r\n"
_LENGTH: Final = b"\r\ncontent-length:"
_ORDINARY: Final = frozenset({b"transfer-encoding", b"expect", b"upgrade"})
_CLOSE: Final = b"connection: close\r\n"


class Head:
    """The headers of a plain request: by their names in small letters, the last of equal names, as the gate sees them.

    `before` and `after` are the bytes around the digits of the content-length, up to the body; None if nobody wants to
    know it again. `checked`: the content type and encoding were looked at, and are supported."""

    __slots__ = ("after", "before", "checked", "headers")

    def __init__(self, headers: Mapping[bytes, bytes], before: bytes | None = None, after: bytes = b"") -> None:
        self.headers = headers
        self.before = before
        self.after = after
        self.checked = False

    def body_at(self, data: bytes) -> int:
        """Where the body begins if `data` is one whole request with this very head but for its length; else 0."""
        if self.before is None or not data.startswith(self.before):
            return 0
        start = len(self.before)
        end = data.find(b"\r", start, start + LENGTH_DIGITS_MAX + 1)
        if end < 0 or not data.startswith(self.after, end):
            return 0
        told = data[start:end]
        at = end + len(self.after)
        return at if told.isdigit() and int(told) == len(data) - at else 0


class HeadReader:
    """Reads heads with llhttp, for all connections of a worker: no message spans two reads here."""

    def __init__(self, header_bytes_max: int, headers_max: int) -> None:
        self._header_bytes_max = header_bytes_max
        self._headers_max = headers_max
        self._parser: httptools.HttpRequestParser | None = None
        self._headers: list[tuple[bytes, bytes]] = []
        self._body = b""
        self._begun = self._complete = 0
        self._lives_on = False

    def read(self, data: bytes, again: bool = True) -> tuple[Head, int] | None:
        """The head of one whole plain request and where its body begins; None for anything else. `again`: it may come
        again, and is to be known then."""
        end = data.find(_BLANK)
        if end < 0 or end + len(_BLANK) > self._header_bytes_max or not data.startswith(START):
            return None
        if not self._parses(data):
            self._parser = None  # it stands in the middle of a message, or expects no further one
            return None
        headers = dict(self._headers)
        if len(self._headers) > self._headers_max or not _ORDINARY.isdisjoint(headers):
            return None
        at = end + len(_BLANK)
        if b"content-length" not in headers or self._body != data[at:]:
            return None
        return (_known_again(headers, len(self._headers), data, end) if again else Head(headers)), at

    def _parses(self, data: bytes) -> bool:
        """Whether the parser takes the bytes for one message and nothing more, and expects another one."""
        if self._parser is None:
            self._parser = httptools.HttpRequestParser(self)
        self._headers, self._body = [], b""
        self._begun = self._complete = 0
        self._lives_on = False
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            return False
        return self._begun == self._complete == 1 and self._lives_on

    def on_message_begin(self) -> None:
        """Of the parser."""
        self._begun += 1

    def on_header(self, name: bytes, value: bytes) -> None:
        """Of the parser."""
        self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """Of the parser."""
        assert self._parser is not None
        self._lives_on = self._parser.should_keep_alive() and not self._parser.should_upgrade()

    def on_body(self, body: bytes) -> None:
        """Of the parser."""
        self._body += body

    def on_message_complete(self) -> None:
        """Of the parser."""
        self._complete += 1


def _known_again(headers: Mapping[bytes, bytes], fields: int, data: bytes, end: int) -> Head:
    """A head that knows itself again, if each field has a line of its own and one of them tells the length in nothing
    but digits."""
    head = data[: end + 2].lower()
    at = head.find(_LENGTH) + len(_LENGTH)
    if (
        not head.count(b"\r\n") == head.count(b"\n") == head.count(b"\r") == fields + 1
        or at < len(_LENGTH)
        or head.find(_LENGTH, at) >= 0
    ):
        return Head(headers)
    while head[at] in b" \t":
        at += 1
    made = Head(headers, data[:at], data[head.find(b"\r", at) : end + len(_BLANK)])
    return made if made.body_at(data) else Head(headers)


class Answers:
    """Writes replies as uvicorn does, for one worker. What is the same in all answers of a second is kept."""

    def __init__(self) -> None:
        self._made_of: DefaultHeaders | None = None
        self._ok = b""

    def bytes_of(self, reply: Reply, more: Headers, default_headers: DefaultHeaders, last: bool) -> tuple[bytes, bool]:
        """The answer, and whether it is the last one on its connection: it was to be, or the reply says so."""
        body = reply.body
        if default_headers is not self._made_of:  # the server makes them anew once a second, with the date
            self._ok = _start(200, JSON, default_headers)
            self._made_of = default_headers
        if reply.status == 200 and reply.content_type is JSON:
            head = self._ok
            if not more and not reply.headers and not last:
                return b"%b%d\r\n\r\n%b" % (head, len(body), body), False
        else:
            head = _start(reply.status, reply.content_type, default_headers)
        lines = [b"%b: %b\r\n" % header for header in (*reply.headers, *more)]
        if _CLOSE in lines:
            last = True
        elif last:
            lines.append(_CLOSE)
        return b"%b%d\r\n%b\r\n%b" % (head, len(body), b"".join(lines), body), last


def _start(status: int, content_type: bytes, default_headers: DefaultHeaders) -> bytes:
    """Everything up to the digits of the content-length."""
    lines = [b"%b: %b\r\n" % header for header in default_headers]
    return b"%b%bcontent-type: %b\r\ncontent-length: " % (STATUS_LINE[status], b"".join(lines), content_type)
