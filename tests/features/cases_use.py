"""Histories in which money moves on: outflows, returns, salaries, scores, complaints, evidence, contact changes."""

from __future__ import annotations

import random
from dataclasses import replace

from cases import random_case
from oracle import Case, D, H, M

from decision_service.core.event import KINDS, Event, code_key

PARTIES = (21, 22, 23, 2**63 + 5)
_CODES = {
    "purchase": ("", "securities", "travel", "crypto"),
    "transfer_out": ("", "property", "lending", "rent"),
    "transfer_in": ("", "self", "related", "salary", "refund"),
    "income": ("", "wage"),
    "other": ("b_score", "b_score", "loan_score", "complaint", "use_evidence"),
    "contact_change": ("", "phone", "address", "employer"),
    "login": ("",),
    "drawdown": ("", "travel", "business"),
}
_KINDS = ("drawdown", "drawdown", "purchase", "transfer_out", "transfer_in", "transfer_in", "income", "other", "other",
          "contact_change", "login")  # fmt: skip
_EDGES = (H, 24 * H, 72 * H, 7 * D, 30 * D, 40 * D, 45 * D, 70 * D, 90 * D, 130 * D, 180 * D, 365 * D)
_ATTRIBUTES = {
    "income_monthly": (0.0, 8_000.0), "ext_inq_cnt_30d": (0.0, 4.0), "ext_inq_cnt_prior_90d": (0.0, 5.0),
    "ext_debt": (0.0, 90_000.0), "ext_debt_90d_ago": (0.0, 60_000.0), "ext_collateral_value": (0.0, 500_000.0),
    "geo_ip_province": (31.0, 44.0), "geo_gps_province": (31.0,), "geo_ip_confidence": (0.79, 0.8, 0.95),
    "payments_restricted_share_72h": (0.25,), "payments_restricted_share_30d": (0.5,), "payee_restricted": (0.0, 1.0),
}  # fmt: skip


def _moved(rng: random.Random, event: Event, t: int, draws: list[Event]) -> Event:
    """The event as one of the kinds of this family; amounts, payees and instants often meet those of a draw."""
    kind = rng.choice(_KINDS)
    at = event.occurred_at_ms
    if rng.random() < 0.2:
        at = t - rng.choice(_EDGES) + rng.choice((-1, 0, 1))
    amount, party = event.amount_minor, rng.choice((0, *PARTIES))
    if draws and rng.random() < 0.5:
        draw = rng.choice(draws)
        at = draw.occurred_at_ms + rng.choice((0, M, 5 * H, 7 * D - 1, 7 * D, rng.randrange(0, 10 * D)))
        amount = rng.choice((draw.amount_minor, draw.amount_minor * 4 // 5, draw.amount_minor * 4 // 5 - 1))
        party = rng.choice((draw.counterparty, party))
    code = rng.choice(_CODES[kind])
    about = rng.choice(draws).key if kind == "other" and draws and rng.random() < 0.7 else 0
    value = float(rng.randrange(400, 800)) if kind == "other" and rng.random() < 0.9 else float("nan")
    return replace(
        event, kind=KINDS[kind], occurred_at_ms=at, amount_minor=max(amount, 0), value=value, counterparty=party,
        code=code_key(code) if code else 0, settles=about,
        status=event.status if kind == "drawdown" else rng.choice((1, 1, 1, 4)),
    )  # fmt: skip


def random_payee_log(seed: int, case: Case) -> list[Event]:
    """What everybody did with one payee, in recorded order; often nothing that says what it deals in."""
    rng = random.Random(seed)
    trades = rng.choice((("",), ("travel",), ("", "retail", "crypto"), ("hotel", "equipment"), ("lending",)))
    kinds = ("purchase", "transfer_out", "transfer_in", "drawdown")
    edges = (0, -1, 1, 365 * D, 365 * D - 1, 30 * D)
    return [
        Event(k + 1, KINDS[rng.choice(kinds)], rng.choice((1, 1, 4)), case.t - rng.choice(edges), 100,
              counterparty=case.party, code=code_key(code) if (code := rng.choice(trades)) else 0)
        for k in range(rng.choice((0, 1, 3, 20)))
    ]  # fmt: skip


def random_use_case(seed: int, n: int, *, zone: str = "Asia/Shanghai") -> Case:
    """`cases.random_case` with two thirds of its events moved into this family, and attributes that may be missing."""
    rng = random.Random(seed)
    case = random_case(seed, n, zone=zone)
    settled = {e.settles for e in case.events}
    events: list[Event] = []
    for event in case.events:
        draws = [e for e in events if e.kind == KINDS["drawdown"] and not e.settles]
        loose = not event.settles and event.key not in settled and rng.random() < 0.67
        events.append(_moved(rng, event, case.t, draws) if loose else event)
    kept = {name: rng.choice(values) for name, values in _ATTRIBUTES.items() if rng.random() < 0.6}
    amount = rng.choice((case.amount, 30_000_000, 50_000_000, 29_999_999, 1_900_000))
    code = rng.choice((0, code_key("travel"), code_key("business"), code_key("equipment")))
    party = rng.choice((0, *PARTIES))
    scored = sorted((e for e in events if e.code == code_key("loan_score")), key=lambda e: e.occurred_at_ms)
    loan = rng.choice((0, *[e.settles for e in scored if e.occurred_at_ms <= case.t][-3:]))
    inputs = case.inputs | kept
    return replace(case, events=events, amount=amount, code=code, party=party, inputs=inputs, loan=loan)
