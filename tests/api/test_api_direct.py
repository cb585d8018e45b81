"""The direct way and the ordinary way: the same bytes come back, in the same order, whatever is sent and whatever
happens meanwhile."""

from __future__ import annotations

import contextlib
import itertools
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from api_fakes import DRAWDOWN
from guarded_server import Caller, Guarded, call, draw, guarded_server, until
from hypothesis import given
from hypothesis import strategies as st

from decision_service.api.access import Access
from decision_service.api.direct import Head, HeadReader
from decision_service.api.keys import KeyFile, add_key
from decision_service.api.rate import RateLimit
from decision_service.core.errors import (
    Conflict,
    DeadlineExceeded,
    DecisionServiceError,
    Draining,
    NotReplicated,
    OutcomeUnknown,
    StoreUnavailable,
)

DRAW: Any = {**DRAWDOWN, "request_id": "r"}
BODY = orjson.dumps(DRAW)
LINE = b"POST /v1/decisions"
PAST = re.compile(rb"(?<=\r\ndate: )[^\r]*")  # differs from second to second
HEADER_BYTES_MAX, HEADERS_MAX, BODY_BYTES_MAX = 2_048, 20, 4_096
ROOM = HEADER_BYTES_MAX + len(BODY) - len(draw("r", b"X: "))  # bytes that a head may have besides


class NoHeads(HeadReader):
    """Knows no head: everything goes the ordinary way."""

    def read(self, data: bytes, again: bool = True) -> tuple[Head, int] | None:
        del data, again
        return None


class StoppedLimit(RateLimit):
    """A rate limit for which no time passes."""

    def take(self, name: str, now_s: float) -> tuple[bool, int, int]:
        """As ever."""
        del now_s
        return super().take(name, 0.0)


class Pair:
    """Two servers that are asked the same; the second one knows the ordinary way only."""

    def __init__(self, direct: Guarded, ordinary: Guarded) -> None:
        self.servers = (direct, ordinary)
        ordinary.gate.heads = NoHeads(0, 0)
        self.direct = 0
        answer_draw = direct.gate.answer_draw

        async def counted(*arguments: Any) -> None:
            self.direct += 1
            await answer_draw(*arguments)

        direct.gate.answer_draw = counted  # type: ignore[method-assign]

    def answers(self, *requests: bytes) -> list[bytes]:
        """What comes back from both, each request sent after the answer to the one before, on one connection."""
        first, second = (list(_answers(server, requests)) for server in self.servers)
        assert first == second
        return first

    def direct_in(self, *requests: bytes) -> int:
        """How many of them went the direct way, whose answers are the same as of the other."""
        before = self.direct
        self.answers(*requests)
        return self.direct - before


def _answers(server: Guarded, requests: tuple[bytes, ...]) -> Iterator[bytes]:
    with contextlib.closing(server.caller()) as caller:
        for request in (*requests, call(b"GET /livez")):
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                caller.send(request)
            yield PAST.sub(b"-", _raw(caller))


def _raw(caller: Caller) -> bytes:
    """The bytes of the next answer; none if the connection ended."""
    try:
        return caller.answer_raw()
    except (AssertionError, ConnectionResetError):
        return b""


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """Both over fakes, with small bounds."""
    values = {
        "deadline_ms_default": 5_000,
        "header_bytes_max": 2_048,
        "headers_max": 20,
        "decision_body_bytes_max": 4_096,
    }
    first, second = tmp_path_factory.mktemp("direct"), tmp_path_factory.mktemp("ordinary")
    with guarded_server(first, **values) as direct, guarded_server(second, **values) as ordinary:
        yield Pair(direct, ordinary)


