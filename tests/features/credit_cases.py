"""Histories of a line for the tests of families U, Y and K: dues and repayments on and around the same local days,
limit changes, arrears, income and touches, told late and out of order, failed and reversed, on several lines.
"""

from __future__ import annotations

import random

from cases import EDGES, ME, OTHER, T
from hypothesis import strategies as st
from oracle import Case, D, H, M

from decision_service.core.event import CHANNELS, KINDS, Event, code_key

ZONES = ("Asia/Shanghai", "Europe/Berlin", "America/New_York")
SPRING = 1_774_746_000_000  # 2026-03-29 01:00Z: Berlin's clocks go from 02:00 to 03:00
AUTUMN = 1_792_890_000_000  # 2026-10-25 01:00Z: Berlin's clocks go from 03:00 to 02:00
CATEGORIES = {
    "repayment": ("auto_debit", "third_party", ""),
    "drawdown": ("cash", "travel", ""),
    "transfer_in": ("salary", "gift"),
    "income": ("salary", "bonus", ""),
    "touch": ("offer", "activation", "retention", "response", "contact", ""),
}
KIND_NAMES = (
    "drawdown", "drawdown", "drawdown", "repayment", "repayment", "repayment", "due", "due", "overdue", "limit_change",
    "income", "transfer_in", "touch", "inquiry", "contact_change",
)  # fmt: skip
ATTRIBUTES = (
    "ext_card_balance", "ext_card_limit", "ext_active_elsewhere_delta_90d", "mkt_quote_apr", "income_monthly",
    "facility.due_amount",
)  # fmt: skip


def line_event(rng: random.Random, key: int, at: int) -> Event:
    """One event of a line's life, at an instant given."""
    kind = rng.choice(KIND_NAMES)
    category = rng.choice(CATEGORIES.get(kind, ("",)))
    status = rng.choice((1, 1, 1, 1, 2, 4, 5)) if kind in ("drawdown", "repayment", "limit_change", "income") else 1
    amount = rng.choice((0, 10_000, 30_000, 30_000, 50_000, 100_000, 123_457, 400_000))
    value = float("nan")
    if kind == "overdue" and rng.random() < 0.9:
        value = float(rng.choice((0, 1, 5, 29, 30, 31, 60, 61, 90, 91)))
    elif kind == "limit_change" and rng.random() < 0.9:
        value = float(rng.choice((-20_000, -500, 500, 20_000, 70_000)))
    elif kind == "due" and rng.random() < 0.6:
        value = float(rng.choice((0, 50, 100, 300)))
    return Event(
        key, KINDS[kind], status, at, amount, value, rng.choice((0, 1, CHANNELS["atm"])),
        rng.choice((ME, ME, ME, ME, OTHER, 0)), code=code_key(category) if category else 0,
    )  # fmt: skip


def an_instant(rng: random.Random, t: int) -> int:
    """Around window edges, around due days a month apart, anywhere; now and then after `t`."""
    pick = rng.random()
    if pick < 0.2:
        return t - rng.choice((*EDGES, 450 * D, 720 * D)) + rng.choice((-1, 0, 1))
    if pick < 0.7:
        return t - rng.randrange(0, 14) * 30 * D + rng.choice((-2 * D, -D, -H, 0, 0, 5 * M, H, D, 9 * D))
    return t - int(rng.random() ** 2 * 500 * D)


def paid_terms(rng: random.Random, t: int) -> list[Event]:
    """Up to 14 terms a month apart, each with what some payer would pay on it: in time, late, early, part, nothing."""
    events = []
    shift, usual = rng.choice((0, 0, H, 12 * H, 3 * D)), rng.choice((0, 0, -2 * D, 6 * H, 20 * D))
    for k in range(rng.randrange(0, 15)):
        due = t - 30 * D * k - shift
        amount = rng.choice((30_000, 50_000))
        minimum = rng.choice((float("nan"), 100.0))
        events.append(Event(10_000 + k, KINDS["due"], 1, due, amount, minimum, facility=ME))
        pays = rng.choice((amount, amount, amount, amount // 2, 10_500, 2 * amount, 0))
        if pays:
            paid_at = due + (usual if rng.random() < 0.8 else rng.choice((-9 * D, 45 * D)))
            events.append(Event(20_000 + k, KINDS["repayment"], 1, paid_at, pays, facility=ME))
    return events


def line_case(seed: int, n: int, *, zone: str = "Asia/Shanghai", t: int | None = None, ordered: bool = False) -> Case:
    """A case with `n` events, every third of them in the same millisecond as the one before or out of order."""
    rng = random.Random(seed)
    t = T + rng.randrange(0, 400 * D) if t is None else t
    events: list[Event] = paid_terms(rng, t) if rng.random() < 0.6 else []
    for key in range(1, n + 1):
        at = events[-1].occurred_at_ms if events and rng.random() < 0.1 else an_instant(rng, t)
        events.append(line_event(rng, key, at))
    if ordered:
        events.sort(key=lambda e: e.occurred_at_ms)
    limit = rng.choice((1_000_000, 5_000_000, 20_000_000))
    outstanding = rng.choice((0, 0, rng.randrange(0, limit + 1), limit * 95 // 100))
    granted = t - rng.choice((H, 3 * D, 5 * D, 8 * D, 45 * D, 89 * D, 180 * D, 365 * D, 900 * D)) - rng.randrange(0, D)
    case = Case(
        events, t, 100_000, zone, 100, ME, granted=granted, limit=limit, outstanding=outstanding,
        days_past_due=rng.choice((None, 0.0, 7.0)), days_to_due=rng.choice((None, -3.0, 12.0, 30.0, 31.0)),
    )  # fmt: skip
    case.inputs |= {
        "customer.outstanding": (outstanding + rng.choice((0, 500_000))) / 100,
        "customer.limit": limit / 100 + rng.choice((0, 20_000)),
        "facility.age_d": (t - granted) / D,
        "facility.apr": 0.18,
    }
    for name in ATTRIBUTES:
        if rng.random() < 0.6:
            case.inputs[name] = rng.choice((-3.0, 0.0, 0.12, 25.0, 8_000.0))
    return case


@st.composite
def line_cases(draw: st.DrawFn) -> Case:
    """Any history of few events in any zone, often right after the clocks changed."""
    seed, n = draw(st.integers(0, 10**9)), draw(st.integers(0, 40))
    zone = draw(st.sampled_from(ZONES))
    changed = draw(st.sampled_from((None, SPRING, AUTUMN)))
    t = None if changed is None else changed + draw(st.integers(0, 40 * D))
    return line_case(seed, n, zone=zone, t=t, ordered=draw(st.booleans()))
