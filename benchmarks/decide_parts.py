"""Where the microseconds of one decision go, in process: no store, no HTTP, no other process.

    python benchmarks/decide_parts.py                  # the table, half a minute
    python benchmarks/decide_parts.py --json FILE      # the same as JSON in a file, too

The customers are those of `customers.py`, as a service sees them after they were loaded: the log of each, its
device's, and a payee's log that hundreds of others fill (as many records as an entity's log keeps, in the order in
which customers were loaded and so not in that of time). Every decision is another customer's, so nothing is in the
processor's cache that would not be there in a service. Each figure is the median over
the customers, of each the best of some rounds: other work on the machine only ever adds.

    state      facility, position, inputs, strings        rules      rules, merge, reasons, the record
    features   kernel calls on all logs                   answer     the answer as JSON
    score      scorecards                                 frame      the record that is stored
"""

from __future__ import annotations

import argparse
import gc
import random
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import orjson

from customers import AMOUNTS, KINDS, drawdown, facility
from decision_service.answer import answer_bytes
from decision_service.api.parse import Clock, parse_decision, parse_facility
from decision_service.core import event as e
from decision_service.core.decide import STAGES, decide
from decision_service.core.limits import DAY_MS, HOUR_MS, SECOND_MS
from decision_service.core.links import LINKS_PER_ENTITY_MAX, Links, customer_key, entity_header, link_record
from decision_service.core.policy import Policy
from decision_service.core.request import DecisionRequest
from decision_service.core.state import CustomerState
from decision_service.decision_log import encode
from decision_service.policies.loading import load_policy

ROOT: Final = Path(__file__).parents[1]
PARTS: Final = (*STAGES, "answer", "frame")
NOW_MS: Final = 1_795_000_000_000
DECISION_ID: Final = "0007" + "5eed" * 8
PAYEES: Final = 400
DECIDED: Final = 6  # drawdowns that each customer's log holds of earlier rounds


@dataclass(frozen=True, slots=True)
class Case:
    """One decision to make."""

    request: DecisionRequest
    state: CustomerState
    now_ms: int


def records_of(number: int, events: int) -> list[bytes]:
    """A customer's records, oldest first: those of `customers.history` and, behind them, a few decided drawdowns."""
    rng = random.Random(number)
    instants = sorted(NOW_MS - rng.randrange(DAY_MS, 360 * DAY_MS) for _ in range(events))
    records = [_record(rng, number, at_ms, i) for i, at_ms in enumerate(instants)]
    for i in range(DECIDED):
        at_ms = NOW_MS - (DECIDED - i) * 7 * SECOND_MS
        records.append(
            e.Event(
                key=e.event_key(f"decided-{number}-{i}"), kind=e.DRAWDOWN, status=e.APPROVED if i < 4 else e.HELD,
                occurred_at_ms=at_ms, amount_minor=round(AMOUNTS[number % len(AMOUNTS)] * 100), channel=1,
                facility=e.facility_key(f"bf-{number}"), device=e.device_key(f"bd-{number}-0"),
                counterparty=e.counterparty_key(f"bm-{number % PAYEES}"), code=e.code_key("consumption"),
                geo=e.Geo(31_230_000, 121_470_000, 3), decided_at_ms=at_ms,
            ).pack()
        )  # fmt: skip
    return records


def _record(rng: random.Random, number: int, at_ms: int, i: int) -> bytes:
    return e.Event(
        key=e.event_key(f"b-{number}-{i}"), kind=e.KINDS[KINDS[i % len(KINDS)]], status=e.BOOKED, occurred_at_ms=at_ms,
        amount_minor=round(rng.choice(AMOUNTS) * 100), channel=1, facility=e.facility_key(f"bf-{number}"),
        device=e.device_key(f"bd-{number}-{rng.randrange(2)}"),
        counterparty=e.counterparty_key(f"bm-{rng.randrange(PAYEES)}"),
        geo=e.Geo(31_200_000 + rng.randrange(100_000), 121_400_000 + rng.randrange(100_000), 3),
    ).pack()  # fmt: skip


def cases(customers: int, events: int) -> list[Case]:
    """The decisions: one a customer."""
    logs = [records_of(number, events) for number in range(customers)]
    entering = [[link_record(r, customer_key(f"b-{n}")) for r in records] for n, records in enumerate(logs)]
    everybody = [record for records in entering for record in records]
    clock = Clock(NOW_MS, SECOND_MS, DAY_MS)
    made = []
    for number, records in enumerate(logs):
        asked = drawdown(number, f"bench-{number:010d}", NOW_MS)
        request, _ = parse_decision(orjson.dumps(asked), clock)
        line = parse_facility(orjson.dumps(facility(number, NOW_MS - 3_600_000)), request.facility_id, clock)
        own = random.Random(-number)
        others = own.sample(everybody, min(LINKS_PER_ENTITY_MAX - 4, len(everybody)))
        device = entering[number][::2]
        links = Links(entity_header("device") + b"".join(device), entity_header("payee") + b"".join(others), None)
        state = CustomerState(events, e.header() + b"".join(records), {line.facility_id: line}, links=links)
        made.append(Case(request, state, NOW_MS))
    return made


def measure(policy: Policy, made: list[Case], rounds: int) -> dict[str, float]:
    """Microseconds of each part, and of the whole without a clock in between: of each case the best round, and of
    those the median."""
    clock = time.perf_counter_ns
    best = np.full((len(made), len(PARTS) + 1), np.iinfo(np.int64).max)
    marks: list[int] = []

    def mark(_stage: int) -> None:
        marks.append(clock())

    for _ in range(rounds):
        for at, case in enumerate(made):
            marks.clear()
            marks.append(clock())
            decision = decide(case.request, case.state, policy, case.now_ms, DECISION_ID, mark)
            marks.append(clock())
            answer = answer_bytes(decision, 1_800, 0)
            marks.append(clock())
            assert decision.trace is not None
            encode(decision, decision.trace, case.request, answer, {})
            marks.append(clock())
            del marks[len(STAGES)]  # what is left to do after the last stage is part of it
            best[at, :-1] = np.minimum(best[at, :-1], np.diff(marks))
        for at, case in enumerate(made):
            began = clock()
            decision = decide(case.request, case.state, policy, case.now_ms, DECISION_ID)
            assert decision.trace is not None
            encode(decision, decision.trace, case.request, answer_bytes(decision, 1_800, 0), {})
            best[at, -1] = min(best[at, -1], clock() - began)
    return dict(zip((*PARTS, "whole"), (np.median(best, axis=0) / 1_000).tolist(), strict=True))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="Microseconds of one decision by part, in process.")
    parser.add_argument("--customers", type=int, default=300)
    parser.add_argument("--events", type=int, default=200, help="events a customer starts with")
    parser.add_argument("--rounds", type=int, default=20, help="decisions of each customer")
    parser.add_argument("--rules", type=Path, default=ROOT / "rules")
    parser.add_argument("--models", type=Path, default=ROOT / "models")
    parser.add_argument("--json", type=Path, metavar="FILE")
    args = parser.parse_args()
    policy = load_policy(args.rules, args.models, "Asia/Shanghai", 48 * HOUR_MS)[0]
    made = cases(args.customers, args.events)
    measure(policy, made, 2)
    gc.collect()
    gc.freeze()
    report = measure(policy, made, args.rounds)
    for part, us in report.items():
        print(f"{part:<10}{us:>9.1f} us")
    if args.json is not None:
        args.json.write_bytes(orjson.dumps({"decide_parts_us": report}, option=orjson.OPT_INDENT_2))


if __name__ == "__main__":
    main()
