"""A history that the real service lived through on a memory store, and the same history as files."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
from pyarrow import parquet

from decision_service.api.instants import format_instant
from decision_service.api.parse import Clock, parse_decision, parse_event
from decision_service.core.facility import Attribute, Facility
from decision_service.core.limits import DAY_MS, HOUR_MS
from decision_service.customers import Customers
from decision_service.linker import Linker
from decision_service.policies.active_policy import ActivePolicy
from decision_service.recording import Retention
from decision_service.service import DecisionService
from decision_service.store.memory import MemoryStore
from decision_service.telemetry import Meters
from decision_service.warm import warm

T0_MS = 1_750_000_000_000
TIMEOUT_MS = 24 * HOUR_MS
ZONE = "America/New_York"  # it has daylight saving
RULES = """
rule_set: drawdown
scene: drawdown
rules:
  - id: big
    when: request.amount > facility.available
    on_null: hold
    then: {hold: review}
    reason: RC04
  - id: otherwise
    when: request.amount > 0
    on_null: skip
    then: approve
fallback: {static: {hold: review, reason: RC90}}
"""
LINKED = """
segments:
  lv_paid: kind == "drawdown"
  lv_fraud: kind == "drawdown" and label == "fraud"
features:
  lv_cust_on: {agg: distinct, by: customer, of: lv_paid, grain: device, windows: [7d, 30d], null: Z, unit: n,
    en: a, zh: a}
  lv_fraud_share: {agg: share, of: lv_fraud, among: lv_paid, grain: payee, delay: 2d, windows: [1d, 7d, 30d], null: D,
    unit: ratio, en: b, zh: b}
  lv_ip_amt: {agg: sum, of: lv_paid, grain: ip, windows: [7d], null: Z, unit: money, en: c, zh: c}
  lv_own_fraud: {agg: count, of: lv_fraud, windows: [30d], null: Z, unit: n, en: d, zh: d}
derived:
  lv_risk: {expr: lv_fraud_share_7d * lv_cust_on_7d + lv_own_fraud_30d, null: X, unit: n, en: e, zh: e}
  lv_sources: {expr: src_bureau_ok + 2 * src_device_ok, null: X, unit: n, en: f, zh: f}
  lv_bureau_age: {expr: feat_age_s_bureau / 60, null: X, unit: s, en: g, zh: g}
