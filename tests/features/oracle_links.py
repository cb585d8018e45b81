"""The definition of every feature of a device, payee, network, facility or loan: plain Python over all customers.

This file *is* the definition; it shares nothing with the kernel, the plans or the YAML, and it knows no entity logs: it
looks through what everybody did. Everything is in recorded order. Money in integer minor units; `None` is null.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from decision_service.core.event import APPROVED, BOOKED, HELD, KIND_NAMES, Event, code_key

H, D = 3_600_000, 86_400_000
WINDOWS = {"1h": H, "24h": 24 * H, **{f"{n}d": n * D for n in (1, 7, 8, 14, 30, 37, 90, 180, 365)}}
FRAUD = code_key("fraud")
Value = float | None


@dataclass(frozen=True)
class Recorded:
    """One event of one customer, with the network it came from (0: unknown)."""

    customer: int
    event: Event
    net: int = 0


@dataclass(frozen=True)
class Question:
    """Who asks at `t`, naming which facility, loan, device, payee and network (0: none); which logs were not read."""

    t: int
    customer: int
    facility: int
    loan: int = 0
    device: int = 0
    payee: int = 0
    net: int = 0
    unread: frozenset[str] = frozenset()
    trimmed_through: dict[str, int] = field(default_factory=dict)
    scale: int = 100

    def through(self, grain: str) -> int:
        """The newest instant that the log of a grain has forgotten."""
        return self.trimmed_through.get(grain, -(2**62))


@dataclass(frozen=True)
class Fact:
    """An event as it looks at `t`: with what became of it and what it is called by then."""

    recorded: Recorded
    status: int
    label: int

    @property
    def event(self) -> Event:
        return self.recorded.event

    @property
    def at(self) -> int:
        return self.event.occurred_at_ms

    @property
    def kind(self) -> str:
        return KIND_NAMES[self.event.kind]

    @property
    def concerns(self) -> int:
        """The loan: a draw is its own, another event names the draw it concerns."""
        return self.event.key if self.kind == "drawdown" else self.event.settles

    @property
    def party(self) -> int:
        return 0 if self.event.settles else self.event.counterparty


def newest(found: Iterable[tuple[int, int]], otherwise: int) -> int:
    """The value with the latest instant, of one instant the last one."""
    best: tuple[int, int] | None = None
    for at, value in found:
        if best is None or at >= best[0]:
            best = at, value
    return otherwise if best is None else best[1]


def history(world: list[Recorded], t: int) -> list[Fact]:
    """What everybody did until `t`, in order of time and then of recording."""
    facts = []
    for seen in world:
        event = seen.event
        if event.occurred_at_ms > t or (event.settles and KIND_NAMES[event.kind] == "drawdown"):
            continue
        about = [
            other.event
            for other in world
            if other.customer == seen.customer and other.event.settles == event.key and other.event.occurred_at_ms <= t
        ]
        status = event.status
        if KIND_NAMES[event.kind] == "drawdown":
            settlements = [o for o in about if KIND_NAMES[o.kind] == "drawdown"]
            status = newest(((o.occurred_at_ms, o.status) for o in settlements), status)
        labels = [o for o in about if KIND_NAMES[o.kind] == "label"]
        facts.append(Fact(seen, status, newest(((o.occurred_at_ms, o.code) for o in labels), 0)))
    return sorted(facts, key=lambda fact: fact.at)


def window(facts: list[Fact], t: int, width: int, delay: int = 0) -> list[Fact]:
    return [fact for fact in facts if t - delay - width < fact.at <= t - delay]


def ok(fact: Fact) -> bool:
    return fact.kind == "drawdown" and fact.status in (BOOKED, APPROVED)


def paying(fact: Fact) -> bool:
    return fact.kind in ("drawdown", "purchase", "transfer_out")


def customers(facts: Iterable[Fact]) -> float:
    return float(len({fact.recorded.customer for fact in facts}))


def reach(name: str, through: int, t: int, covered: tuple[str, ...], *more: str) -> dict[str, Value]:
    """How far back an entity's log reaches, the newest instant it has forgotten being `through`."""
    out: dict[str, Value] = {}
    for w in (*covered, *more):
        out[f"hist_{name}_truncated_{w}"] = float(through > t - WINDOWS[w])
    for w in covered:
        out[f"hist_{name}_cov_{w}"] = min(max(t - through, 0), WINDOWS[w]) / WINDOWS[w]
    return out


def risk(name: str, facts: list[Fact], t: int) -> dict[str, Value]:
    """Payments in (t-7d-W, t-7d], and the share of them that is called fraud at t."""
    out: dict[str, Value] = {}
    for w in ("1d", "7d", "30d"):
        paid = [fact for fact in window(facts, t, WINDOWS[w], 7 * D) if paying(fact)]
        fraud = [fact for fact in paid if fact.label == FRAUD]
        out[f"rsk_{name}_cnt_{w}"] = float(len(paid))
        out[f"rsk_{name}_fraud_share_{w}"] = len(fraud) / len(paid) if paid else None
    return out


def device_features(facts: list[Fact], ask: Question) -> dict[str, Value]:
    mine = [fact for fact in facts if fact.event.device == ask.device]
    out = reach("dev", ask.through("device"), ask.t, ("24h", "7d", "30d"), "8d", "14d", "37d") | risk(
        "dev", mine, ask.t
    )
    for w in ("24h", "7d", "30d"):
        seen = [fact for fact in window(mine, ask.t, WINDOWS[w]) if fact.kind != "label"]
        out[f"vel_dev_cust_cnt_{w}"] = customers(seen)
    return out


