"""An archive made by the real service: its decisions on a memory store, entry by entry, as rows in segments."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
from conftest_service import Clock as ServiceClock

from decision_service.api.parse import Clock, parse_decision, parse_event, parse_facility, read_events
from decision_service.archive.files import Archive
from decision_service.archive.policies import PolicyKeeper
from decision_service.archive.rows import read_entry, row_of
from decision_service.archive.schema import Row
from decision_service.core.limits import DAY_MS, HOUR_MS
from decision_service.customers import Customers
from decision_service.linker import Linker
from decision_service.policies.active_policy import ActivePolicy
from decision_service.recording import Retention
from decision_service.replay import instant
from decision_service.service import DecisionService
from decision_service.store.memory import MemoryStore
from decision_service.telemetry import Meters
from decision_service.warm import warm
from written_archive import write_rows

PARTITIONS = 4
TIMEOUT_S = 5.0
ZONE = "Asia/Shanghai"
RESERVATION_MS = 24 * HOUR_MS
FAR_MS = 4_000 * DAY_MS
Step = tuple[str, dict[str, Any]]  # what is sent: facility, events or decide


@dataclass
class Made:
    """The archive, and every answer by decision id."""

    url: str
    models: Path
    answers: dict[str, dict[str, Any]]
    first_ms: int
    last_ms: int


def make_archive(
    folder: Path, rules: Path, models: Path, clock: ServiceClock, steps: Sequence[Step],
    lists: Mapping[str, Sequence[str]] | None = None, segment_rows: int = 50,
) -> Made:  # fmt: skip
    """Send everything to a service, and archive what it left in its outboxes."""
    store, answers = MemoryStore(partitions=PARTITIONS), dict[str, dict[str, Any]]()
    first_ms = clock.ms

    async def go() -> None:
        (folder / "meters").mkdir(parents=True)
        meters = Meters(folder / "meters")
        active = ActivePolicy(rules, models, ZONE, RESERVATION_MS, store, clock, lambda *_: None)
        for name, values in (lists or {}).items():
            for value in values:
                await store.change_list(name, value, True, TIMEOUT_S)
        await active.start()
        warm(active.policy)
        retention = Retention(400 * DAY_MS, 30, 4)  # logs are trimmed now and then
        linker = Linker(store, meters, clock, PARTITIONS, 1_024, 400 * DAY_MS)
        decisions = DecisionService(store, active, meters, PARTITIONS, retention, linker, 1_000, clock)
        customers = Customers(store, active, retention, linker, clock)
        try:
            for what, body in steps:
                clock.ms = body.pop("now_ms", clock.ms)
                parsing = Clock(clock.ms, FAR_MS, FAR_MS)
                if what == "facility":
                    await customers.put_facility(parse_facility(orjson.dumps(body), body["facility_id"], parsing))
                elif what == "events":
                    sent = read_events(orjson.dumps(body))
                    await customers.record_events([parse_event(e, i, parsing) for i, e in enumerate(sent)])
                else:
                    request, _ = parse_decision(orjson.dumps(body), parsing)
                    answer = await decisions.decide(request, 5_000, time.perf_counter())
                    answers[answer.decision_id] = orjson.loads(answer.body)
            await linker.drain() if hasattr(linker, "drain") else None
            archive = Archive(folder / "archive")
            await PolicyKeeper(store, archive).keep({a["policy"]["id"] for a in answers.values()})
            for place in range(PARTITIONS):
                await _write(archive, store, place, answers, first_ms, segment_rows)
        finally:
            await active.close()
            await store.close()
            meters.close()

    asyncio.run(go())
    return Made(str(folder / "archive"), models, answers, first_ms, clock.ms + DAY_MS)


async def _write(
    archive: Archive, store: MemoryStore, place: int, answers: Mapping[str, Any], first_ms: int, segment_rows: int
) -> None:
    rows: list[Row] = []
    at_ms = first_ms
    for n, fields in enumerate(store.outbox(place)):
        decision_id = fields.get(b"id", b"").decode()
        if decision_id in answers:
            at_ms = max(at_ms, _ms(answers[decision_id]["decided_at"]))
        frame = await store.read_decision(decision_id, TIMEOUT_S) if decision_id else None
        rows.append(row_of(place, read_entry(b"%d-%d" % (at_ms, n), fields), frame))
    write_rows(archive, rows, segment_rows)


def _ms(text: str) -> int:
    from decision_service.api.instants import parse_instant

    return parse_instant(text)


def wild_steps(rng: random.Random, t_ms: int, customers: int, asked: int, attributes: Callable[[], Any]) -> list[Step]:
    """Facilities, histories and drawdowns of some customers, hours apart, with what happens in between."""
    steps: list[Step] = []
    now_ms = t_ms
    for c in range(customers):
        steps.append(("facility", _line(c, now_ms, rng)))
        events = [
            _event(c, f"h-{c}-{i}", now_ms - rng.randint(1, 300) * DAY_MS, rng) for i in range(rng.randint(0, 40))
        ]
        if events:
            steps.append(("events", {"events": sorted(events, key=lambda e: e["occurred_at"])}))
    for i in range(asked):
        now_ms += rng.randint(0, 40) * HOUR_MS // 60
        c = rng.randrange(customers)
        body: dict[str, Any] = {
            "now_ms": now_ms, "request_id": f"r-{i}", "customer_id": f"c-{c}", "facility_id": f"f-{c}",
            "amount": rng.choice([50, 120.5, 499, 800, 2_000]), "currency": "CNY", "attributes": attributes(),
            **({"term_months": rng.choice([3, 6, 12])} if rng.random() < 0.7 else {}),
        }  # fmt: skip
        if rng.random() < 0.7:
            body |= {"occurred_at": instant(now_ms - rng.choice([0, HOUR_MS])), "channel": rng.choice(["app", "web"]),
                     "device_id": f"d-{c}", "counterparty_id": f"m-{rng.randrange(3)}", "purpose": "consumption",
                     "geo": {"lat": 31.2 + rng.random(), "lon": 121.4, "accuracy_m": 20}}  # fmt: skip
        if rng.random() < 0.1:
            body["facility"] = {
                k: v for k, v in _line(c, now_ms, rng).items() if k not in ("facility_id", "customer_id")
            }
        steps.append(("decide", body))
        if rng.random() < 0.3:
            steps.append(("events", {"events": [_event(c, f"e-{i}", now_ms, rng)]}))
    return steps


def _line(c: int, now_ms: int, rng: random.Random) -> dict[str, Any]:
    return {
        "facility_id": f"f-{c}", "customer_id": f"c-{c}", "product": rng.choice(["revolving", "staff"]),
        "currency": "CNY", "limit": rng.choice([1_000, 5_000]), "outstanding": rng.choice([0, 300]),
        "as_of": instant(now_ms - 1_000), "apr": rng.choice([0.18, 0.21]), "status": "active",
        "granted_at": instant(now_ms - 400 * DAY_MS), "days_past_due": 0, "next_due_at": instant(now_ms + 9 * DAY_MS),
    }  # fmt: skip


def _event(c: int, event_id: str, at_ms: int, rng: random.Random) -> dict[str, Any]:
    kind = rng.choice(["drawdown", "repayment", "purchase", "login", "limit_change", "rate_change", "overdue"])
    body: dict[str, Any] = {
        "event_id": event_id, "customer_id": f"c-{c}", "facility_id": f"f-{c}", "kind": kind,
        "occurred_at": instant(at_ms), "channel": "app", "device_id": f"d-{c}",
        "counterparty_id": f"m-{rng.randrange(3)}",
    }  # fmt: skip
    if kind in ("drawdown", "repayment", "purchase"):
        body |= {"amount": rng.choice([20, 99.5, 400]), "currency": "CNY"}
    if kind in ("limit_change", "rate_change", "overdue"):
        body |= {"value": rng.choice([5.0, 35.0])}
    return body
