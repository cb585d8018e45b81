"""A plan looks no further back, and orders no more, than its features ask for; its answers do not depend on that."""

from __future__ import annotations

import random

import numpy as np
import pytest
from kernel_runner import SLOTS, catalogue_of, shipped_catalogue

from decision_service.core import inputs as q
from decision_service.core.event import BOOKED, KINDS, Event, code_key, words_of
from decision_service.core.features import opcodes as o
from decision_service.core.features.plan import FeaturePlan, compile_plan
from decision_service.core.limits import DAY_MS
from decision_service.core.links import entity_header, link_record
from decision_service.core.source import Findings
from decision_service.core.zone import zone_named

T_MS = 1_790_000_000_000
PAYEE = 77
OF_A_PAYEE = ("vel_payee_cust_cnt_24h", "use_payee_restricted_cnt", "use_payee_known_cnt")
MADE = """
segments:
  draw: kind == "drawdown"
features:
  last: {agg: last, of: draw, value: amount, windows: [24h], grain: payee, null: N2, unit: money, en: a, zh: a}
  ewma: {agg: ewma, of: draw, value: amount, half_life: 3, windows: [7d], grain: payee, null: N2, unit: money, en: a, zh: a}
  far: {agg: sum, of: draw, value: amount, windows: [7d, 30d], grain: payee, null: Z, unit: money, en: a, zh: a}
  late: {agg: count, of: draw, delay: 7d, windows: [1d, 30d], grain: payee, null: Z, unit: n, en: a, zh: a}
  hhi: {agg: hhi, of: draw, by: customer, windows: [7d], grain: payee, null: N1, unit: ratio, en: a, zh: a}
"""  # noqa: E501
EDGES_D = (1, 7, 8, 30, 31, 37, 365)


def plan_of(*names: str, made: bool = False) -> FeaturePlan:
    """A plan of these features of a payee."""
    findings = Findings()
    catalogue = catalogue_of(MADE, findings) if made else shipped_catalogue()
    assert not findings.errors, [d.render() for d in findings.errors]
    return compile_plan(catalogue, names, SLOTS, len(SLOTS), zone_named("Asia/Shanghai"))


def reaches(plan: FeaturePlan) -> tuple[int, int, int, int]:
    """Days back that are looked at, ordered and grouped (-1 for everything), and whether the plan is slim."""
    program = plan._program
    windows = program[program[o.P_WINDOWS] :].tolist()
    days = [-1 if at < 0 else windows[at] // DAY_MS for at in program[[o.P_REACH, o.P_ORDERED, o.P_GROUPED]].tolist()]
    return days[0], days[1], days[2], int(program[o.P_SLIM])


def row() -> q.RequestWords:
    """A request that names a payee."""
    row = np.zeros(q.REQUEST_WORDS, np.int64)
    row[q.T_MS], row[q.SCALE], row[q.COUNTERPARTY], row[q.CUSTOMER] = T_MS, 100, PAYEE, 5
    row[q.GRANTED_MS], row[q.UTC_OFFSET_MS] = T_MS - 900 * DAY_MS, 8 * 3_600_000
    return row


def records(rng: random.Random, count: int) -> list[bytes]:
    """Records of several customers at and around the edges of windows, in no order of time."""
    made = []
    for key in range(1, count + 1):
        edge = rng.choice(EDGES_D) * DAY_MS + rng.choice((-1, 0, 0, 1))
        age_ms = edge if rng.random() < 0.3 else rng.randrange(-DAY_MS, 400 * DAY_MS >> rng.randrange(9))
        event = Event(
            key=key, kind=KINDS[rng.choice(("drawdown", "purchase", "transfer_out", "label", "login"))], status=BOOKED,
            occurred_at_ms=T_MS - age_ms, amount_minor=rng.randrange(1, 10**6), counterparty=PAYEE,
            code=code_key(rng.choice(("gambling", "groceries", "stocks"))),
        )  # fmt: skip
        made.append(link_record(event.pack(), rng.choice((5, 6, 7, 2**63 + 9))))
    return made


def computed(plan: FeaturePlan, log: list[bytes]) -> bytes:
    """What the plan says of a payee's log."""
    numbers = np.zeros(len(SLOTS) + len(plan.names))
    plan.compute(words_of(entity_header("payee") + b"".join(log)), row(), numbers)
    return numbers[len(SLOTS) :].tobytes()


def test_what_the_shipped_rules_ask_of_a_payee_orders_one_day_of_a_year() -> None:
    """Two counts over a year and the customers of a day."""
    assert reaches(plan_of(*OF_A_PAYEE)) == (365, 1, 1, 1)


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (("far_7d", "far_30d"), (30, 7, 7, 0)),  # nothing needs order; 7 days are the narrowest window
        (("last_24h", "far_30d"), (30, 30, 1, 0)),  # of one segment and value: one stream lists the members of both
        (("late_1d", "late_30d"), (37, 7, 7, 1)),  # the delay is a window, too
        (("hhi_7d",), (-1, -1, -1, 0)),  # adds up shares in the order in which groups were first seen
    ],
)
def test_a_plan_looks_back_as_far_as_its_features(names: tuple[str, ...], found: tuple[int, ...]) -> None:
    """Whatever may look beyond its window asks for everything."""
    assert reaches(plan_of(*names, made=True)) == found


@pytest.mark.parametrize(
    ("names", "made"),
    [
        (OF_A_PAYEE, False), (("rsk_payee_cnt_1d", "rsk_payee_cnt_30d", "vel_payee_cust_cnt_7d"), False),
        (("last_24h", "far_7d", "far_30d", "late_1d", "late_30d"), True), (("ewma_7d", "far_30d"), True),
        (("hhi_7d",), True),
    ],
)  # fmt: skip
def test_the_order_of_arrival_makes_no_difference(names: tuple[str, ...], made: bool) -> None:
    """A log as it arrived and the same log in order of time answer with the same bits."""
    plan = plan_of(*names, made=made)
    for seed in range(150):
        log = records(random.Random(seed), (0, 1, 2, 9, 60, 300)[seed % 6])
        in_time = sorted(log, key=lambda record: int.from_bytes(record[:8], "little", signed=True))
        assert computed(plan, log) == computed(plan, in_time), seed
