"""Replay: a file of timed events, sent one by one as drawdowns through the service's real HTTP API.

    drawdowns in file order -> lanes (by customer) -> PUT facility once, POST decision, GET trace -> rows

A customer always goes through the same lane, and a lane waits for each answer, so a customer's drawdowns
are decided in file order however many lanes there are. Reading runs at most `LANE_WAITING_MAX` drawdowns a
lane ahead of deciding, so memory does not grow with the file. Every `request_id` follows from the row's
number: a replay that is started again gets the answers it got before, and a lost connection is made good by
asking again.

What a file cannot tell about the line, `Line` gives. Instants in ms UTC, money in major units as the API
takes it.
"""

from __future__ import annotations

import asyncio
import zlib
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import quote

from decision_service.core.limits import DAY_MS
from decision_service.core.money import EXPONENTS
from decision_service.http_client import Client, ConnectionLost, Response

LANE_WAITING_MAX: Final = 64
ATTEMPTS_MAX: Final = 8  # of one request whose connection was lost or that the service was too busy for
ATTEMPT_PAUSE_S: Final = 0.25
DEADLINE_MS: Final = 5_000  # a replay asks for decisions, not for speed


@dataclass(frozen=True, slots=True)
class Drawdown:
    """One row of the file. `place` is latitude and longitude in degrees."""

    row: int
    customer_id: str
    occurred_at_ms: int
    amount: float
    counterparty_id: str | None = None
    place: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class Line:
    """The credit line every customer of the replay gets."""

    limit: float = 1_000_000.0
    currency: str = "CNY"
    product: str = "replay"
    apr: float = 0.18
    age_days: int = 400  # granted this long before the customer's first drawdown


@dataclass(frozen=True, slots=True)
class Decided:
    """One answer with the features asked for, or the problem in its place."""

    drawdown: Drawdown
    status: int
    answer: Mapping[str, Any]
    features: Mapping[str, float | None] = field(default_factory=dict)

    def as_row(self) -> dict[str, Any]:
        """A flat row for a table."""
        answer = self.answer if self.status == 200 else {}
        return {
            "row": self.drawdown.row,
            "customer_id": self.drawdown.customer_id,
            "occurred_at_ms": self.drawdown.occurred_at_ms,
            "amount": self.drawdown.amount,
            "status": self.status,
            "decision": answer.get("decision"),
            "approved_amount": answer.get("approved_amount"),
            "reasons": ",".join(reason["code"] for reason in answer.get("reasons", ())),
            "rung": answer.get("rung"),
            "latency_ms": answer.get("latency_ms"),
            "decision_id": answer.get("decision_id"),
            "problem": None if self.status == 200 else str(self.answer.get("detail", "")),
            **self.features,
        }


@dataclass(slots=True)
class Tally:
    """What a replay did so far."""

    sent: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    asked_again: int = 0

    def count(self, decided: Decided) -> None:
        """Take one more answer into account."""
        self.sent += 1
        self.outcomes[decided.answer["decision"] if decided.status == 200 else "rejected"] += 1


