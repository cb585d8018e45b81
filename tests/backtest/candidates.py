"""The small policies that the archive of these tests was decided with, and is backtested with."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

from backtest_cases import ATTRIBUTES, FALLBACK, FEATURES
from lived_archive import RESERVATION_MS, ZONE, Made

from decision_service.backtest.running import Plan

RULES = """
rule_set: drawdown
scene: drawdown
rules:
  - {id: over_limit, when: request.amount > facility.available, on_null: hold, then: {hold: block}, reason: RC04}
  - {id: listed, when: request.customer_id in list.block, on_null: hold, then: {hold: review}, reason: RC01}
  - {id: busy, when: vel_30d >= %d, on_null: skip, then: {hold: step_up}, reason: RC11}
  - {id: low, when: behaviour.points < 540, on_null: skip, then: {hold: review}, reason: RC30}
  - {id: weak, when: x1 > 0.5, on_null: skip, then: {cap_draw: 0.5 * request.amount}, reason: RC30}
  - {id: dear, when: x2 > 0.9, on_null: skip, then: {price: {add_bps: 100}}, reason: RC33}
  - {id: good, when: x2 < 0.3, on_null: skip, then: {limit: {raise: 0.1}}}
  - {id: fine, when: request.amount > 0, on_null: skip, then: approve}
%s
guardrails: {apr_cap: 0.24, price_cooldown: 90d, limit_raise_cooldown: 180d, limit_step_max: 0.2}
"""


def write(folder: Path, busy: int = 9, more: str = "", features: str = FEATURES) -> Path:
    """A rules folder."""
    (folder / "features").mkdir(parents=True)
    (folder / "features" / "f.yaml").write_text(features)
    (folder / "attributes.yaml").write_text(ATTRIBUTES)
    (folder / "policy.yaml").write_text('label: "t"\nlists: [block]\n')
    (folder / "drawdown.yaml").write_text(RULES % (busy, more) + FALLBACK)
    return folder


def attributes(rng: random.Random) -> Any:
    """Some of them, now and then."""
    values = {"x1": rng.random(), "x2": rng.choice([0.1, 0.5, 0.95]), "kind": rng.choice(["a", "b"])}
    return {name: value for name, value in values.items() if rng.random() < 0.6}


def plan_of(made: Made, rules: Path, **more: Any) -> Plan:
    """A backtest of everything, with the scorecard that decided unless another is given."""
    models = more.pop("models", made.models)
    return Plan(rules, models, ZONE, RESERVATION_MS, made.url, made.first_ms, made.last_ms, **more)
