"""A month of a portfolio's drawdowns, as core banking would ask and settle them, played in minutes.

Every customer draws on over the month behind the portfolio's instant: usual amounts at usual hours from usual devices,
now and then a burst, a large one, an odd hour, a new payee, or a snapshot of the line with the request. Most of what is
approved is booked, some of it cancelled; some is paid back. Each hundredth question is a review. What a request and
its follow-up say depends on the seed and on the answers alone.

A question that was not answered (503, or its connection was lost) is asked again under its own request_id until it is.
"""

from __future__ import annotations

import random
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

import orjson

from decision_service.core.limits import DAY_MS, HOUR_MS, MINUTE_MS
from decision_service.core.request import SCENES
from decision_service.portfolio import CustomerHistory, Portfolio
from decision_service.portfolio.event_table import rfc3339
from decision_service.portfolio.history import api_facility

MONTH_MS: Final = 30 * DAY_MS
DEADLINE_MS: Final = 2_000
TRIES_MAX: Final = 20_000  # a refusal while the store starts again takes a millisecond
REVIEWS: Final = tuple(scene for scene in SCENES if scene != "drawdown")
_HEAD: Final = b"POST %b HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b"

Key = tuple[str, int, bytes]  # what is asked ("decision", "event"), its try, and the bytes


@dataclass(slots=True)
class Told:
    """What came back: the answers by decision id, in the order they came, and what went otherwise."""

    answers: dict[str, bytes] = field(default_factory=dict)
    outcomes: Counter[str] = field(default_factory=Counter)
    rungs: Counter[str] = field(default_factory=Counter)
    problems: Counter[str] = field(default_factory=Counter)
    events: int = 0
    different: int = 0  # answers to one question that were not the same bytes
    given_up: int = 0