PLAIN = {
    "a draw": draw("r"),
    "names in any letters": draw("r").replace(b"Content-Length", b"CONTENT-length").replace(b"Host", b"hOsT"),
    "no space behind the colon": draw("r").replace(b"Content-Length: ", b"Content-Length:"),
    "tabs": draw("r").replace(b"Content-Length: ", b"Content-Length:\t \t"),
    "leading zeros": draw("r").replace(b"Content-Length: ", b"Content-Length: 00"),
    "fields of its own": draw("r", b"User-Agent: x/1", b"Accept: */*", b"Traceparent: 00-1-2-01", b"Empty:"),
    "a connection that lives on": draw("r", b"Connection: keep-alive"),
    "a field twice": draw("r", b"X: 1", b"X: 2"),
    "its key": draw("r", b'Idempotency-Key: "r"'),
    "another key": draw("r", b"Idempotency-Key: s"),
    "two keys, of which the last one counts": draw("r", b"Idempotency-Key: s", b"Idempotency-Key: r"),
    "a charset": draw("r").replace(b"application/json", b"application/json; charset=UTF-8"),
    "another charset": draw("r").replace(b"application/json", b"application/json; charset=latin-1"),
    "another type": draw("r").replace(b"application/json", b"text/plain"),
    "no type": draw("r").replace(b"Content-Type", b"Content-Sort"),
    "a coding": draw("r", b"Content-Encoding: gzip"),
    "no coding": draw("r", b"Content-Encoding: identity"),
    "another host": draw("r").replace(b"127.0.0.1", b"example.org"),
    "no host": draw("r").replace(b"Host", b"Ghost"),
    "a length of 0": call(LINE),
    "no JSON": call(LINE, b"{"),
    "no object": call(LINE, b"[]"),
    "a key twice": call(LINE, b'{"request_id":"r","request_id":"r"}'),
    "NUL": call(LINE, BODY.replace(b'"r"', b'"\\u0000"')),
    "other bytes than UTF-8": call(LINE, BODY.replace(b'"r"', b'"\xff"')),
    "a field that is missing": call(LINE, BODY.replace(b'"customer_id"', b'"customer"')),
    "an unknown attribute": draw("r", attributes={"inquiry": 1}),
    "other content under the same id": draw("r", amount=1),
    "a review": draw("w", scene="renewal", amount=None, currency=None),
    "an unknown scene": draw("w", scene="renewals"),
    "a body over the cap": draw("r", purpose="x" * 5_000),
    "a body full of blanks": call(LINE, BODY + b" " * (BODY_BYTES_MAX - len(BODY))),
    "line ends in its body": call(LINE, BODY + b"\r\n\r\n"),
    "as many bytes of headers as may be": draw("r", b"X: " + b"x" * ROOM),
    "as many fields as may be": draw("r", *[b"X: x"] * 17),
}  # fmt: skip
ODD = {
    "one field too many": draw("r", *[b"X: x"] * 18),
    "a query": draw("r").replace(LINE, LINE + b"?a=b"),
    "a whole address": draw("r").replace(LINE, b"POST http://127.0.0.1/v1/decisions"),
    "an escape in the path": draw("r").replace(LINE, b"POST /v1/%64ecisions"),
    "a slash behind the path": draw("r").replace(LINE, LINE + b"/"),
    "another method": draw("r").replace(b"POST", b"PUT"),
    "a method in small letters": draw("r").replace(b"POST", b"post"),
    "HTTP/1.0": draw("r").replace(b"HTTP/1.1", b"HTTP/1.0"),
    "the last one": draw("r", b"Connection: close"),
    "an upgrade": draw("r", b"Connection: upgrade", b"Upgrade: websocket"),
    "an upgrade that is not meant": draw("r", b"Upgrade: h2c"),
    "a length in two fields": draw("r", b"Content-Length: 2"),
    "chunks and a length": draw("r", b"Transfer-Encoding: chunked"),
    "chunks": b"\r\n".join([LINE + b" HTTP/1.1", b"Host: 127.0.0.1", b"Content-Type: application/json",
                            b"Transfer-Encoding: chunked", b"", b"%x" % len(BODY), BODY, b"0", b"", b""]),
    "a blank behind the length": draw("r").replace(b"Content-Length", b"Content-Length: 0\t \r\nX"),
    "a folded field": draw("r", b"X: 1\r\n 2"),
    "a line end of another kind": draw("r").replace(b"\r\nContent-Type", b"\nContent-Type"),
    "a blank before the colon": draw("r").replace(b"Content-Length:", b"Content-Length :"),
    "a blank line before it": b"\r\n" + draw("r"),
    "a sign before the length": draw("r").replace(b"Content-Length: ", b"Content-Length: +"),
    "no length": draw("r").replace(b"Content-Length", b"Content-Lengths"),
}  # fmt: skip


