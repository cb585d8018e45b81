"""The demo: a generated portfolio in a running service, and a few of its customers' next drawdowns, explained.

Every case is a customer who lives out one pattern of the portfolio. Loading and deciding go through the HTTP API, and
what is printed is read back from the answer and its trace, so the demo shows nothing a caller could not see.
"""

from __future__ import annotations

import asyncio
import textwrap
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote

from decision_service.core.limits import EVENTS_PER_CALL_MAX
from decision_service.http_client import Client, Response
from decision_service.portfolio import CustomerHistory, Portfolio
from decision_service.portfolio.history import api_facility

LOADERS: Final = 8
DEADLINE_MS: Final = 1_000  # a first decision on a busy laptop may take longer than production's 20 ms
WIDTH: Final = 100

CASES: Final[Mapping[str, str]] = {
    "ordinary": "A customer without trouble draws a little of the line.",
    "odd_hours": "Three draws between 03:40 and 04:05 last night, and a fourth, larger one now.",
    "full_draw_after_grant": "A line granted 35 minutes ago, drawn in full at once from another device.",
    "impossible_travel": "Forty minutes after a draw in Shanghai, the next comes from Kunming.",
    "strain": "Ever more draws, ever smaller repayments: a customer running short of money.",
    "declining": "The score has fallen for weeks; the customer still pays.",
    "prized": "A year of steady use, always repaid.",
}


class DemoFailed(Exception):
    """The service did not take what the demo sent; the message is its own."""


@dataclass(frozen=True, slots=True)
class Shown:
    """One decided case: what was asked, what came back, and the decision as it is kept, with its trace."""

    pattern: str
    request: Mapping[str, Any]
    answer: Mapping[str, Any]
    trace: Mapping[str, Any]

    def as_json(self) -> dict[str, Any]:
        """The case for a machine: request, answer and the rules that fired."""
        return {
            "pattern": self.pattern, "request": self.request, "answer": self.answer,
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
    _require(await client.call("PUT", path, api_facility(history.facility)))
    for start in range(0, len(history.events), EVENTS_PER_CALL_MAX):
        events = history.events[start : start + EVENTS_PER_CALL_MAX]
        recorded = _require(await client.call("POST", "/v1/events", {"events": events}))
        if recorded["rejected"]:
            raise DemoFailed(f"{recorded['rejected']} events of {history.customer_id} were rejected")


def _require(response: Response) -> Any:
    if response.status >= 300:
        raise DemoFailed(response.body.decode())
    return response.json()


async def decide(url: str, portfolio: Portfolio, patterns: Iterable[str]) -> list[Shown]:
    """Decide the next drawdown of the first customer of each pattern."""
    async with Client(url) as client:
        return [await _decide(client, portfolio.of_pattern(pattern)[0]) for pattern in patterns]


async def _decide(client: Client, history: CustomerHistory) -> Shown:
    assert history.next_draw is not None, "every pattern ends with a drawdown"
    request = {"request_id": f"demo-{history.pattern}", **history.next_draw, "deadline_ms": DEADLINE_MS}
    answer = _require(await client.call("POST", "/v1/decisions", request))
    stored = _require(await client.call("GET", f"/v1/decisions/{answer['decision_id']}"))
    return Shown(history.pattern, request, answer, stored["trace"])


def render(number: int, shown: Shown) -> str:
    """A case for people."""
    request, answer = shown.request, shown.answer
    lines = [
        f"{number}. {CASES[shown.pattern]}",
        f"   {request['customer_id']} asks for {_money(request['amount'])} at {request['occurred_at']}",
        "",
        f"   {_verdict(answer)}",
    ]
    lines += [f"   {line}" for line in _scores(answer)]
    lines += [f"   {reason['code']}  {reason['text']}  ({reason['source']})" for reason in answer["reasons"]]
    lines += _explanations(shown)
    return "\n".join(lines)


def _verdict(answer: Mapping[str, Any]) -> str:
    """The outcome and all that happened beside it, in one sentence."""
    happened = [f"{answer['decision'].upper().replace('_', ' ')}: pay out {_money(answer['approved_amount'])}"]
    if (hold := answer["hold"]) is not None:
        happened.append(f"held for {hold['kind'].replace('_', '-')} until {hold['expires_at']}")
    if (change := answer["limit_change"]) is not None:
        kind = "this draw capped" if change["kind"] == "draw_cap" else f"limit {change['kind']}"
        happened.append(f"{kind} from {_money(change['from'])} to {_money(change['to'])}")
    if (reprice := answer["reprice"]) is not None:
        happened.append(f"new draws at {reprice['to']:.2%} instead of {reprice['from']:.2%} a year")
    happened += [f"{alert['tier']} alert {alert['indicator']}" for alert in answer["alerts"]]
    happened += [f"offer {offer['name']}" for offer in answer["offers"]]
    return "; ".join(happened)


def _scores(answer: Mapping[str, Any]) -> list[str]:
    return [
        f"scorecard {name}: {score['points']} points, grade {score['grade']}, PD {score['pd']:.2%}"
        if score["points"] is not None
        else f"scorecard {name}: no score"
        for name, score in answer["scores"].items()
    ]


def _explanations(shown: Shown) -> list[str]:
    """What fired and what it saw."""
    trace = shown.trace
    fired = [rule for rule in trace["rules"] if "fired" in rule["verdict"] or "held" in rule["verdict"]]
    looked = f"{len(trace['rules'])} rules looked at {len(trace['features'])} features; {len(fired)} fired"
    lines = [f"   {looked}{':' if fired else ''}"]
    for rule in fired:
        lines += textwrap.wrap(
            f"{rule['id']}: {' '.join(rule['when'].split())}", WIDTH, initial_indent="     ", subsequent_indent=" " * 9
        )
        lines += textwrap.wrap(_saw(rule["values"]), WIDTH, initial_indent=" " * 9, subsequent_indent=" " * 9)
    return lines + [f"     {cell}" for cell in trace["cells"]]


def _saw(values: Mapping[str, Any]) -> str:
    return "saw " + ", ".join(f"{name} = {_value(value)}" for name, value in sorted(values.items()))


def _value(value: object) -> str:
    if value is None:
        return "unknown"
    return f"{value:,.6g}" if isinstance(value, float) else str(value)


def _money(amount: float | str) -> str:
    return f"{float(amount):,.2f} CNY"