class Traffic:
    """Questions and their follow-ups; `take` is told every answer."""

    def __init__(self, portfolio: Portfolio, decisions: int, since_ms: int, seed: int, name: str) -> None:
        """`decisions` questions about instants from `since_ms` on, over a month; `name` begins every request_id."""
        self.told = Told()
        self._portfolio = portfolio
        self._decisions = decisions
        self._since_ms = since_ms
        self._rng = random.Random(f"{seed} {name}")
        self._name = name
        self._again: deque[Key] = deque()
        self._under_way = 0

    def requests(self) -> Iterator[tuple[Key, bytes]]:
        """Every question, and in between what is asked again and what was settled."""
        for number in range(self._decisions):
            while self._again:
                yield self._sent(self._again.popleft())
            yield self._sent(("decision", 1, self._question(number)))

    def rest(self) -> Iterator[tuple[Key, bytes]]:
        """What is still to be asked again or settled; to be called until `done`."""
        while self._again:
            yield self._sent(self._again.popleft())

    @property
    def done(self) -> bool:
        """Whether every question is answered and everything is settled."""
        return not self._again and not self._under_way

    def _sent(self, key: Key) -> tuple[Key, bytes]:
        self._under_way += 1
        return key, key[2]

    def take(self, key: Key, _sent_s: float, _received_s: float, status: int, body: bytes) -> None:
        """One answer, or (status 0) a lost connection."""
        self._under_way -= 1
        kind, tries, content = key
        if status == 200:
            if kind == "decision":
                self._answered(body, content)
            else:
                self.told.events += 1
            return
        self.told.problems["lost" if not status else f"{status} {_problem(body)}"] += 1
        if status not in (0, 429, 503) or tries >= TRIES_MAX:
            self.told.given_up += 1
            return
        self._again.append((kind, tries + 1, content))

    def _answered(self, body: bytes, content: bytes) -> None:
        answer = orjson.loads(body)
        told = self.told
        known = told.answers.setdefault(answer["decision_id"], body)
        told.different += known != body
        told.outcomes[f"{answer['scene']} {answer['decision']}"] += 1
        told.rungs[answer["rung"]] += 1
        if answer["approved_amount"] > 0:
            self._settle(answer, orjson.loads(content.partition(b"\r\n\r\n")[2]))

    def _settle(self, answer: dict[str, Any], asked: dict[str, Any]) -> None:
        drawn = self._rng.random()
        status = "booked" if drawn < 0.92 else "cancelled"
        if drawn > 0.97:  # never settled: it times out
            return
        at_ms = _ms(asked["occurred_at"]) + MINUTE_MS
        event = {
            "event_id": f"s-{answer['decision_id']}", "customer_id": answer["customer_id"],
            "facility_id": answer["facility_id"], "kind": "drawdown", "status": status,
            "amount": answer["approved_amount"], "currency": answer["currency"], "occurred_at": rfc3339(at_ms),
            "decision_id": answer["decision_id"],
        }  # fmt: skip
        events = [event]
        if drawn < 0.35:
            events.append(
                {
                    "event_id": f"r-{answer['decision_id']}", "customer_id": answer["customer_id"],
                    "facility_id": answer["facility_id"], "kind": "repayment", "amount": answer["approved_amount"],
                    "currency": answer["currency"], "occurred_at": rfc3339(at_ms + 2 * HOUR_MS),
                }
            )  # fmt: skip
        self._again.append(("event", 1, _post(b"/v1/events", {"events": events})))

    def _question(self, number: int) -> bytes:
        rng = self._rng
        history = self._portfolio[int(len(self._portfolio) * rng.random() ** 1.5)]
        t_ms = self._since_ms + int(MONTH_MS * number / self._decisions)
        if rng.random() < 0.9:  # at an hour when people are awake, China time
            t_ms -= (t_ms + 8 * HOUR_MS) % DAY_MS - int(rng.uniform(8, 23) * HOUR_MS)
        facility = history.facility
        body: dict[str, Any] = {
            "request_id": f"{self._name}-{number}", "customer_id": history.customer_id,
            "facility_id": facility.facility_id, "currency": facility.currency,
            "occurred_at": rfc3339(min(t_ms, self._since_ms + MONTH_MS)), "deadline_ms": DEADLINE_MS,
        }  # fmt: skip
        if rng.random() < 0.01:
            return _post(b"/v1/decisions", body | {"scene": rng.choice(REVIEWS)})
        return _post(b"/v1/decisions", body | self._drawdown(history, t_ms))

    def _drawdown(self, history: CustomerHistory, t_ms: int) -> dict[str, Any]:
        rng, facility, number = self._rng, history.facility, history.number
        share = min(rng.lognormvariate(-4.5, 1.0), 0.9)
        body: dict[str, Any] = {
            "amount": f"{max(1, int(facility.limit_minor * share) // 100)}.{rng.choice(('00', '00', '50', '99'))}",
            "channel": rng.choice(("app", "app", "app", "api", "web")),
            "device_id": f"d-{number + 1000}-{1 if rng.random() < 0.95 else rng.randrange(2, 9)}",
            "counterparty_id": f"m-{int(600 * rng.random() ** 2)}",
            "purpose": rng.choice(("consumption", "consumption", "travel", "medical", "working_capital")),
        }
        if rng.random() < 0.3:
            body["geo"] = {"lat": 31.2 + rng.random() / 10, "lon": 121.4 + rng.random() / 10, "accuracy_m": 20}
        if rng.random() < 0.05:
            body["attributes"] = {"bureau_inquiries_30d": rng.randrange(12)}
        if rng.random() < 0.02:
            snapshot = history.line.facility_at(min(t_ms, self._since_ms))
            body["facility"] = {key: value for key, value in api_facility(snapshot).items() if key != "customer_id"}
        return body


def _post(path: bytes, body: dict[str, Any]) -> bytes:
    content = orjson.dumps(body)
    return _HEAD % (path, len(content), content)


def _problem(body: bytes) -> str:
    try:
        return str(orjson.loads(body)["type"]).rpartition("/")[2]
    except (orjson.JSONDecodeError, KeyError):
        return ""


def _ms(instant: str) -> int:
    return int(datetime.fromisoformat(instant).timestamp() * 1_000)
