"""Warnings about rules beside each other: what one of them can never change, or both want under one condition.

    the same condition      two rules that could be one; worse if they ask for opposite things
    a shadow                whenever rule B is true, so is rule A, which asks for no less: B changes nothing

B implies A if each case of B (`cases.py`) lies in a case of A. That also covers what is unknown: A is false only where
B is false, so where B is unknown A fires or is unknown itself, and B's `on_null` must ask for no more than either
(unless A asks `is_null`: then a missing value makes it false, and only a B that skips is covered).

Equal conditions are found by hashing. For shadows every case is filed under the rarest of its subjects, and a rule
looks only into the files of its own subjects: near-linear where rules read different things. Thousands of rules about
the same few names would still be compared with each other, so each looks at its nearest neighbours in a file only,
of which the whole set may afford COMPARISONS_MAX. Up to some 170 rules that leaves nothing out, whatever they read.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from decision_service.core.decision import (
    HOLD_RANK,
    TIER_RANK,
    Action,
    Alert,
    Approve,
    ChangeLimit,
    Hold,
    Renew,
)
from decision_service.core.expressions.keys import key_of
from decision_service.core.expressions.tree import Number
from decision_service.core.rules.cases import Case, TooManyCases, asks_for_null, cases_of, implies
from decision_service.core.rules.effects import action_of
from decision_service.core.rules.spec import ComputedEffect, ComputedSort, EffectSpec, FixedEffect, OnNull, RuleSpec
from decision_service.core.source import Findings

COMPARISONS_MAX: Final = 30_000
NEIGHBOURS_MIN: Final = 4
_RENEWAL_RANK: Final = {"auto": 1, "manual": 2, "decline": 3}
_LOWEST_WINS: Final[tuple[ComputedSort, ...]] = ("cap_draw", "raise", "set")  # else the highest


@dataclass(frozen=True, slots=True)
class _Judged:
    """A rule with the cases of its condition."""

    rule: RuleSpec
    cases: Sequence[Case]


def lint_rules(rules: Sequence[RuleSpec], findings: Findings) -> None:
    """Warn of rules that repeat, contradict or shadow each other."""
    first: dict[Hashable, RuleSpec] = {}
    distinct: list[RuleSpec] = []
    for rule in rules:
        earlier = first.setdefault(key_of(rule.when), rule)
        if earlier is rule:
            distinct.append(rule)
        else:
            _report_same(rule, earlier, findings)
    for narrow, wide in _shadows(_judged(distinct)):
        findings.warning(
            narrow.place,
            f"`{narrow.id}` changes nothing: whenever it is true, so is `{wide.id}` on line {wide.place.line}, "
            "which asks for no less",
            expected="more asked for here, a narrower condition there, or one rule less",
        )


# --- the same condition ---


def _report_same(rule: RuleSpec, earlier: RuleSpec, findings: Findings) -> None:
    where = f"`{earlier.id}` on line {earlier.place.line}"
    opposite = next(((a, b) for a in rule.then for b in earlier.then if _opposite(a, b)), None)
    if opposite is None:
        findings.warning(
            rule.place, f"`{rule.id}` has the same condition as {where}", expected="one rule with the effects of both"
        )
        return
    findings.warning(
        rule.place,
        f"`{rule.id}` asks for {_says(opposite[0])} under the same condition as {where}, "
        f"which asks for {_says(opposite[1])}",
        expected="one of the two",
    )


def _opposite(a: EffectSpec, b: EffectSpec) -> bool:
    """Whether both cannot be meant under one condition."""
    one, other = action_of(a), action_of(b)
    if isinstance(one, Renew) and isinstance(other, Renew):
        return one.how != other.how
    return (_grants(a) and _refuses(b)) or (_refuses(a) and _grants(b))


def _grants(effect: EffectSpec) -> bool:
    if isinstance(effect, ComputedEffect):
        return effect.sort == "raise"
    return isinstance(effect.action, Approve)


def _refuses(effect: EffectSpec) -> bool:
    if isinstance(effect, ComputedEffect):
        return effect.sort == "cut"
    return isinstance(effect.action, Hold) or effect.action == ChangeLimit("freeze")


def _says(effect: EffectSpec) -> str:
    if isinstance(effect, ComputedEffect):
        return f"`{effect.sort}`"
    match effect.action:
        case Hold(kind=kind):
            return f"`hold: {kind}`"
        case Renew(how=how):
            return f"`renew: {how}`"
        case Approve():
            return "`approve`"
    return "`limit: freeze`"


# --- shadows ---


def _judged(rules: Sequence[RuleSpec]) -> list[_Judged]:
    """The rules whose conditions can be looked into; one that is never true was warned of already."""
    judged = []
    for rule in rules:
        try:
            cases = cases_of(rule.when)
        except TooManyCases:
            continue
        if cases and all(cases):
            judged.append(_Judged(rule, cases))
    return judged


def _shadows(judged: Sequence[_Judged]) -> Iterator[tuple[RuleSpec, RuleSpec]]:
    """(narrow, wide) for every rule that changes nothing beside another."""
    files = _filed(judged)
    reach = max(NEIGHBOURS_MIN, COMPARISONS_MAX // max(1, len(judged)))
    gone: set[int] = set()
    dominance = _Dominance()
    for number, narrow in enumerate(judged):
        for other in _neighbours(narrow.cases[0], number, files, reach):
            if other in gone or not dominance.covers(judged[other].rule, narrow.rule):
                continue
            if _within(narrow, judged[other]):
                gone.add(number)
                yield narrow.rule, judged[other].rule
                break


def _within(narrow: _Judged, wide: _Judged) -> bool:
    """Whether a rule is true, or else unknown, only where another is."""
    if narrow.rule.on_null != "skip" and asks_for_null(wide.cases):
        return False
    return all(any(implies(case, wider) for wider in wide.cases) for case in narrow.cases)


def _filed(judged: Sequence[_Judged]) -> dict[Hashable, list[int]]:
    """The numbers of the rules with a case whose rarest subject is the key, rising."""
    counts = Counter(subject for one in judged for case in one.cases for subject in case)
    files: dict[Hashable, list[int]] = {}
    for number, one in enumerate(judged):
        for rarest in {min(case, key=counts.__getitem__) for case in one.cases}:
            files.setdefault(rarest, []).append(number)
    return files


def _neighbours(case: Case, number: int, files: dict[Hashable, list[int]], reach: int) -> Iterator[int]:
    """Rules that may have a case around this one, the rule itself left out."""
    reach //= len(case)
    for subject in case:
        file = files.get(subject, [])
        at = bisect_left(file, number)
        yield from (other for other in file[max(0, at - reach // 2) : at + reach // 2 + 1] if other != number)


class _Dominance:
    """Whether one rule asks for all that another does; remembered, for thousands of rules ask for the same few."""

    def __init__(self) -> None:
        self._known: dict[Hashable, bool] = {}
        self._asked: dict[str, Hashable] = {}

    def covers(self, wide: RuleSpec, narrow: RuleSpec) -> bool:
        """Whether `narrow` adds nothing wherever `wide` is true, or unknown with it."""
        pair = (self._key(wide), self._key(narrow))
        known = self._known.get(pair)
        if known is None:
            known = self._known[pair] = _covers(wide, narrow)
        return known

    def _key(self, rule: RuleSpec) -> Hashable:
        asked = self._asked.get(rule.id)
        if asked is None:
            effects = frozenset(_effect_key(effect) for effect in rule.then)
            asked = self._asked[rule.id] = (effects, rule.reason, rule.on_null)
        return asked


def _effect_key(effect: EffectSpec) -> Hashable:
    return effect.action if isinstance(effect, FixedEffect) else (effect.sort, key_of(effect.amount))


def _covers(wide: RuleSpec, narrow: RuleSpec) -> bool:
    if narrow.reason not in ("", wide.reason):
        return False  # the customer is told something else
    asked = all(any(_no_more(b, a) for a in wide.then) for b in narrow.then)
    return asked and _unknown_covered(narrow.on_null, wide)


def _unknown_covered(on_null: OnNull, wide: RuleSpec) -> bool:
    if on_null in ("skip", "fire"):
        return on_null == "skip" or wide.on_null == "fire"
    held = max((_hold_rank(action_of(effect)) for effect in wide.then), default=0)
    return min(held, HOLD_RANK.get(wide.on_null, held if wide.on_null == "fire" else 0)) >= HOLD_RANK[on_null]


def _hold_rank(action: Action | None) -> int:
    return HOLD_RANK[action.kind] if isinstance(action, Hold) else 0


def _no_more(b: EffectSpec, a: EffectSpec) -> bool:
    """Whether `b` adds nothing to `a`."""
    if isinstance(a, ComputedEffect) and isinstance(b, ComputedEffect):
        return a.sort == b.sort and _no_further(a, b)
    one, other = action_of(a), action_of(b)
    match one, other:
        case Hold(), Hold():
            return _hold_rank(one) >= _hold_rank(other)
        case Alert(tier=tier, indicator=indicator), Alert():
            return indicator == other.indicator and TIER_RANK[tier] >= TIER_RANK[other.tier]
        case Renew(how=how), Renew():
            return _RENEWAL_RANK[how] >= _RENEWAL_RANK[other.how]
        case (Hold(), Approve()):
            return True
    return one is not None and one == other


def _no_further(a: ComputedEffect, b: ComputedEffect) -> bool:
    if isinstance(a.amount, Number) and isinstance(b.amount, Number):
        return a.amount.value <= b.amount.value if a.sort in _LOWEST_WINS else a.amount.value >= b.amount.value
    return key_of(a.amount) == key_of(b.amount)
