"""The rules of the assembled stack: rule-engine, every rule parsed once, and the merging of what they ask for."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import rule_engine
import yaml

RULES: Final = Path(__file__).with_name("stack_rules.yaml")
_HOLDS: Final = ("step_up", "review", "block")  # the least severe first
Facts = Mapping[str, float | str | None]


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule. `cap` gives the most it lets be paid out, in yuan; `by_score` says whether it looks at the score."""

    name: str
    matches: Callable[[Facts], bool]
    hold: str | None
    cap: Callable[[Facts], Decimal] | None
    approves: bool
    reason: str
    by_score: bool


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the rules came to. `blame_score`: the answer is adverse because of a rule that looks at the score."""

    decision: str
    approved_cents: int
    hold: str | None
    reasons: list[tuple[str, str]]
    blame_score: bool


def load_rules(path: Path = RULES) -> list[Rule]:
    """The rules of a file, parsed."""
    return [_rule(entry) for entry in yaml.safe_load(path.read_text(encoding="utf-8"))]


def _rule(entry: dict[str, Any]) -> Rule:
    then = entry["then"]
    effect = then if isinstance(then, dict) else {}
    cap = rule_engine.Rule(str(effect["cap_draw"])).evaluate if "cap_draw" in effect else None
    return Rule(
        entry["id"], rule_engine.Rule(entry["when"]).matches, effect.get("hold"), cap, then == "approve",
        entry.get("reason", ""), "score_" in entry["when"] and entry.get("reason") != "RC90",
    )  # fmt: skip


def facts_of(*values: Mapping[str, float | str | None]) -> dict[str, float | str | None]:
    """Everything rules may ask for; NaN becomes null, which is what the library can be asked about."""
    facts: dict[str, float | str | None] = {}
    for part in values:
        for name, value in part.items():
            facts[name] = value if value is None or isinstance(value, str) else _number(value)
    return facts


def _number(value: float) -> float | None:
    plain = float(value)
    return None if math.isnan(plain) else plain


def decide(rules: list[Rule], facts: Facts, amount_cents: int) -> Outcome:
    """One outcome of all rules that match: the most severe hold, the smallest cap, every reason."""
    fired = [rule for rule in rules if rule.matches(facts)]
    caps = [(rule, max(0, math.floor(float(rule.cap(facts)) * 100 + 1e-6))) for rule in fired if rule.cap is not None]
    binding = [(rule, cap) for rule, cap in caps if cap < amount_cents]
    asked = [rule for rule in fired if rule.hold or any(rule is capped for capped, _ in binding)]
    holds = [rule.hold for rule in fired if rule.hold]
    approved = 0 if holds else min([cap for _, cap in binding], default=amount_cents)
    hold = max(holds, key=_HOLDS.index) if holds else "review" if approved == 0 else None
    reasons = sorted({(rule.reason, f"rule:{rule.name}") for rule in asked if rule.reason})
    if not holds and not any(rule.approves for rule in fired):
        hold, approved, reasons = "review", 0, [*reasons, ("RC90", "policy:no_outcome")]
    capped = [rule for rule, cap in binding if not hold or cap <= 0]
    adverse = [rule for rule in fired if rule.hold] + capped
    decision = "hold" if hold else "limit_change" if approved < amount_cents else "approve"
    return Outcome(decision, approved, hold, reasons, any(rule.by_score for rule in adverse))
