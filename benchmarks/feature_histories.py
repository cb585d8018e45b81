"""Histories to measure the feature kernel on: a usual one of any length, and the worst ones of a full log.

A usual history is what a service in production holds: draws (most of them settled later by a record of their own),
repayments and dues of single loans, overdue notices, purchases, logins, changes of credentials; one record in twenty
arrives late, so the log is not in order. The worst ones are built to defeat whatever makes the usual case fast.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from decision_service.core.event import (
    BOOKED,
    CANCELLED,
    FAILED,
    KINDS,
    Event,
    Geo,
    Words,
    device_key,
    facility_key,
    header,
    words_of,
)
from decision_service.core.limits import DAY_MS, HOUR_MS

T_MS: Final = 1_790_000_000_000
LINE: Final = facility_key("f")
_KINDS: Final = (
    *["drawdown"] * 9, *["repayment"] * 3, "due", "due", "overdue", "purchase", "purchase", "login", "login",
    "credential_change", "contact_change",
)  # fmt: skip
_STATUSES: Final = (1, 1, 1, 2, 2, 2, 3, 4)
_SETTLED: Final = (BOOKED, BOOKED, BOOKED, BOOKED, FAILED, CANCELLED)
_AMOUNTS: Final = (50_000, 100_000, 100_000, 200_000, 499_900, 500_000)


def _event(rng: random.Random, key: int, at: int, kind: str) -> Event:
    draw = kind == "drawdown"
    place = Geo(31_000_000 + rng.randrange(900_000), 121_000_000 + rng.randrange(900_000), 3)
    return Event(
        key, KINDS[kind], rng.choice(_STATUSES) if draw else BOOKED, at,
        0 if kind in ("login", "due") else rng.choice(_AMOUNTS) if rng.random() < 0.5 else rng.randrange(1, 10**6),
        float(rng.randrange(1, 40)) if kind == "overdue" else float("nan"), rng.randrange(1, 4), LINE,
        device_key(f"d{rng.randrange(3)}"), rng.randrange(1, 30) if draw else 0, rng.randrange(5),
        place if rng.random() < 0.6 else None,
    )  # fmt: skip


def usual_events(n: int, seed: int = 7) -> list[Event]:
    """`n` records of the last 400 days in recorded order."""
    rng = random.Random(seed)
    instants = sorted(T_MS - rng.randrange(400 * DAY_MS) for _ in range(n))
    events: list[Event] = []
    open_draws: list[Event] = []
    for key, at in enumerate(instants, 1):
        if open_draws and rng.random() < 0.2:
            draw = open_draws.pop(rng.randrange(len(open_draws)))
            events.append(Event(key, KINDS["drawdown"], rng.choice(_SETTLED), at, settles=draw.key, facility=LINE))
            continue
        late = rng.randrange(3 * DAY_MS) if rng.random() < 0.05 else 0
        event = _event(rng, key, at - late, rng.choice(_KINDS))
        if event.kind == KINDS["drawdown"]:
            open_draws.append(event)
        elif event.kind == KINDS["repayment"] and open_draws:
            event = replace(event, settles=rng.choice(open_draws).key)
        events.append(event)
    return events


def _draws(n: int) -> list[Event]:
    rng = random.Random(11)
    step = 400 * DAY_MS // max(n, 1)
    draws = [_event(rng, k + 1, T_MS - (n - k) * step, "drawdown") for k in range(n)]
    return [replace(draw, status=BOOKED) for draw in draws]


def _settled_backwards(n: int) -> list[Event]:
    draws = _draws(n // 2)
    return [
        *draws,
        *(Event(n + k, KINDS["drawdown"], FAILED, T_MS - HOUR_MS, settles=d.key) for k, d in enumerate(draws[::-1])),
    ]


WORST: Final[dict[str, Callable[[int], list[Event]]]] = {
    "all draws": _draws,
    "all in one millisecond": lambda n: [replace(d, occurred_at_ms=T_MS - 1) for d in _draws(n)],
    "all in the last hour": lambda n: [replace(d, occurred_at_ms=T_MS - n + k) for k, d in enumerate(_draws(n))],
    "all of one amount": lambda n: [replace(d, amount_minor=10_000) for d in _draws(n)],
    "all amounts different": lambda n: [replace(d, amount_minor=10**13 // (k + 1)) for k, d in enumerate(_draws(n))],
    "all payees different": lambda n: [replace(d, counterparty=(k + 1) << 20) for k, d in enumerate(_draws(n))],
    "recorded backwards": lambda n: _draws(n)[::-1],
    "settled backwards": _settled_backwards,
}


def packed(events: list[Event]) -> Words:
    """The log of these records."""
    return words_of(header() + b"".join(event.pack() for event in events))