@pytest.mark.fault("E09")
@pytest.mark.parametrize("name", PLAIN)
def test_a_plain_request_gets_the_same_bytes_the_direct_way(name: str, pair: Pair) -> None:
    """Whether its head is read for the first time or known from the request before."""
    request = PLAIN[name]
    if name == "a body over the cap":
        assert pair.direct_in(request) == 1
    else:
        assert pair.direct_in(request, request, draw("r"), request) == 4


@pytest.mark.fault("E09")
@pytest.mark.parametrize("name", ODD)
def test_what_is_not_plain_goes_the_ordinary_way(name: str, pair: Pair) -> None:
    """On a new connection and behind a request that went the direct way."""
    request = ODD[name]
    assert pair.direct_in(request) == 0
    assert pair.direct_in(draw("r"), request) == 1


def test_headers_that_differ_each_time_go_the_direct_way_too(pair: Pair) -> None:
    """However many there were before on the connection; equal ones among them, too."""
    requests = [draw("r", b"Traceparent: 00-%02d" % (i - i % 3)) for i in range(30)]
    assert pair.direct_in(*requests) == 30


@pytest.mark.parametrize("parts", [(1,), (40,), (-1,), (60, -20)])
def test_what_comes_in_parts_goes_the_ordinary_way(parts: tuple[int, ...], pair: Pair) -> None:
    """Its answer is the same, and the next request goes the direct way again."""
    request, before = draw("r"), pair.direct
    found = []
    for server in pair.servers:
        with contextlib.closing(server.caller()) as caller:
            cuts = [0, *(part % len(request) for part in parts), len(request)]
            for start, end in itertools.pairwise(cuts):
                caller.send(request[start:end])
                time.sleep(0.02)
            found.append([PAST.sub(b"-", _raw(caller)), PAST.sub(b"-", caller.ask_raw(request))])
    assert found[0] == found[1]
    assert found[0][0] == found[0][1]
    assert pair.direct == before + 1


@pytest.mark.parametrize(
    "raised",
    [
        StoreUnavailable("down"), OutcomeUnknown("lost"), NotReplicated("few"), DeadlineExceeded("late"),
        Draining("bye"), Conflict("old"), DecisionServiceError("internal"), ZeroDivisionError("a bug"),
    ],
    ids=lambda raised: type(raised).__name__,
)  # fmt: skip
def test_what_fails_is_told_in_the_same_words(raised: Exception, pair: Pair) -> None:
    """A bug, too; and the connection lives on."""
    for server in pair.servers:
        server.decisions.raises = raised
    try:
        assert pair.direct_in(draw("fails"), draw("fails")) == 2
    finally:
        for server in pair.servers:
            server.decisions.raises = None
            assert server.gate.admission.here == server.gate.admission.coming == 0
            assert server.gate.admission.under_way == [0, 0, 0]
    assert pair.direct_in(draw("fails")) == 1


