"""Whether the stack and this service give the same answers, over HTTP: whoever differs stops the benchmark.

Both get the same lines, the same events, the same requests in the same order, and the settlements of what each
approved. Compared for each request: the outcome, the hold's kind, the approved amount to the cent, reason codes with
their sources in order, points and grade; every feature that this service computed, to 1e-9, null for null.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any, Final

from decision_service.http_client import Client
from peer_histories import Customer, mixed, mixed_draws, settlement

TOLERANCE: Final = 1e-9
DRAWS_EACH: Final = 5
FIRST: Final = 10_000  # number of the first customer that is asked for; those that are measured come before
SETTLED: Final = ("booked", "booked", "failed", "cancelled", None)


class DifferentAnswers(Exception):
    """The two differ, and how."""


@dataclass(slots=True)
class Checked:
    """How many answers were compared, and what they were."""

    requests: int = 0
    values: int = 0
    worst: float = 0.0  # largest difference of a feature, relative above 1
    outcomes: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    features: set[str] = field(default_factory=set)


async def prepare(client: Client, customers: list[Customer]) -> None:
    """Tell a service all there is to know about customers."""
    for customer in customers:
        response = await client.call("PUT", f"/v1/facilities/{customer.facility_id}", customer.line)
        if response.status >= 300:
            raise DifferentAnswers(f"the line of {customer.customer_id} was refused: {response.body!r}")
        if customer.events:
            response = await client.call("POST", "/v1/events", {"events": customer.events})
            if response.status != 200 or response.json()["accepted"] != len(customer.events):
                raise DifferentAnswers(f"events of {customer.customer_id} were refused: {response.body!r}")


async def check(ours_url: str, stack_urls: Mapping[str, str], requests: int, now_ms: int) -> Checked:
    """Ask this service and every variant of the stack; raises DifferentAnswers at the first difference."""
    customers = [mixed(number, now_ms) for number in range(FIRST, FIRST + -(-requests // DRAWS_EACH))]
    checked = Checked()
    async with AsyncExitStack() as open_:
        ours = await open_.enter_async_context(Client(ours_url))
        stacks = {name: await open_.enter_async_context(Client(url)) for name, url in stack_urls.items()}
        for client in (ours, *stacks.values()):
            await prepare(client, customers)
        for customer in customers:
            for i, request in enumerate(mixed_draws(customer, now_ms, DRAWS_EACH)):
                mine = await _ask_ours(ours, request)
                theirs = {name: await _ask(client, "?explain=true", request) for name, client in stacks.items()}
                for name, answer in theirs.items():
                    compare(request, mine, answer, name, checked)
                _count(mine, checked)
                status = SETTLED[(customer.number + i) % len(SETTLED)]
                if status is not None and mine["decision"] != "hold":
                    await _settle(ours, customer, request, mine, status)
                    for name, client in stacks.items():
                        await _settle(client, customer, request, theirs[name], status)
    return checked


async def _settle(
    client: Client, customer: Customer, request: Mapping[str, Any], answer: Mapping[str, Any], status: str
) -> None:
    event = settlement(customer, request, answer, status)
    response = await client.call("POST", "/v1/events", {"events": [event]})
    if response.status != 200 or response.json()["accepted"] != 1:
        raise DifferentAnswers(f"a settlement was refused: {response.body!r}")


async def _ask(client: Client, query: str, request: Mapping[str, Any]) -> dict[str, Any]:
    response = await client.call("POST", f"/v1/decisions{query}", dict(request))
    if response.status != 200:
        raise DifferentAnswers(f"{request['request_id']} was refused: {response.body!r}")
    answer: dict[str, Any] = response.json()
    return answer


async def _ask_ours(client: Client, request: Mapping[str, Any]) -> dict[str, Any]:
    """This service's answer, with the features that its trace tells."""
    answer = await _ask(client, "", request)
    if answer["rung"] != "full":
        raise DifferentAnswers(f"{request['request_id']} was answered on rung {answer['rung']}")
    trace = (await client.call("GET", f"/v1/decisions/{answer['decision_id']}")).json()["trace"]
    return answer | {"features": {name: told["value"] for name, told in trace["features"].items()}}


def compare(
    request: Mapping[str, Any], ours: Mapping[str, Any], stack: Mapping[str, Any], name: str, checked: Checked
) -> None:
    """Raise DifferentAnswers unless they are equal."""
    for what, mine, theirs in (
        ("outcome", ours["decision"], stack["decision"]),
        ("hold", (ours["hold"] or {}).get("kind"), stack.get("hold")),
        ("approved amount", round(float(ours["approved_amount"]) * 100), round(stack["approved_amount"] * 100)),
        ("reasons", _reasons(ours), _reasons(stack)),
        ("points", ours["scores"]["behaviour"]["points"], stack["scores"]["behaviour"]["points"]),
        ("grade", ours["scores"]["behaviour"]["grade"], stack["scores"]["behaviour"]["grade"]),
    ):
        if mine != theirs:
            raise DifferentAnswers(f"{what} of {request}: this service {mine!r}, the stack ({name}) {theirs!r}")
    for feature, value in ours["features"].items():
        theirs = stack["features"].get(feature, math.inf)
        difference = _difference(value, theirs)
        if not difference <= TOLERANCE:
            raise DifferentAnswers(f"{feature} of {request}: this service {value!r}, the stack ({name}) {theirs!r}")
        checked.worst = max(checked.worst, difference)
    checked.values += len(ours["features"])


def _count(answer: Mapping[str, Any], checked: Checked) -> None:
    checked.requests += 1
    checked.features |= set(answer["features"])
    checked.outcomes[answer["decision"]] += 1
    checked.reasons.update(reason["source"] for reason in answer["reasons"])


def _difference(mine: float | None, theirs: float | None) -> float:
    """0 for two nulls, infinite for one."""
    if mine is None or theirs is None:
        return 0.0 if mine is theirs else math.inf
    return abs(mine - theirs) / max(1.0, abs(mine))


def _reasons(answer: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [(reason["code"], reason["source"]) for reason in answer["reasons"]]
