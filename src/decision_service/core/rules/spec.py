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

    `expect` is fires, silent or unknown for a rule, the label of a cell (`C/0.95`) or unknown for a matrix. `asks` are
    the effects that must be asked for then, no more and no less; None if the test does not say.
    """

    __test__ = False  # not a test of ours, whatever pytest thinks of the name

    given: tuple[tuple[str, float | str | frozenset[str]], ...]
    at_ms: int | None
    expect: str
    place: Place
    asks: tuple[EffectSpec, ...] | None = None
    asks_place: Place | None = None


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

    @property
    def periods(self) -> tuple[float, ...]:
        """The values by how many starts have passed, the first NaN."""
        return (NOTHING_KNOWN, *self.values)

    def at(self, t_ms: int) -> float:
        """The value in force at an instant, NaN before the first."""
        return self.periods[bisect_right(self.starts_ms, t_ms)]


@dataclass(frozen=True, slots=True)
class Bound:
    """A bound whose value may depend on the date. Before its first date the first value holds: it is never absent."""

    values: tuple[float, ...]
    starts_ms: tuple[int, ...] = (0,)  # from when each value holds, rising

    def at(self, t_ms: int) -> float:
        """The value in force at an instant."""
        return self.values[max(0, bisect_right(self.starts_ms, t_ms) - 1)]


def _hold_expiries() -> dict[str, Bound]:
    return {"step_up": Bound((15 * MINUTE_MS,)), "review": Bound((DAY_MS,)), "block": Bound((DAY_MS,))}


@dataclass(frozen=True, slots=True)
class Guardrails:
    """Bounds on what the effects of a rule set may do; `rules/guardrails.py` says what each means. None: no bound."""

    apr_cap_bps: Bound | None = None
    apr_floor_bps: Bound | None = None
    price_step_max_bps: Bound | None = None
    price_cooldown_ms: Bound | None = None
    limit_step_max: Bound | None = None
    limit_year_max: Bound | None = None
    limit_cap: Bound | None = None  # major units of the facility's currency
    limit_raise_cooldown_ms: Bound | None = None
    limit_raise_after_cut_ms: Bound | None = None
    limit_cut_cushion: Bound | None = None
    tier_dwells_ms: Mapping[str, Bound] = field(default_factory=dict)  # infinite: only a person lowers the tier
    hold_expiries_ms: Mapping[str, Bound] = field(default_factory=_hold_expiries)

    def tier_dwell_ms(self, tier: str, t_ms: int) -> float:
        """How long a tier stands after it was last asserted; infinite if it never falls by itself."""
        dwell = self.tier_dwells_ms.get(tier)
        return 0.0 if dwell is None else dwell.at(t_ms)

    def hold_expiry_ms(self, kind: HoldKind, t_ms: int) -> int:
        """How long a hold of a kind stands."""
        return int(self.hold_expiries_ms[kind].at(t_ms))


@dataclass(frozen=True, slots=True)
class Fallback:
    """What to answer when the store or the time to decide properly is missing.

    A draw of at most `small_amount` major units on a clean snapshot may still be paid; everything else is held.
    """

    hold: HoldKind
    reason: str
    small_amount: float = 0.0