def test_credentials_scopes_reach_and_rate_are_asked_alike(tmp_path: Path) -> None:
    """Each of 40 calls of five callers gets the same answer both ways: 200, 401, 403 and 429 with their headers."""
    path = tmp_path / "keys.json"
    keys = [
        add_key(path, "bank", ["decide"]), add_key(path, "reader", ["read"]), add_key(path, "chief", ["admin"]),
        add_key(path, "branch", ["decide"], customers=["retail-*"]), "dsk_unknown",
    ]  # fmt: skip
    values: dict[str, Any] = {"keys_file": path, "deadline_ms_default": 5_000}
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    with (
        guarded_server(tmp_path / "a", Access(KeyFile(path)), **values) as direct,
        guarded_server(tmp_path / "b", Access(KeyFile(path)), **values) as ordinary,
    ):
        pair = Pair(direct, ordinary)
        for server in pair.servers:
            server.gate._rate = StoppedLimit(1, 5)
        statuses = set()
        for key in keys:
            request = draw("r", b"Authorization: Bearer " + key.encode())
            statuses |= {answer.split(b" ")[1] for answer in pair.answers(*[request] * 8)[:-1]}
        assert pair.direct == 8 * len(keys)
        pair.answers(draw("r"), draw("r", b"Authorization: Basic eDp5"), draw("r", b"Authorization: bearer"))
        assert statuses == {b"200", b"401", b"403", b"429"}


def test_both_ways_count_alike(tmp_path: Path) -> None:
    """Requests by status, decisions and what is in flight."""
    pages = []
    for directory in (tmp_path / "a", tmp_path / "b"):
        directory.mkdir()
        with guarded_server(directory, deadline_ms_default=5_000) as server:
            if directory.name == "b":
                server.gate.heads = NoHeads(0, 0)
            with contextlib.closing(server.caller()) as caller:
                for request in (draw("1"), draw("1"), draw("1", amount=7), draw("2")):
                    caller.ask(request)
            until(lambda server=server: server.gate.admission.here == 0)  # type: ignore[misc]
            pages.append([line for line in server.page().splitlines() if re.match(r"[^#]*(requests|decisions)_", line)])
    assert pages[0] == pages[1]
    assert any('status="422"} 1.0' in line for line in pages[0])


# --- what happens meanwhile -------------------------------------------------------------------------------------------


def test_what_is_sent_while_a_draw_is_answered_has_its_turn_afterwards(tmp_path: Path) -> None:
    """Answers come in the order of the requests: of draws, of others, of one that is cut in two, and of the last."""
    with guarded_server(tmp_path, deadline_ms_default=5_000) as server, contextlib.closing(server.caller()) as caller:
        barrier = server.hold()
        caller.send(draw("first"))
        until(lambda: server.gate.admission.under_way[0] == 1)
        caller.send(draw("second") + call(b"GET /livez") + draw("third")[:50])
        time.sleep(0.05)
        caller.send(draw("third")[50:])
        caller.send(draw("fourth"))
        caller.send(draw("fifth", b"Connection: close"))
        time.sleep(0.05)
        barrier.opened.set()
        bodies = [orjson.loads(caller.answer()[2]) for _ in range(6)]
        assert [body.get("request_id", "livez") for body in bodies] == [
            "first", "second", "livez", "third", "fourth", "fifth"
        ]  # fmt: skip
        assert caller.ended()


@pytest.mark.fault("D19")
def test_who_hangs_up_while_a_draw_is_answered_leaves_nothing(tmp_path: Path) -> None:
    """The draw ends as ever, what was held is forgotten, others are answered."""
    with guarded_server(tmp_path, deadline_ms_default=5_000) as server:
        barrier = server.hold()
        callers = [server.caller() for _ in range(3)]
        for i, caller in enumerate(callers):
            caller.send(draw(f"gone-{i}"))
        until(lambda: server.gate.admission.under_way[0] == 3)
        callers[0].send(draw("held"))
        time.sleep(0.02)
        for caller in callers:
            caller.close()
        barrier.opened.set()
        until(lambda: server.gate.connections.open == 0 and server.gate.admission.here == 0)
        assert server.gate.admission.under_way == [0, 0, 0]
        assert server.gate.admission.coming == 0
        with contextlib.closing(server.caller()) as other:
            assert other.ask(draw("after"))[0] == 200