"""


@dataclass(slots=True)
class Lived:
    """What the service answered, and the files that say the same."""

    rules: Path
    answers: list[dict[str, float | None]] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)
    questions: list[dict[str, Any]] = field(default_factory=list)
    facilities: list[dict[str, Any]] = field(default_factory=list)
    attributes: list[dict[str, Any]] = field(default_factory=list)

    def write(self, directory: Path) -> None:
        """The files, as Parquet."""
        for name in ("events", "questions", "facilities", "attributes"):
            rows = getattr(self, name)
            columns = dict.fromkeys(column for row in rows for column in row)
            table = pa.table({column: [row.get(column) for row in rows] for column in columns})
            parquet.write_table(table, directory / f"{name}.parquet", row_group_size=100)


def write_rules(directory: Path, shipped: Path, names: Callable[[Path], list[str]]) -> Path:
    """Every shipped feature and a few over entity logs, all of them recorded with every decision."""
    shutil.copytree(shipped / "features", directory / "features")
    shutil.copy(shipped / "attributes.yaml", directory)
    (directory / "features" / "linked.yaml").write_text(LINKED, encoding="utf-8")
    (directory / "drawdown.yaml").write_text(RULES, encoding="utf-8")
    (directory / "policy.yaml").write_text(f"record: [{', '.join(names(directory))}]\n", encoding="utf-8")
    return directory


class Life:
    """One customer base, lived step by step at a clock that only moves on."""

    def __init__(self, service: Service, lived: Lived, seed: int) -> None:
        self._service, self._lived = service, lived
        self._rng = np.random.default_rng(seed)
        self._drawn: list[tuple[str, str, int, str]] = []  # customer, decision, occurred_at, outcome
        self._posted: list[tuple[str, str]] = []
        self._n = 0

    def _pick(self, *choices: Any) -> Any:
        return choices[int(self._rng.integers(len(choices)))]

    async def live(self, steps: int) -> None:
        """Report two lines a customer, then let things happen."""
        for customer in range(4):
            for line in range(2 if customer < 2 else 1):
                await self._report_line(f"c-{customer}", f"f-{customer}-{line}")
        for _ in range(steps):
            self._service.now.ms += int(self._pick(0, 0, 1, 30_000, 5 * 60_000, HOUR_MS, 9 * HOUR_MS))
            kind = self._rng.random()
            if kind < 0.07:
                self._service.now.ms += 1
                customer = int(self._rng.integers(4))
                await self._report_line(f"c-{customer}", f"f-{customer}-0")
            elif kind < 0.12:
                await self._report_value()
            elif kind < 0.55:
                await self._post()
            else:
                await self._draw()
            await self._service.linker.flush()

    async def _report_line(self, customer: str, facility: str) -> None:
        now = self._service.now.ms
        as_of = now - int(self._rng.integers(0, 3 * DAY_MS))
        limit, used = int(self._rng.integers(10, 90)) * 100_000, int(self._rng.integers(0, 400_000))
        line = Facility(
            facility, customer, "revolver", "CNY", limit, used, as_of, 1_825, self._pick("active", "active", "closed"),
            T0_MS - 200 * DAY_MS, self._pick(None, T0_MS + 300 * DAY_MS), self._pick(None, T0_MS - 20 * DAY_MS),
            self._pick(None, now + 5 * DAY_MS), self._pick(None, 12_345), self._pick(None, 0, 3),
        )  # fmt: skip
        await self._service.customers.put_facility(line)
        instants = {name: getattr(line, f"{name}_ms") for name in _INSTANTS}
        self._lived.facilities.append(
            {
                "facility_id": facility, "customer_id": customer, "product": line.product, "currency": "CNY",
                "limit": limit / 100, "outstanding": used / 100, "apr": 0.1825, "status": line.status,
                "next_due_amount": None if line.next_due_minor is None else "123.45",
                "days_past_due": line.days_past_due, "recorded_at": now,
                **{name: None if at is None else format_instant(at) for name, at in instants.items()},
            }
        )  # fmt: skip
        self._service.now.ms += 1

    async def _report_value(self) -> None:
        self._service.now.ms += 1
        now = self._service.now.ms
        customer, as_of = f"c-{int(self._rng.integers(4))}", now - int(self._rng.integers(0, 30 * DAY_MS))
        name, value = self._pick(("income_monthly", 8_000.5), ("ext_inq_cnt_30d", 4.0), ("dev_vpn", 1.0))
        await self._service.customers.put_attributes(customer, {name: Attribute(value, as_of)})
        self._lived.attributes.append(
            {"customer_id": customer, "name": name, "value": str(value), "as_of": as_of, "recorded_at": now}
        )
        self._service.now.ms += 1

    def _event(self) -> dict[str, Any]:
        """An event that the API takes, on any of the customers."""
        self._n += 1
        now, customer = self._service.now.ms, int(self._rng.integers(4))
        event = {
            "event_id": f"e-{self._n}", "customer_id": f"c-{customer}",
            "occurred_at": format_instant(now - int(self._pick(0, 0, 1_000, HOUR_MS, 3 * DAY_MS))),
        }  # fmt: skip
        kind = self._pick("repayment", "purchase", "login", "label", "label", "settlement", "drawdown", "due")
        if kind == "settlement" and self._drawn:
            of, decision, at, outcome = self._drawn.pop(int(self._rng.integers(len(self._drawn))))
            at = max(at, now - int(self._pick(0, HOUR_MS)))
            if outcome == "approve":
                return event | {
                    "customer_id": of, "kind": "drawdown", "decision_id": decision, "occurred_at": format_instant(at),
                    "status": self._pick("booked", "failed"),
                }  # fmt: skip
        if kind == "label" and self._drawn and self._rng.random() < 0.6:
            of, decision, _, _ = self._drawn[int(self._rng.integers(len(self._drawn)))]
            return event | {"customer_id": of, "kind": "label", "category": "fraud", "decision_id": decision}
        if kind == "label" and self._posted:
            of, about = self._posted[int(self._rng.integers(len(self._posted)))]
            more = {"counterparty_id": f"m-{int(self._rng.integers(3))}"}
            return event | more | {"customer_id": of, "kind": "label", "category": "fraud", "about_event_id": about}
        event |= {"kind": kind if kind in ("repayment", "purchase", "login", "drawdown", "due") else "touch"}
        if event["kind"] != "login":
            event |= {"amount": f"{int(self._rng.integers(1, 90_000)) / 100:.2f}", "currency": "CNY"}
        return event | self._where(customer) | {"category": self._pick("travel", "medical")}

    def _where(self, customer: int) -> dict[str, Any]:
        """A line, device, payee, address and channel, or some of them."""
        lines = 2 if customer < 2 else 1
        given = {
            "facility_id": f"f-{customer}-{int(self._rng.integers(lines))}",
            "device_id": self._pick(None, "d-1", "d-2"), "counterparty_id": self._pick(None, "m-0", "m-1", "m-2"),
            "ip": self._pick(None, "203.0.113.7", "203.0.113.9", "2001:db8::1"), "channel": self._pick(None, "app"),
        }  # fmt: skip
        return {name: value for name, value in given.items() if value is not None}

    async def _post(self) -> None:
        now = self._service.now.ms
        event = self._event()
        (outcome,) = (await self._service.customers.record_events(
            [parse_event(event, 0, Clock(now, 0, 0))]
        )).values()  # fmt: skip
        if outcome.status != "accepted":  # its drawdown was trimmed from the log: it is no history
            assert outcome.field == "decision_id", outcome
            return
        self._posted.append((event["customer_id"], event["event_id"]))
        self._lived.events.append(event | {"recorded_at": now})

    async def _draw(self) -> None:
        self._n += 1
        now, customer = self._service.now.ms, int(self._rng.integers(4))
        where = self._where(customer)
        amount, at_ms = int(self._rng.integers(1, 300_000)), now - int(self._pick(0, 0, 5_000, 2 * HOUR_MS))
        lon = 121.47 + int(self._rng.integers(10**5)) / 1e6
        place = self._pick({}, {"lat": 31.23, "lon": lon, "accuracy_m": 20})
        said = {"term_months": self._pick(None, 12), "purpose": self._pick(None, "travel"), "geo": place or None}
        body = where | said | {
            "request_id": f"r-{self._n}", "customer_id": f"c-{customer}", "amount": f"{amount / 100:.2f}",
            "currency": "CNY", "occurred_at": format_instant(at_ms),
        }  # fmt: skip
        request, _ = parse_decision(orjson.dumps(body), Clock(now, 0, 30 * DAY_MS))
        answer = await self._service.decisions.decide(request, 5_000, time.perf_counter())
        stored = orjson.loads(await self._service.decisions.decision(answer.decision_id))
        outcome = "approve" if float(stored["approved_amount"]) > 0 else "hold"
        self._drawn.append((request.customer_id, answer.decision_id, at_ms, outcome))
        self._lived.answers.append({name: each["value"] for name, each in stored["trace"]["features"].items()})
        self._lived.events.append(
            where | place | {
                "event_id": f"draw-{self._n}", "customer_id": request.customer_id, "kind": "drawdown",
                "status": "approved" if outcome == "approve" else "held", "amount": f"{amount / 100:.2f}",
                "occurred_at": format_instant(at_ms), "recorded_at": now, "decision_id": answer.decision_id,
                "category": said["purpose"], "currency": "CNY",
            }
        )  # fmt: skip
        self._lived.questions.append({"event_id": f"draw-{self._n}", "term_months": said["term_months"]})


_INSTANTS = ("as_of", "granted_at", "expires_at", "reviewed_at", "next_due_at")


class Now:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.ms = T0_MS

    def __call__(self) -> int:
        return self.ms


@dataclass(frozen=True, slots=True)
class Service:
    """The real service's parts."""

    decisions: DecisionService
    customers: Customers
    linker: Linker
    now: Now


def live(directory: Path, rules: Path, *, steps: int, seed: int, retention: Retention, links_max: int) -> Lived:
    """Start the service on a memory store and live through a history."""
    lived = Lived(rules)
    for name in ("meters", "models"):
        (directory / name).mkdir()

    async def go() -> None:
        meters, store, now = Meters(directory / "meters"), MemoryStore(partitions=16), Now()
        active = ActivePolicy(rules, directory / "models", ZONE, TIMEOUT_MS, store, now, lambda *_: None)
        await active.start()
        warm(active.policy)
        try:
            linker = Linker(store, meters, now, 16, links_max, 4_000 * DAY_MS)
            decisions = DecisionService(store, active, meters, 16, retention, linker, 1_000, now)
            service = Service(decisions, Customers(store, active, retention, linker, now), linker, now)
            await Life(service, lived, seed).live(steps)
        finally:
            await active.close()
            await store.close()
            meters.close()

    asyncio.run(go())
    return lived
