"""Shedding: the cheapest possible "too busy", for requests that admission will not let in.

Under overload most of what arrives has to be refused, and every microsecond of that is taken from those that are let
in. So a request is refused as it lies in the bytes that were read, before any parser, task or check of who asks, with
an answer made beforehand. That is done only for a request that is plainly whole in one read and plainly ends there
(method and path that are known, one content-length that fits exactly or no body, nothing about transfer or connection);
anything else goes the ordinary way, and the gate asks admission again. A refused request was not looked into: it costs
its caller no token of the rate limit and tells nobody anything.
"""

from __future__ import annotations

from time import perf_counter
from typing import Final

from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from decision_service.admission import RETRY_AFTER_S, Admission, Rank
from decision_service.api.problems import problem_of
from decision_service.api.refusals import TooBusy
from decision_service.api.routes import DECIDE_PATH
from decision_service.core.limits import DEADLINE_MS_MAX
from decision_service.telemetry import Meters

DECIDE_LINE: Final = b"POST %b " % DECIDE_PATH.encode()
PREVIEW_LINE: Final = b"POST %b/preview " % DECIDE_PATH.encode()
ALWAYS_IN: Final = frozenset({"/livez", "/readyz", "/metrics"})
API_LINES: Final = tuple(b"%b /v1/" % method for method in (b"GET", b"POST", b"PUT", b"DELETE"))
BUSY_TEXT: Final = "too many requests: try again a little later"
_DEADLINE: Final = b'"deadline_ms"'
_LENGTH: Final = b"\r\ncontent-length:"
_ODD: Final = (b"transfer-encoding", b"\r\nexpect:", b"\r\nconnection:", b"\r\nupgrade:", b"\r\n ", b"\r\n\t")
Headers = list[tuple[bytes, bytes]]


class Caller:
    """Who spoke last on a connection, as far as it turned out; the gate fills it in."""

    __slots__ = ("name",)

    def __init__(self) -> None:
        self.name: str | None = None


class Shedding:
    """Refuses for one worker what its admission does not let in."""

    def __init__(self, admission: Admission, meters: Meters, decide_label: str) -> None:
        self.admission = admission
        self._meters = meters
        self._decide_label = decide_label
        self._replies: list[bytes] = []
        self._closing: list[bytes] = []
        self._made_of: Headers | None = None

    def refusal(self, data: bytes, came: float, caller: Caller, default_headers: Headers) -> bytes | None:
        """The answer to a request that must not be let in; empty if it may, None if that cannot be told here: it is
        not plainly one whole request of a known rank."""
        rank = rank_of_line(data)
        if rank is None:
            return None
        admission = self.admission
        if rank is not Rank.DRAW:
            if not admission.full() and not admission.sheds_behind(rank):
                return b""
            body_at = whole_request(data)
        else:
            age_s = perf_counter() - came
            if not admission.full() and not admission.sheds_draw(caller.name, age_s, admission.budget_s):
                return b""
            body_at = whole_request(data)
            told_s = hinted_budget_s(data, body_at) if body_at else 0.0
            roomy = told_s > admission.budget_s and not admission.full()
            if roomy and not admission.sheds_draw(caller.name, age_s, told_s):
                return b""
        if not body_at:
            return None
        self._meters.count_request(self._decide_label if rank is Rank.DRAW else "other", 503)
        self._meters.count_shed(rank)
        return self._reply(self._replies, default_headers)

    def farewell(self, default_headers: Headers) -> bytes:
        """The answer to a connection beyond those there may be."""
        return self._reply(self._closing, default_headers)

    def _reply(self, replies: list[bytes], default_headers: Headers) -> bytes:
        if default_headers is not self._made_of:  # the server makes them anew once a second, with the date
            self._made_of = default_headers
            self._replies[:] = [_busy_reply(s, default_headers) for s in RETRY_AFTER_S]
            close = [*default_headers, (b"connection", b"close")]
            self._closing[:] = [_busy_reply(s, close) for s in RETRY_AFTER_S]
        return replies[self.admission.retry_after_s() - RETRY_AFTER_S[0]]


def _busy_reply(retry_after_s: int, default_headers: Headers) -> bytes:
    status, body, headers = problem_of(TooBusy(BUSY_TEXT, retry_after_s))
    lines = [STATUS_LINE[status]]
    for name, value in default_headers + headers:
        lines += [name, b": ", value, b"\r\n"]
    return b"".join((*lines, b"content-length: %d\r\n\r\n" % len(body), body))


def rank_of_line(data: bytes) -> Rank | None:
    """The rank by the request line; None for what is always let in, and for what is no call of ours."""
    if data.startswith(DECIDE_LINE):
        return Rank.DRAW
    if data.startswith(PREVIEW_LINE):
        return Rank.PREVIEW
    return Rank.OTHER if data.startswith(API_LINES) else None


def rank_of(method: str, path: str) -> Rank | None:
    """The same by method and path: None for probes and metrics."""
    if path == DECIDE_PATH and method == "POST":
        return Rank.DRAW
    if path == DECIDE_PATH + "/preview":
        return Rank.PREVIEW
    return None if path in ALWAYS_IN else Rank.OTHER


def whole_request(data: bytes) -> int:
    """Where the body begins if these bytes are plainly one whole HTTP/1.1 request and nothing else; else 0."""
    end = data.find(b"\r\n\r\n")
    if end < 0:
        return 0
    head = data[: end + 2].lower()
    if not head[: head.find(b"\r\n")].endswith(b" http/1.1") or any(word in head for word in _ODD):
        return 0
    if head.count(b"\n") != head.count(b"\r\n"):
        return 0
    body_bytes = len(data) - end - 4
    at = head.find(_LENGTH)
    if at < 0:
        return end + 4 if body_bytes == 0 and data.startswith(b"GET") else 0
    told = head[at + len(_LENGTH) : head.find(b"\r\n", at + 2)].strip()
    if not told.isdigit() or len(told) > 9 or int(told) != body_bytes or head.find(_LENGTH, at + 2) >= 0:
        return 0
    return end + 4


def hinted_budget_s(data: bytes, body_at: int) -> float:
    """The `deadline_ms` that the body seems to name, in seconds; 0 for none. A hint only: nothing was parsed, and who
    writes it elsewhere could as well write it where it belongs."""
    at = data.find(_DEADLINE, body_at)
    if at < 0:
        return 0.0
    told = data[at + len(_DEADLINE) : at + len(_DEADLINE) + 16].lstrip(b" \t\r\n:")
    digits = told[: len(told) - len(told.lstrip(b"0123456789"))]
    return min(int(digits), DEADLINE_MS_MAX) / 1000 if digits else 0.0