@pytest.mark.parametrize("held", [False, True])
def test_a_draw_under_way_at_the_end_is_answered_and_told_to_close(held: bool, tmp_path: Path) -> None:
    """So is what its caller sent meanwhile, before the connection ends; one that waits for nothing ends at once."""
    with guarded_server(tmp_path, deadline_ms_default=5_000) as server:
        caller, idle = server.caller(), server.caller()
        with contextlib.closing(caller), contextlib.closing(idle):
            assert idle.ask(draw("idle"))[0] == 200
            barrier = server.hold()
            caller.send(draw("first"))
            until(lambda: server.gate.admission.under_way[0] == 1)
            if held:
                caller.send(draw("second"))
                time.sleep(0.05)
            server.stop()
            assert idle.ended()
            barrier.opened.set()
            for name in ("first", "second") if held else ("first",):
                status, headers, body = caller.answer()
                assert (status, orjson.loads(body)["request_id"]) == (200, name)
            assert headers["connection"] == "close"
            assert caller.ended()


def test_an_idle_connection_ends_after_its_time_and_no_sooner(tmp_path: Path) -> None:
    """Draws of the direct way do not make a timer anew each, but the time runs from the last one."""
    with guarded_server(tmp_path, keep_alive_s=1, deadline_ms_default=5_000) as server:
        caller = server.caller()
        for i in range(4):
            assert caller.ask(draw(f"r-{i}"))[0] == 200
            time.sleep(0.4)
        last = time.monotonic()
        assert caller.ask(draw("last"))[0] == 200
        assert caller.ended()
        assert time.monotonic() - last > 0.9
        caller.close()


@pytest.mark.fault("E08")
def test_draws_whose_answers_nobody_takes_end_their_connection(tmp_path: Path) -> None:
    """Answers wait until their caller reads, for as long as it may take; what it sends meanwhile is not read."""
    with guarded_server(tmp_path, write_timeout_ms=300, deadline_ms_default=5_000) as server:
        server.decisions.filler = b" " * 400_000
        with contextlib.closing(server.caller()) as caller:
            caller.send(b"".join(draw(f"r-{i}") for i in range(50)))
            until(lambda: server.gate.connections.open == 0 and server.gate.admission.here == 0)
            assert len(server.decisions.asked) < 50


# --- heads ------------------------------------------------------------------------------------------------------------


def reader() -> HeadReader:
    """With the default bounds."""
    return HeadReader(16_384, 100)


@pytest.mark.fault("E09")
@given(at=st.integers(0, len(draw("r"))), cut=st.integers(0, 3), put=st.binary(max_size=4))
def test_a_head_is_known_only_if_the_parser_says_the_same(at: int, cut: int, put: bytes) -> None:
    """Whatever bytes are changed: a request is of a known head only if llhttp reads the same headers but the length,
    and the same body."""
    request = draw("r", b"Connection: keep-alive").replace(b"\r\n\r\n", b"\r\nAuthorization: Bearer x\r\n\r\n")
    found = reader().read(request)
    assert found is not None
    head, changed = found[0], request[:at] + put + request[at + cut :]
    body_at = head.body_at(changed)
    if body_at:
        again = reader().read(changed)
        assert again is not None
        headers = again[0].headers
        length = int(headers[b"content-length"])
        assert {**headers, b"content-length": b""} == {**head.headers, b"content-length": b""}
        assert changed[body_at:] == changed[len(changed) - length :]


@pytest.mark.fault("E09")
def test_every_field_before_and_behind_the_length_counts(pair: Pair) -> None:
    """Other credentials or another key on the same connection are not taken for those of the request before."""
    before = draw("r", b"Idempotency-Key: r")
    behind = draw("r").replace(b"\r\n\r\n", b"\r\nIdempotency-Key: r\r\n\r\n")
    for request in (before, behind):
        answers = pair.answers(request, request.replace(b"Key: r", b"Key: s"), request)
        assert [answer[9:12] for answer in answers[:3]] == [b"200", b"422", b"200"]


def test_a_reader_forgets_what_was_no_whole_request() -> None:
    """The next one begins anew."""
    made, request = reader(), draw("r")
    for odd in (request[:-1], request + b"P", request * 2, b"POST /v1/decisions HTTP/1.1\r\n\r\n\r\n", request[:-9]):
        assert made.read(odd) is None
        assert made.read(request) is not None
