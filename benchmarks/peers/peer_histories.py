"""Customers of the peers' benchmark: a line and a year of ordinary and less ordinary life, and requests to draw.

Two crowds, both seeded. `Mixed` is for checking answers: histories of 0 to 240 events of every kind, with draws held,
failed and cancelled, repayments that bounced, arrears, credentials changed an hour ago, lines expired, frozen, nearly
used up or two days old; requests that follow each other within seconds, at night, for a little or for ten times the
usual; and settlements of what was approved. `Plain` is for measuring: 200 events each, large lines, small draws.

Everything is in the words of this service's API, which the stack takes as well.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from decision_service.core.limits import DAY_MS, HOUR_MS, MINUTE_MS, SECOND_MS
from decision_service.replay import instant

KINDS: Final = (
    *["drawdown"] * 10, *["repayment"] * 5, *["purchase"] * 5, *["login"] * 6, *["transfer_in"] * 3, "due", "due",
    "overdue", "inquiry", "contact_change", "credential_change", "touch", "touch", "other", "other",
)  # fmt: skip
MONEY: Final = ("drawdown", "repayment", "purchase", "transfer_in", "due", "overdue")
DRAWS_MAX: Final = 8  # requests of a mixed customer
DRAW_STATUSES: Final = (*["booked"] * 12, *["held"] * 3, "failed", "cancelled", "approved")


@dataclass(frozen=True, slots=True)
class Customer:
    """A customer and the line it draws on."""

    number: int
    line: dict[str, Any]
    events: list[dict[str, Any]]

    @property
    def customer_id(self) -> str:
        """Its id."""
        return f"p-{self.number}"

    @property
    def facility_id(self) -> str:
        """Its line's id."""
        return f"pf-{self.number}"


def mixed(number: int, now_ms: int) -> Customer:
    """A customer of whom much may be wrong. Its line was last told about ten days before it asks, and nothing is
    recorded after that."""
    rng = random.Random(f"mixed {number}")
    now_ms = asks_until_ms(number, now_ms)
    events = rng.choice((0, 1, 3, 12, 60, 120, 240))
    limit = rng.choice((3_000, 12_000, 30_000, 80_000))
    troubled = rng.random() < 0.2
    oldest_d = 1.2 if rng.random() < 0.08 else rng.choice((20, 90, 360))
    line = _line(
        number, now_ms, limit, round(limit * rng.choice((0, 0.05, 0.1, 0.3, 0.7)), 2), as_of_ms=now_ms - 10 * DAY_MS,
        status="frozen" if rng.random() < 0.03 else "active",
        granted_ms=now_ms - int(rng.choice((oldest_d + 5, oldest_d + 0.2, 700)) * DAY_MS),
        expires_ms=rng.choice((*[None] * 8, *[now_ms + 90 * DAY_MS] * 7, now_ms - DAY_MS)),
        reviewed_ms=rng.choice((*[None] * 4, *[now_ms - 30 * DAY_MS] * 11, now_ms - 400 * DAY_MS)),
        days_past_due=rng.choice((None, *[0] * 10, 2, 9)) if troubled else 0,
    )  # fmt: skip
    return Customer(number, line, [
        _event(rng, number, i, at_ms, limit / 60, troubled)
        for i, at_ms in enumerate(_instants(rng, events, oldest_d, now_ms, DRAWS_MAX * _step_ms(number)))
    ])  # fmt: skip


def asks_until_ms(number: int, now_ms: int) -> int:
    """When a mixed customer asks for the last time: some of them at night."""
    return now_ms - random.Random(f"asks {number}").choice((0, 0, 6, 10, 14, 18, 22)) * HOUR_MS


def plain(number: int, now_ms: int, events: int = 200) -> Customer:
    """A customer in good order with a line that never ends."""
    rng = random.Random(f"plain {number}")
    line = _line(number, now_ms, 50_000_000, 1_000, as_of_ms=now_ms, granted_ms=now_ms - 400 * DAY_MS,
                 reviewed_ms=now_ms - 30 * DAY_MS)  # fmt: skip
    instants = sorted(now_ms - rng.randrange(DAY_MS, 360 * DAY_MS) for _ in range(events))
    return Customer(number, line, [_event(rng, number, i, at_ms, 500, False) for i, at_ms in enumerate(instants)])