def payee_features(facts: list[Fact], ask: Question) -> dict[str, Value]:
    mine = [fact for fact in facts if fact.party == ask.payee]
    out = reach("payee", ask.through("payee"), ask.t, ("24h", "7d", "30d"), "8d", "14d", "37d") | risk(
        "payee", mine, ask.t
    )
    for w in ("24h", "7d"):
        out[f"vel_payee_cust_cnt_{w}"] = customers(filter(paying, window(mine, ask.t, WINDOWS[w])))
    out["use_same_payee_multi_cust_7d"] = customers(filter(ok, window(mine, ask.t, 7 * D)))
    return out


def net_features(facts: list[Fact], ask: Question) -> dict[str, Value]:
    mine = [fact for fact in facts if fact.recorded.net == ask.net]
    out = reach("ip", ask.through("ip"), ask.t, ("1h", "24h"))
    for w in ("1h", "24h"):
        seen = [fact for fact in window(mine, ask.t, WINDOWS[w]) if fact.kind != "label"]
        out[f"vel_ip_cust_cnt_{w}"] = customers(seen)
    return out


def money(facts: Iterable[Fact], ask: Question) -> float:
    return sum(fact.event.amount_minor for fact in facts) / ask.scale


def since(facts: list[Fact], t: int) -> Value:
    return (t - facts[-1].at) / 1_000 if facts else None


def facility_features(facts: list[Fact], ask: Question) -> dict[str, Value]:
    mine = [f for f in facts if f.recorded.customer == ask.customer and f.event.facility == ask.facility]
    repaid = [f for f in mine if f.kind == "repayment" and f.status == BOOKED]
    out: dict[str, Value] = {"fac_last_ok_gap_s": since([f for f in mine if ok(f)], ask.t)}
    for w in ("7d", "30d", "90d", "365d"):
        drawn = [f for f in window(mine, ask.t, WINDOWS[w]) if ok(f)]
        out[f"fac_ok_cnt_{w}"], out[f"fac_ok_amt_{w}"] = float(len(drawn)), money(drawn, ask)
    for w in ("24h", "7d", "30d"):
        failed = [f for f in window(mine, ask.t, WINDOWS[w]) if f.kind == "drawdown" and f.status >= HELD]
        out[f"fac_fail_cnt_{w}"] = float(len(failed))
    for w in ("30d", "90d"):
        out[f"fac_repaid_amt_{w}"] = money(window(repaid, ask.t, WINDOWS[w]), ask)
    return out


def episodes(values: list[float]) -> float:
    """Rows of rising values."""
    return float(sum(1 for i, v in enumerate(values) if i == 0 or not v > values[i - 1]))


def divided(a: Value, b: Value) -> Value:
    return None if a is None or b is None or b == 0 else a / b


def loan_features(facts: list[Fact], ask: Question) -> dict[str, Value]:
    mine = [f for f in facts if f.recorded.customer == ask.customer and f.concerns == ask.loan]
    drawn = [f for f in mine if ok(f)]
    repaid = [f for f in mine if f.kind == "repayment" and f.status == BOOKED]
    due = [f for f in mine if f.kind == "due"]
    late = [f for f in mine if f.kind == "overdue" and f.event.value == f.event.value]
    amount = money(drawn, ask) if drawn else None
    paid, fallen = money(repaid, ask), money(due, ask)
    out: dict[str, Value] = {
        "lon_amt": amount, "lon_repaid_amt": paid, "lon_repaid_cnt": float(len(repaid)),
        "lon_last_repaid_gap_s": since(repaid, ask.t), "lon_due_amt": fallen, "lon_due_cnt": float(len(due)),
        "lon_age_d": (ask.t - drawn[0].at) / D if drawn else None,
        "lon_left_amt": None if amount is None else max(amount - paid, 0.0),
        "lon_repaid_ratio": divided(paid, amount), "lon_repaid_over_due": divided(paid, fallen),
        "lon_repaid_ratio__new": None if amount is None else float(amount == 0 < paid),
        "lon_repaid_over_due__new": float(fallen == 0 < paid),
    }  # fmt: skip
    for w in ("90d", "180d", "365d"):
        out[f"lon_dpd_max_{w}"] = max((f.event.value for f in window(late, ask.t, WINDOWS[w])), default=0.0)
    for label, width in (("3m", 90 * D), ("6m", 180 * D), ("12m", 360 * D)):
        out[f"lon_od_cnt_{label}"] = episodes([f.event.value for f in window(late, ask.t, width)])
    return out


def link_features(world: list[Recorded], ask: Question) -> dict[str, Value]:
    """Every feature of the grains beside the customer's; null where nobody is named or the log was not read."""
    facts = history(world, ask.t)
    parts = (
        ("device", ask.device, device_features), ("payee", ask.payee, payee_features), ("ip", ask.net, net_features),
        ("loan", ask.loan, loan_features), ("facility", ask.facility, facility_features),
    )  # fmt: skip
    out: dict[str, Value] = {}
    for grain, named, features in parts:
        values = features(facts, ask)
        out |= values if named and grain not in ask.unread else dict.fromkeys(values)
    return out
