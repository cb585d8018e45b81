"""The demo: a generated portfolio in a running service, and a few of its customers' next drawdowns,
explained.

A case is a customer who lives out one pattern of the portfolio, or one whom a preview showed to get an
outcome that no pattern is about. Loading and deciding go through the HTTP API, and what is printed is read
back from the answer and its trace, so the demo shows nothing a caller could not see.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from urllib.parse import quote

from decision_service.core.limits import EVENTS_PER_CALL_MAX
from decision_service.explanation import explained
from decision_service.http_client import Client, Response
from decision_service.portfolio import CustomerHistory, Portfolio
from decision_service.portfolio.history import api_facility

LOADERS: Final = 8
DUE_EVERY: Final = timedelta(days=30)
DEADLINE_MS: Final = 1_000  # a first decision on a busy laptop may take longer than production's 20 ms

CASES: Final[Mapping[str, str]] = {
    "ordinary": "A customer without trouble draws a little of the line.",
    "odd_hours": "Three draws between 03:40 and 04:05 last night, and a larger one at 04:20.",
    "full_draw_after_grant": "A line granted 35 minutes ago, drawn in full at once from another device.",
}
"""Patterns of the portfolio, each with one customer whose next drawdown is decided."""

LOOKED_FOR: Final[Mapping[str, str]] = {
    "limit_change": "A customer in good standing, whose line has become too small.",
    "reprice": "A weak score on a line that is hardly used.",
}
"""Outcomes that no pattern is about: customers are previewed until one gets it."""

LOOKED_FOR_SHARE: Final = 0.02  # of the limit, drawn by a customer who is looked for


class DemoFailed(Exception):
    """The service did not take what the demo sent; the message is its own."""


@dataclass(frozen=True, slots=True)
class Shown:
    """One decided case: what was asked, what came back, and the decision as it is kept, with its trace."""

    title: str
    request: Mapping[str, Any]
    answer: Mapping[str, Any]
    trace: Mapping[str, Any]

    def as_json(self) -> dict[str, Any]:
        """The case for a machine: request, answer and the rules that fired."""
        return {
            "title": self.title, "request": self.request, "answer": self.answer,
            "fired": [rule for rule in self.trace["rules"] if "fired" in rule["verdict"]],
        }  # fmt: skip


async def load(url: str, portfolio: Portfolio, loaded: Callable[[int], None]) -> None:
    """Put all facilities and events into the service; `loaded` is told how many customers are there."""
    waiting = list(reversed(portfolio))

    async def loader() -> None:
        async with Client(url) as client:
            while waiting:
                await _load_customer(client, waiting.pop())
                loaded(len(portfolio) - len(waiting))

    await asyncio.gather(*(loader() for _ in range(LOADERS)))


async def _load_customer(client: Client, history: CustomerHistory) -> None:
    path = f"/v1/facilities/{quote(history.facility.facility_id, safe='')}"
    _require(await client.call("PUT", path, _reported(history)))
    for start in range(0, len(history.events), EVENTS_PER_CALL_MAX):
        events = history.events[start : start + EVENTS_PER_CALL_MAX]
        recorded = _require(await client.call("POST", "/v1/events", {"events": events}))
        if recorded["rejected"]:
            raise DemoFailed(f"{recorded['rejected']} events of {history.customer_id} were rejected")


def _reported(history: CustomerHistory) -> dict[str, Any]:
    """The line as core banking would report it: with its next instalment, expected to be like the last one."""
    last = next((event for event in reversed(history.events) if event["kind"] == "due"), None)
    if last is None:
        return api_facility(history.facility)
    due_at = datetime.fromisoformat(last["occurred_at"]) + DUE_EVERY
    return {**api_facility(history.facility), "next_due_at": due_at.isoformat(), "next_due_amount": last["amount"]}


def _require(response: Response) -> Any:
    if response.status >= 300:
        raise DemoFailed(response.body.decode())
    return response.json()


async def decide(url: str, portfolio: Portfolio) -> list[Shown]:
    """Decide the next drawdown of one customer of each pattern, and of one for each outcome looked for."""
    async with Client(url) as client:
        shown = [
            await _decide(client, title, _next_draw(portfolio.of_pattern(pattern)[0]))
            for pattern, title in CASES.items()
        ]
        for outcome, title in LOOKED_FOR.items():
            request = await _find(client, portfolio, outcome)
            if request is not None:
                shown.append(await _decide(client, title, request))
        return shown


async def _find(client: Client, portfolio: Portfolio, outcome: str) -> dict[str, Any] | None:
    """The first request of a customer without a pattern that a preview answers with `outcome` and nothing held back."""
    for history in portfolio:
        request = _next_draw(history)
        if history.pattern or float(request["amount"]) <= 0:
            continue
        answer = _require(await client.call("POST", "/v1/decisions/preview", _asked("preview", request)))
        if answer["decision"] == outcome and answer["approved_amount"] == float(request["amount"]):
            return request
    return None


def _next_draw(history: CustomerHistory) -> dict[str, Any]:
    """The drawdown that completes the customer's pattern, else a small one."""
    if history.next_draw is not None:
        return history.next_draw
    facility = history.facility
    return {
        "customer_id": history.customer_id, "facility_id": facility.facility_id, "currency": facility.currency,
        "amount": int(facility.limit_minor * LOOKED_FOR_SHARE) // 10_000 * 100,
    }  # fmt: skip


def _asked(request_id: str, request: Mapping[str, Any]) -> dict[str, Any]:
    return {"request_id": request_id, **request, "deadline_ms": DEADLINE_MS}


async def _decide(client: Client, title: str, request: Mapping[str, Any]) -> Shown:
    asked = _asked(f"demo-{request['customer_id']}", request)
    answer = _require(await client.call("POST", "/v1/decisions", asked))
    stored = _require(await client.call("GET", f"/v1/decisions/{answer['decision_id']}"))
    return Shown(title, asked, answer, stored["trace"])


def render(number: int, shown: Shown) -> str:
    """A case for people."""
    request = shown.request
    lines = [
        f"{number}. {shown.title}",
        f"   {request['customer_id']} asks for {float(request['amount']):,.2f} {request['currency']}",
        "",
        *(f"   {line}" for line in explained(shown.answer, shown.trace)),
    ]
    return "\n".join(lines)