def _line(
    number: int, now_ms: int, limit: float, outstanding: float, *, as_of_ms: int, granted_ms: int,
    status: str = "active", expires_ms: int | None = None, reviewed_ms: int | None = None,
    days_past_due: int | None = 0,
) -> dict[str, Any]:  # fmt: skip
    line = {
        "customer_id": f"p-{number}", "product": "revolving", "currency": "CNY", "limit": limit,
        "outstanding": outstanding, "as_of": instant(as_of_ms), "apr": 0.18, "status": status,
        "granted_at": instant(granted_ms), "days_past_due": days_past_due,
        "expires_at": None if expires_ms is None else instant(expires_ms),
        "reviewed_at": None if reviewed_ms is None else instant(reviewed_ms),
    }  # fmt: skip
    return {name: value for name, value in line.items() if value is not None}


def _step_ms(number: int) -> int:
    """How far apart a mixed customer's requests are."""
    return random.Random(f"step {number}").choice((SECOND_MS, 4 * MINUTE_MS, 9 * MINUTE_MS))


def _instants(rng: random.Random, events: int, oldest_d: float, now_ms: int, latest_ms: int) -> list[int]:
    """When things happened, up to `latest_ms` ago; more of them lately."""
    oldest_ms = int(oldest_d * DAY_MS)
    spans = (oldest_ms, oldest_ms, oldest_ms // 10, 2 * HOUR_MS if rng.random() < 0.15 else oldest_ms)
    return sorted(now_ms - rng.randrange(latest_ms, latest_ms + rng.choice(spans) + MINUTE_MS) for _ in range(events))


def _event(rng: random.Random, number: int, i: int, at_ms: int, usual: float, troubled: bool) -> dict[str, Any]:
    kind = rng.choice(KINDS)
    if not troubled and kind in ("overdue", "inquiry", "contact_change") and rng.random() < 0.8:
        kind = "purchase"
    device = rng.randrange(6 if troubled else 2)
    event = {
        "event_id": f"p-{number}-{i}", "customer_id": f"p-{number}", "facility_id": f"pf-{number}", "kind": kind,
        "occurred_at": instant(at_ms), "channel": "app", "device_id": f"pd-{number}-{device}",
    }  # fmt: skip
    if kind in MONEY:
        amount = usual if rng.random() < 0.3 else usual * rng.lognormvariate(0, 0.7)
        event |= {"amount": round(max(amount, 1), 2), "currency": "CNY"}
    if kind == "drawdown":
        event |= {"status": rng.choice(DRAW_STATUSES), "counterparty_id": f"pm-{rng.randrange(30)}"}
        if rng.random() < 0.1:
            del event["device_id"], event["counterparty_id"]
    if kind in ("repayment", "login") and rng.random() < (0.3 if troubled else 0.1):
        event["status"] = rng.choice(("failed", "cancelled")) if kind == "repayment" else "failed"
    if kind == "overdue":
        event["value"] = rng.randrange(1, 40)
    return event


def draw(
    customer: Customer, request_id: str, amount: float, at_ms: int | None = None, device: int = 0
) -> dict[str, Any]:
    """A request to draw."""
    request = {
        "request_id": request_id, "customer_id": customer.customer_id, "facility_id": customer.facility_id,
        "amount": amount, "currency": "CNY", "channel": "app", "device_id": f"pd-{customer.number}-{device}",
        "counterparty_id": f"pm-{customer.number % 30}", "purpose": "consumption",
        "geo": {"lat": 31.23, "lon": 121.47, "accuracy_m": 20}, "term_months": 12, "deadline_ms": 5_000,
    }  # fmt: skip
    return request if at_ms is None else request | {"occurred_at": instant(at_ms)}


def mixed_draws(customer: Customer, now_ms: int, count: int) -> Iterator[dict[str, Any]]:
    """What the customer asks for, oldest first: seconds to minutes apart, from a trifle to more than there is."""
    rng = random.Random(f"draws {customer.number}")
    at_ms = asks_until_ms(customer.number, now_ms)
    step_ms = _step_ms(customer.number)
    limit = float(customer.line["limit"])
    for i in range(count):
        amount = limit * rng.choice((0.002, 0.01, 0.02, 0.02, 0.025, 0.025, 0.05, 0.15, 0.3, 1.1))
        yield draw(customer, f"same-{customer.number}-{i}", round(amount, 2), at_ms - (count - i) * step_ms,
                   rng.choice((0, 0, 0, 1, 7)))  # fmt: skip


def settlement(
    customer: Customer, request: Mapping[str, Any], answer: Mapping[str, Any], status: str
) -> dict[str, Any]:
    """What became of a drawdown that was approved, in the same instant."""
    return {
        "event_id": f"settles-{request['request_id']}", "customer_id": customer.customer_id,
        "facility_id": customer.facility_id, "kind": "drawdown", "status": status,
        "decision_id": answer["decision_id"], "amount": answer["approved_amount"], "currency": "CNY",
        "occurred_at": request["occurred_at"],
    }  # fmt: skip
