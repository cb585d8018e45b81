"""A call as handlers see it, and the reply they give; the same whether it came through FastAPI or the hot
route."""

from __future__ import annotations

import urllib.parse
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import orjson

from decision_service.api.keys import Principal
from decision_service.api.refusals import BodyTooLarge, ClientGone, MediaUnsupported
from decision_service.core.errors import InvalidInput
from decision_service.core.limits import ID_CHARS_MAX

JSON: Final = b"application/json"
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]


@dataclass(frozen=True, slots=True)
class Call:
    """`path_values` are still percent-encoded. `scope` tells when the request `came`, which is not known before its
    body is read to the end."""

    principal: Principal
    headers: Mapping[bytes, bytes]
    receive: Receive
    scope: Mapping[str, Any]
    path_values: Mapping[str, str] = field(default_factory=dict)
    query: bytes = b""

    @property
    def arrived(self) -> float:
        """The `perf_counter` instant at which the last of it was here."""
        came: float = self.scope["came"]
        return came

    def path_id(self, name: str) -> str:
        """An id from the path: any UTF-8 but NUL. Raises InvalidInput."""
        try:
            text = urllib.parse.unquote_to_bytes(self.path_values[name]).decode()
        except UnicodeDecodeError:
            raise InvalidInput(name, "must be UTF-8") from None
        if not 1 <= len(text) <= ID_CHARS_MAX or "\0" in text:
            raise InvalidInput(name, f"must have 1 to {ID_CHARS_MAX} characters, none of them NUL")
        return text

    def query_values(self, *known: str) -> dict[str, str]:
        """The query's parameters, each at most once and none unknown. Raises InvalidInput."""
        try:
            pairs = urllib.parse.parse_qsl(
                self.query.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=64
            )
        except ValueError:
            raise InvalidInput("", "the query must be percent-encoded UTF-8, at most 64 values") from None
        values: dict[str, str] = {}
        for name, value in pairs:
            if name not in known:
                raise InvalidInput(name[:ID_CHARS_MAX], "unknown parameter, known are " + ", ".join(known))
            if name in values:
                raise InvalidInput(name, "given twice")
            if "\0" in value:
                raise InvalidInput(name, "must not contain NUL")
            values[name] = value
        return values


class Reply(NamedTuple):
    """What goes back. `headers` come besides content type and length."""

    status: int
    body: bytes
    headers: tuple[tuple[bytes, bytes], ...] = ()
    content_type: bytes = JSON


def json_reply(value: object, status: int = 200) -> Reply:
    """A JSON reply."""
    return Reply(status, orjson.dumps(value))


async def read_body(call: Call, cap_bytes: int) -> bytes:
    """The whole body of a JSON call, never more than the cap in memory.

    Raises MediaUnsupported, BodyTooLarge (before reading, where the length is announced), ClientGone.
    """
    check_media(call.headers)
    announced = call.headers.get(b"content-length", b"")
    if announced.isdigit() and int(announced[:20]) > cap_bytes:
        raise BodyTooLarge(cap_bytes)
    message = await call.receive()
    body: bytes = message.get("body", b"")
    chunks, size = [body], len(body)
    while message.get("more_body") and size <= cap_bytes:
        message = await call.receive()
        chunks.append(message.get("body", b""))
        size += len(chunks[-1])
    if size > cap_bytes:
        raise BodyTooLarge(cap_bytes)
    if message["type"] == "http.disconnect":
        raise ClientGone
    return body if len(chunks) == 1 else b"".join(chunks)


def check_media(headers: Mapping[bytes, bytes]) -> None:
    """Raises MediaUnsupported."""
    content_type = headers.get(b"content-type", b"")
    if content_type != JSON and not _is_json(content_type):
        raise MediaUnsupported("the content type must be application/json in UTF-8")
    if headers.get(b"content-encoding", b"identity").strip().lower() != b"identity":
        raise MediaUnsupported("a content encoding is not supported")


def _is_json(content_type: bytes) -> bool:
    kind, *parameters = content_type.lower().split(b";")
    charsets = [p.partition(b"=")[2].strip(b'" ') for p in parameters if p.strip().startswith(b"charset")]
    return kind.strip() == JSON and all(charset in (b"utf-8", b"utf8") for charset in charsets)
