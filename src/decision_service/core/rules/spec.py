"""What a rule set says, checked and typed: the records that reading produces and compiling consumes.

Amounts inside expressions are major units, ratios are plain (0.2 is 20 %), instants ms UTC. Every record knows its
`place`, so that whatever is found out about it later can still point at it.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final, Literal

from decision_service.core.decision import Action, Alert, ChangeLimit, Hold, HoldKind, Offer, Renew, Tag
from decision_service.core.expressions.tree import Tree
from decision_service.core.limits import DAY_MS, MINUTE_MS
from decision_service.core.source import Place
from decision_service.core.vocabulary import NameSpec

OnNull = Literal["fire", "skip", "step_up", "review", "block"]  # the last three: hold, of that kind
ComputedSort = Literal["cap_draw", "raise", "cut", "set", "add_bps", "set_apr"]
NOTHING_KNOWN: Final = float("nan")


@dataclass(frozen=True, slots=True)
class FixedEffect:
    """An effect known when the policy compiles."""

    action: Action
    place: Place


@dataclass(frozen=True, slots=True)
class ComputedEffect:
    """An effect whose amount is computed when it is asked for."""

    sort: ComputedSort
    amount: Tree
    place: Place
    text: str = ""  # the amount as typed


EffectSpec = FixedEffect | ComputedEffect


def said(then: Iterable[EffectSpec]) -> list[str | dict[str, Any]]:
    """Effects in plain values, written as an analyst writes them; equal effects read alike."""
    return [_said(effect) for effect in then]


def _said(effect: EffectSpec) -> str | dict[str, Any]:
    if isinstance(effect, ComputedEffect):
        match effect.sort:
            case "cap_draw":
                return {"cap_draw": effect.text}
            case "add_bps" | "set_apr":
                return {"price": {effect.sort: effect.text}}
        return {"limit": {effect.sort: effect.text}}
    match effect.action:
        case Hold(kind=kind):
            return {"hold": kind}
        case ChangeLimit(kind=change):
            return {"limit": change}
        case Alert(tier=tier, indicator=indicator):
            return {"alert": {"tier": tier, "indicator": indicator}}
        case Offer(name=name):
            return {"offer": name}
        case Tag(name=name):
            return {"tag": name}
        case Renew(how=how):
            return {"renew": how}
    return "approve"


@dataclass(frozen=True, slots=True)
class TestSpec:
    """An inline test: the values given (all others are null), the instant, and what is expected.

    `expect` is fires, silent or unknown for a rule, the label of a cell (`C/0.95`) or unknown for a matrix.
    """

    __test__ = False  # not a test of ours, whatever pytest thinks of the name

    given: tuple[tuple[str, float | str | frozenset[str]], ...]
    at_ms: int | None
    expect: str
    place: Place


@dataclass(frozen=True, slots=True)
class RuleSpec:
    """One rule."""

    id: str
    stage: str
    place: Place
    when: Tree
    when_text: str
    on_null: OnNull
    then: tuple[EffectSpec, ...]
    reason: str
    tests: tuple[TestSpec, ...]
    names: frozenset[str]  # numbers and strings the condition and the effects read
    note: str = ""

    def describe(self) -> dict[str, Any]:
        """What a trace needs to explain this rule's verdict."""
        return {
            "id": self.id, "stage": self.stage, "when": self.when_text, "names": sorted(self.names),
            "then": said(self.then), "on_null": self.on_null, "reason": self.reason or None, "note": self.note or None,
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Axis:
    """One axis of a matrix: `name in [values]`, or `name <= [edges]` with rising edges, the last of them inf.

    `labels` are the values or edges as typed; an extra last label `null` stands for an unknown value, if the matrix
    has cells for it.
    """

    name: NameSpec
    values: tuple[str | float, ...]
    ranged: bool
    labels: tuple[str, ...]

    @property
    def has_null(self) -> bool:
        """Whether the axis has a place for an unknown value."""
        return len(self.labels) > len(self.values)

    def describe(self) -> dict[str, Any]:
        """The axis in plain values."""
        return {"name": self.name.name, "ranged": self.ranged, "labels": list(self.labels)}


@dataclass(frozen=True, slots=True)
class MatrixSpec:
    """One matrix; `cells[i][j]` are the effects of row i and column j."""

    sort: ClassVar[Literal["matrix"]] = "matrix"
    id: str
    stage: str
    place: Place
    rows: Axis
    columns: Axis
    cells: tuple[tuple[tuple[EffectSpec, ...], ...], ...]
    on_null: OnNull
    reason: str
    tests: tuple[TestSpec, ...]
    names: frozenset[str]
    note: str = ""

    @property
    def labels(self) -> tuple[str, ...]:
        """What can be hit, row by row: `C/0.95`."""
        return tuple(f"{row}/{column}" for row in self.rows.labels for column in self.columns.labels)

    @property
    def asked(self) -> tuple[tuple[tuple[EffectSpec, ...], str], ...]:
        """The effects and the reason of every label."""
        return tuple((cell, self.reason) for row in self.cells for cell in row)

    def describe(self) -> dict[str, Any]:
        """What a trace or a comparison of policies needs to show this matrix."""
        return {
            "id": self.id, "stage": self.stage, "rows": self.rows.describe(), "columns": self.columns.describe(),
            "cells": [[said(cell) for cell in row] for row in self.cells], "names": sorted(self.names),
            "on_null": self.on_null, "reason": self.reason or None, "note": self.note or None,
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class DatedConstant:
    """A constant whose value depends on the date; unknown before the first."""

    name: str
    starts_ms: tuple[int, ...]
    values: tuple[float, ...]

    def at(self, t_ms: int) -> float:
        """The value in force at an instant, NaN before the first."""
        position = bisect_right(self.starts_ms, t_ms)
        return self.values[position - 1] if position else NOTHING_KNOWN


@dataclass(frozen=True, slots=True)
class Guardrails:
    """Bounds on what the effects of a rule set may do. None: not bounded."""

    apr_caps_bps: tuple[tuple[int, int], ...] = ()  # (from when in ms UTC, cap in bps), rising
    limit_step_max: float | None = None
    limit_raise_cooldown_ms: int | None = None
    hold_expiries_ms: Mapping[str, int] = field(
        default_factory=lambda: {"step_up": 15 * MINUTE_MS, "review": DAY_MS, "block": DAY_MS}
    )

    def apr_cap_at(self, t_ms: int) -> int | None:
        """The cap on the annual rate in bps; before the first date the first cap holds (a cap is never absent)."""
        if not self.apr_caps_bps:
            return None
        return next((cap for start, cap in reversed(self.apr_caps_bps) if start <= t_ms), self.apr_caps_bps[0][1])

    def hold_expiry_ms(self, kind: HoldKind) -> int:
        """How long a hold of a kind stands."""
        return self.hold_expiries_ms[kind]


@dataclass(frozen=True, slots=True)
class Fallback:
    """What to answer when the store or the time to decide properly is missing.

    A draw of at most `small_amount` major units on a clean snapshot may still be paid; everything else is held.
    """

    hold: HoldKind
    reason: str
    small_amount: float = 0.0
