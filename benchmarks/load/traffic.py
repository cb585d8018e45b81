"""Traffic: an endless, seeded stream of HTTP requests about a population, rendered as bytes.

Whose: all customers alike, or zipf. What: a mix of operations by weight. Each decision, preview and event has an id of
its own; amounts, places and payees vary, four of five draws come from the customer's usual device, one in a hundred
from one never seen, one in fifty goes to a payee never seen. A draw is of now, whatever the hour: histories are spread
over all hours.

    decision   POST /v1/decisions                    a long deadline (a setting), so that slowness shows as latency and
    preview    POST /v1/decisions/preview            is not cut off as a static answer
    event      POST /v1/events                       one event
    read       GET  a facility, two features, or a decision made a while ago

Rendering costs about 4 us a request; the generator does it before the clock starts.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np

from decision_service.core.limits import PARTITIONS
from decision_service.replay import instant
from decision_service.store.keys import decision_id_of
from load.population import Population
from load.zipf import Zipf

OPERATIONS: Final = ("decision", "preview", "event", "read")
DECISIONS_ONLY: Final = (1.0, 0.0, 0.0, 0.0)
MIXED: Final = (0.60, 0.20, 0.15, 0.05)
DEADLINE_MS: Final = 5_000
AMOUNTS: Final = (99.5, 120.0, 260.5, 480.0, 735.25, 900.0, 1_320.0, 2_480.0)
EVENT_KINDS: Final = ("purchase", "repayment", "login")
READ_AGAIN_AFTER: Final = 1_000  # decisions later one is surely stored
FEATURES_READ: Final = "vel_req_cnt_10m,vel_req_cnt_1h"

_HEAD: Final = b"POST %b HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b"
_GET: Final = "GET %s HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n"
_DRAW: Final = (
    '{"request_id":"%s","customer_id":"%s","facility_id":"%s","amount":%s,"currency":"CNY","channel":"%s",'
    '"device_id":"%s","counterparty_id":"%s","purpose":"consumption",'
    '"geo":{"lat":31.2%05d,"lon":121.4%05d,"accuracy_m":20},"term_months":12,"deadline_ms":%d}'
)
_EVENT: Final = (
    '{"events":[{"event_id":"%s","customer_id":"%s","facility_id":"%s","kind":"%s","amount":%s,"currency":"CNY",'
    '"occurred_at":"%s","channel":"app","device_id":"%s","counterparty_id":"%s"}]}'
)
Rendered = tuple[list[bytes], list[int]]


@dataclass(frozen=True, slots=True)
class Traffic:
    """A stream; `name` makes its ids differ from those of every other stream into the same store."""

    name: str
    population: Population
    mix: tuple[float, ...] = DECISIONS_ONLY
    skew: float = 0.0  # exponent of the zipf law; 0: all customers alike
    deadline_ms: int = DEADLINE_MS
    seed: int = 11
    partitions: int = PARTITIONS

    def stream(self) -> Stream:
        """The stream from its beginning."""
        return Stream(self)


class Stream:
    """Renders requests."""

    def __init__(self, traffic: Traffic) -> None:
        self._traffic = traffic
        self._rng = np.random.default_rng(traffic.seed)
        self._whose = Zipf(traffic.population.customers, traffic.skew, traffic.seed)
        self._number = 0
        self._decided: deque[tuple[str, str]] = deque(maxlen=READ_AGAIN_AFTER)

    def take(self, count: int) -> Rendered:
        """The next requests, and the index of each one's operation."""
        rng, population, mix = self._rng, self._traffic.population, self._traffic.mix
        operations = np.searchsorted(np.cumsum(mix), rng.random(count) * sum(mix), side="right").tolist()
        columns = (
            operations,
            self._whose.draw(count).tolist(),
            rng.integers(0, len(AMOUNTS), count).tolist(),
            rng.choice(3, count, p=(0.79, 0.20, 0.01)).tolist(),
            rng.integers(0, population.payees + population.payees // 50, count).tolist(),
            rng.integers(0, 100_000, (count, 2)).tolist(),
        )
        return [self._render(*row) for row in zip(*columns, strict=True)], operations

    def __iter__(self) -> Iterator[tuple[bytes, int]]:
        while True:
            yield from zip(*self.take(256), strict=True)

    def _render(self, operation: int, who: int, amount: int, device: int, payee: int, place: list[int]) -> bytes:
        traffic, population = self._traffic, self._traffic.population
        self._number += 1
        number = self._number
        own_id = f"{traffic.name}-{number:08d}"
        customer_id, facility_id = population.customer_id(who), population.facility_id(who)
        if operation == 3:
            return self._read(who)
        device_id = population.device_id(who, device if device < 2 else number)
        payee_id = population.payee_id(payee if payee < population.payees else 1_000_000 + number)
        if operation == 2:
            event = _EVENT % (
                own_id, customer_id, facility_id, EVENT_KINDS[number % len(EVENT_KINDS)], AMOUNTS[amount],
                instant(time.time_ns() // 1_000_000), device_id, payee_id,
            )  # fmt: skip
            return _HEAD % (b"/v1/events", len(event), event.encode())
        draw = _DRAW % (
            own_id, customer_id, facility_id, AMOUNTS[amount], "app" if number % 4 else "web", device_id, payee_id,
            *place, traffic.deadline_ms,
        )  # fmt: skip
        if operation == 1:
            return _HEAD % (b"/v1/decisions/preview", len(draw), draw.encode())
        if traffic.mix[3]:
            self._decided.append((customer_id, own_id))
        return _HEAD % (b"/v1/decisions", len(draw), draw.encode())

    def _read(self, who: int) -> bytes:
        population, which = self._traffic.population, self._number % 3
        if which == 0 and len(self._decided) == READ_AGAIN_AFTER:
            path = f"/v1/decisions/{decision_id_of(*self._decided[0], self._traffic.partitions)}"
        elif which == 1:
            path = f"/v1/customers/{population.customer_id(who)}/features?names={FEATURES_READ}"
        else:
            path = f"/v1/facilities/{population.facility_id(who)}"
        return (_GET % path).encode()
