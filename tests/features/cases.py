"""Seeded histories for the feature tests: late, duplicate-timestamped, out of order, settled, empty and long."""

from __future__ import annotations

import random

from oracle import Case, D, H, M

from decision_service.core.event import KINDS, Event, Geo, code_key, facility_key

T = 1_790_000_123_457
CUTOFF_KINDS = (
    "drawdown", "drawdown", "drawdown", "drawdown", "drawdown", "repayment", "repayment", "due", "overdue", "login",
    "contact_change", "credential_change", "limit_change", "purchase",
)  # fmt: skip
AMOUNTS = (9_900, 19_900, 49_900, 100_000, 123_456, 500_000, 1_000_000, 4_990_000, 19_900_000, 29_999_900)
EDGES = (M, 5 * M, 10 * M, H, 24 * H, 48 * H, 72 * H, *(n * D for n in (7, 30, 60, 90, 120, 180, 360, 365, 455)))
ME = facility_key("line-1")
OTHER = facility_key("line-2")


def _instant(rng: random.Random, t: int) -> int:
    pick = rng.random()
    if pick < 0.15:
        return t - rng.choice(EDGES) + rng.choice((-1, 0, 1))
    if pick < 0.25:
        return t - rng.randrange(0, 2 * H)
    if pick < 0.3:
        return t + rng.randrange(0, 3 * D)  # recorded already, not yet due: no part of H(t)
    if pick < 0.4:
        return t - rng.randrange(0, 40) * 6 * H
    return t - int(rng.random() ** 2 * 500 * D)


def _event(rng: random.Random, key: int, t: int) -> Event:
    kind = rng.choice(CUTOFF_KINDS)
    code = {
        "credential_change": rng.choice((0, code_key("device_bind"), code_key("password"))),
        "contact_change": rng.choice((0, code_key("phone"), code_key("address"))),
    }.get(kind, rng.choice((0, code_key("travel"), code_key("home"), 77)))
    value = float("nan")
    if kind == "overdue" and rng.random() < 0.8:
        value = float(rng.randrange(1, 60))
    if kind == "limit_change":
        value = float(rng.choice((-1_000, 500, 20_000)))
    place = None
    if rng.random() < 0.5:
        place = Geo(31_000_000 + rng.randrange(0, 900_000), 121_000_000 + rng.randrange(0, 900_000), rng.randrange(16))
    status = rng.choice((1, 1, 1, 2, 3, 4, 5)) if kind in ("drawdown", "login") else rng.choice((1, 1, 1, 4))
    amount = 0 if kind in ("login", "due") else rng.choice(AMOUNTS) if rng.random() < 0.7 else rng.randrange(1, 10**7)
    return Event(
        key, KINDS[kind], status, _instant(rng, t), amount, value, rng.randrange(0, 4),
        rng.choice((ME, ME, ME, OTHER, 0)), rng.choice((0, 11, 12, 13)), rng.choice((0, 21, 22, 2**63 + 5)), code,
        place,
    )  # fmt: skip


def random_case(seed: int, n: int, *, zone: str = "Asia/Shanghai", ordered: bool = False) -> Case:
    """A case with `n` records; a tenth of them settle earlier draws, some twice."""
    rng = random.Random(seed)
    t = T + rng.randrange(0, 400 * D)
    events: list[Event] = []
    for key in range(1, n + 1):
        draws = [e for e in events[-40:] if e.kind == KINDS["drawdown"] and not e.settles]
        if draws and rng.random() < 0.1:
            draw = rng.choice(draws)
            at = draw.occurred_at_ms + rng.randrange(0, 3 * D)
            events.append(Event(key + 10**6, KINDS["drawdown"], rng.choice((1, 1, 4, 5)), at, settles=draw.key))
        elif events and rng.random() < 0.1:
            twin = _event(rng, key, t)
            events.append(
                Event(
                    key,
                    twin.kind,
                    twin.status,
                    events[-1].occurred_at_ms,
                    twin.amount_minor,
                    twin.value,
                    twin.channel,
                    twin.facility,
                    twin.device,
                    twin.counterparty,
                    twin.code,
                    twin.geo,
                )
            )
        else:
            events.append(_event(rng, key, t))
    if ordered:
        events.sort(key=lambda e: e.occurred_at_ms)
    limit = rng.choice((5_000_000, 20_000_000, 50_000_000))
    granted = t - rng.choice((5 * M, 20 * H, 30 * D, 60 * D, 89 * D, 180 * D, 360 * D, 455 * D, 900 * D))
    outstanding, reserved = rng.randrange(0, limit), rng.choice((0, 100_000))
    case = Case(
        events, t, rng.choice(AMOUNTS), zone, 100, ME, rng.choice((0, 11, 99)), rng.choice((0, 21, 2**63 + 5)),
        rng.choice((0, 77, code_key("travel"))), rng.randrange(0, 4),
        rng.choice((None, (31_200_000, 121_400_000, 3), (40_000_000, 116_000_000, 0))), granted, limit, outstanding,
        reserved, rng.choice((-(2**62), t - 100 * D)), rng.choice((None, 0.0, 7.0)), rng.choice((None, 3.0)),
    )  # fmt: skip
    case.inputs["customer.outstanding"] = (outstanding + rng.choice((0, 500_000))) / 100
    case.inputs["facility.age_d"] = (t - granted) / D
    return case