class Replay:
    """Sends drawdowns to the service at `url` and hands every answer to `take`, as they come."""

    def __init__(
        self,
        url: str,
        take: Callable[[Decided], None],
        *,
        line: Line,
        lanes: int,
        features: Sequence[str] = (),
        bearer: str | None = None,
        prefix: str = "replay",
    ) -> None:
        self.tally = Tally()
        self._url, self._bearer = url, bearer
        self._take = take
        self._line = line
        self._lanes = lanes
        self._features = tuple(features)
        self._prefix = prefix

    async def run(self, drawdowns: Iterable[Drawdown]) -> Tally:
        """Replay all of them. Raises ConnectionLost if the service stays away, ReplayRefused if it will not."""
        try:
            async with self._open_lanes() as waiting:
                for drawdown in drawdowns:
                    await waiting[zlib.crc32(drawdown.customer_id.encode()) % self._lanes].put(drawdown)
        except ExceptionGroup as group:
            raise group.exceptions[0] from None
        return self.tally

    @asynccontextmanager
    async def _open_lanes(self) -> AsyncIterator[list[asyncio.Queue[Drawdown | None]]]:
        waiting: list[asyncio.Queue[Drawdown | None]] = [asyncio.Queue(LANE_WAITING_MAX) for _ in range(self._lanes)]
        async with asyncio.TaskGroup() as group:
            for queue in waiting:
                group.create_task(self._lane(queue))
            yield waiting
            for queue in waiting:
                await queue.put(None)

    async def _lane(self, waiting: asyncio.Queue[Drawdown | None]) -> None:
        known: set[str] = set()
        async with Client(self._url, self._bearer) as client:
            while (drawdown := await waiting.get()) is not None:
                if drawdown.customer_id not in known:
                    await self._put_facility(client, drawdown)
                    known.add(drawdown.customer_id)
                decided = await self._decide(client, drawdown)
                self.tally.count(decided)
                self._take(decided)

    async def _put_facility(self, client: Client, first: Drawdown) -> None:
        response = await self._call(
            client, "PUT", f"/v1/facilities/{quote(facility_id(first), safe='')}", self._facility(first)
        )
        if response.status >= 300:
            raise ReplayRefused(f"the facility of {first.customer_id} was refused: {response.body.decode()}")

    def _facility(self, first: Drawdown) -> dict[str, Any]:
        line = self._line
        granted_at = instant(first.occurred_at_ms - line.age_days * DAY_MS)
        return {
            "customer_id": first.customer_id, "product": line.product, "currency": line.currency,
            "limit": line.limit, "outstanding": 0, "as_of": granted_at, "apr": line.apr, "status": "active",
            "granted_at": granted_at,
        }  # fmt: skip

    async def _decide(self, client: Client, drawdown: Drawdown) -> Decided:
        response = await self._call(client, "POST", "/v1/decisions", self._request(drawdown))
        answer = response.json()
        if response.status != 200 or not self._features:
            return Decided(drawdown, response.status, answer)
        stored = await self._call(client, "GET", f"/v1/decisions/{answer['decision_id']}")
        seen = stored.json()["trace"]["features"]
        return Decided(drawdown, 200, answer, {name: seen[name]["value"] for name in self._features})

    def _request(self, drawdown: Drawdown) -> dict[str, Any]:
        place = drawdown.place
        return {
            "request_id": f"{self._prefix}-{drawdown.row}",
            "customer_id": drawdown.customer_id,
            "facility_id": facility_id(drawdown),
            # A file's binary fraction (396.70000000000005) is the decimal it was written as.
            "amount": round(drawdown.amount, EXPONENTS[self._line.currency]),
            "currency": self._line.currency,
            "occurred_at": instant(drawdown.occurred_at_ms),
            "deadline_ms": DEADLINE_MS,
            **({"counterparty_id": drawdown.counterparty_id} if drawdown.counterparty_id else {}),
            **({"geo": {"lat": place[0], "lon": place[1]}} if place else {}),
        }

    async def _call(self, client: Client, method: str, path: str, body: object = None) -> Response:
        """One call, repeated while the service is away or too busy; every call of a replay may be."""
        for attempt in range(1, ATTEMPTS_MAX + 1):
            try:
                response = await client.call(method, path, body)
                if response.status not in (429, 503) or attempt == ATTEMPTS_MAX:
                    return response
            except ConnectionLost:
                if attempt == ATTEMPTS_MAX:
                    raise
            self.tally.asked_again += 1
            await asyncio.sleep(ATTEMPT_PAUSE_S * attempt)
        raise AssertionError("the last attempt returns or raises")


class ReplayRefused(Exception):
    """The service refuses what every replay needs; the message is its own."""


def facility_id(drawdown: Drawdown) -> str:
    """The one facility of a drawdown's customer."""
    return f"f-{drawdown.customer_id}"[:128]


def instant(ms: int) -> str:
    """An instant as RFC 3339 in UTC."""
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
