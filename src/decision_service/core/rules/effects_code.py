"""Effects in generated code: those known when the policy compiles are built then, a computed one when it is asked for.

An amount that turns out to be null means we do not know how much is safe: a review, whatever `on_null` says (only a
raise of the limit is then simply not given). Holds for something unknown carry RC91, because the cause is ours, not the
customer's. A reason tells a customer what speaks against him: a computed change in his favour, or one that turns out to
be none (a cut by nothing, a rate that stays), gives none.

Money becomes minor units by rounding down; products such as 0.29 * 100 * 100 fall short of the whole number they mean
by a few 1e-16, so a millionth of a minor unit is added first. Rates become basis points by rounding to the nearest.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from decision_service.core.decision import Approve, CapDraw, ChangeLimit, ChangePrice, Effect, Hold
from decision_service.core.expressions.python_code import call, constant, load
from decision_service.core.expressions.scalar import ScalarCompiler
from decision_service.core.rules.spec import ComputedEffect, ComputedSort, EffectSpec, FixedEffect, OnNull
from decision_service.core.rules.statements import append, assign, extend, if_, is_known

NO_VALUE_REASON: Final = "RC91"
_BPS: Final = 10_000

Effects = tuple[Effect, ...]
Maker = Callable[[float, int, int, int], Effect]  # amount, scale, limit in minor units, apr in bps


def fixed(then: Sequence[EffectSpec], source: str, reason: str) -> Effects:
    """The effects known now; an approval needs no reason."""
    actions = [effect.action for effect in then if isinstance(effect, FixedEffect)]
    return tuple(Effect(a, source, "" if isinstance(a, Approve) else reason) for a in actions)


def held(on_null: OnNull, source: str) -> Effects:
    """What an unknown condition asks for, unless it fires."""
    match on_null:
        case "step_up" | "review" | "block":
            return (Effect(Hold(on_null), source, NO_VALUE_REASON),)
    return ()


def ask(
    scalar: ScalarCompiler, then: Sequence[EffectSpec], source: str, reason: str, unknown: Sequence[ast.stmt] = ()
) -> list[ast.stmt]:
    """Statements that add the effects asked for to `e`; `unknown` follow the review for an amount that is null."""
    known = fixed(then, source, reason)
    return ([extend("e", scalar.keep(known))] if known else []) + compute(scalar, then, source, reason, unknown)


def compute(
    scalar: ScalarCompiler, then: Sequence[EffectSpec], source: str, reason: str, unknown: Sequence[ast.stmt] = ()
) -> list[ast.stmt]:
    """As `ask`, the computed effects only."""
    computed = [effect for effect in then if isinstance(effect, ComputedEffect)]
    return [statement for effect in computed for statement in _compute(scalar, effect, source, reason, unknown)]


def _compute(
    scalar: ScalarCompiler, effect: ComputedEffect, source: str, reason: str, unknown: Sequence[ast.stmt]
) -> list[ast.stmt]:
    review = [extend("e", scalar.keep(held("review", source))), *unknown]
    null: list[ast.stmt] = [] if effect.sort == "raise" else review
    return _made(scalar, effect, source, reason, null)


def _made(
    scalar: ScalarCompiler, effect: ComputedEffect, source: str, reason: str, null: Sequence[ast.stmt]
) -> list[ast.stmt]:
    made = call(scalar.keep(_maker(effect.sort, source, reason)), load("x"), load("scale"), load("limit"), load("apr"))
    return [assign("x", scalar.value_of(effect.amount)), if_(is_known("x"), [append("e", made)], null)]


def tell(scalar: ScalarCompiler, then: Sequence[EffectSpec]) -> list[ast.stmt]:
    """As `ask`, for what a test says is asked for: an amount that is null asks for nothing and is named in `c`."""
    computed = [effect for effect in then if isinstance(effect, ComputedEffect)]
    told = [_made(scalar, effect, "", "", [append("c", constant(effect.text))]) for effect in computed]
    return [extend("e", scalar.keep(fixed(then, "", ""))), *(statement for one in told for statement in one)]


def _minor(amount: float, scale: int) -> int:
    return max(0, math.floor(amount * scale + 1e-6))


def _maker(sort: ComputedSort, source: str, reason: str) -> Maker:
    """The function that turns a computed amount (never null) into its effect. One of this module, bound: a compiled
    policy goes from process to process, and a function made here could not."""
    return partial(_MAKERS[sort], source, reason)


def _cap(source: str, reason: str, amount: float, scale: int, _limit: int, _apr: int) -> Effect:
    return Effect(CapDraw(_minor(amount, scale)), source, reason)


def _set_limit(source: str, reason: str, amount: float, scale: int, limit: int, _apr: int) -> Effect:
    return _limit_to(source, reason, _minor(amount, scale), limit)


def _raise_limit(source: str, reason: str, share: float, _scale: int, limit: int, _apr: int) -> Effect:
    return _limit_to(source, reason, limit + _minor(share * limit, 1), limit)


def _cut_limit(source: str, reason: str, share: float, _scale: int, limit: int, _apr: int) -> Effect:
    return _limit_to(source, reason, max(0, limit - math.ceil(max(0.0, share) * limit - 1e-6)), limit)


def _limit_to(source: str, reason: str, to: int, limit: int) -> Effect:
    return Effect(ChangeLimit("set", to), source, reason if to < limit else "")


def _add_bps(source: str, reason: str, bps: float, _scale: int, _limit: int, apr: int) -> Effect:
    return _price_at(source, reason, max(0, apr + round(bps)), apr)


def _set_apr(source: str, reason: str, rate: float, _scale: int, _limit: int, apr: int) -> Effect:
    return _price_at(source, reason, max(0, round(rate * _BPS)), apr)


def _price_at(source: str, reason: str, to: int, apr: int) -> Effect:
    return Effect(ChangePrice(to), source, reason if to > apr else "")


_MAKERS: Final[dict[ComputedSort, Callable[[str, str, float, int, int, int], Effect]]] = {
    "cap_draw": _cap, "set": _set_limit, "raise": _raise_limit, "cut": _cut_limit, "add_bps": _add_bps,
    "set_apr": _set_apr,
}  # fmt: skip
