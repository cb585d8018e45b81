"""Amounts of effects that cannot be meant: a raise by 10 (1,000 %) for 10 %, a rate of 18 for 0.18, a cap of 0.8 yuan.

Looked at is what is known when the policy compiles: a number, a plain constant, or what they fold to. The guardrails
bound the rest.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from decision_service.core.expressions.tree import Number, Tree
from decision_service.core.rules.spec import ComputedSort
from decision_service.core.source import Findings


class _Range(NamedTuple):
    low: float
    high: float
    expected: str


_MONEY_MAX: Final = 1e15
_SHARE: Final = "a share of the limit from 0 to 1, such as 0.10 for 10 %"
_RANGES: Final[dict[ComputedSort, _Range]] = {
    "raise": _Range(0, 1, _SHARE),
    "cut": _Range(0, 1, _SHARE),
    "set_apr": _Range(0, 1, "an annual rate from 0 to 1, such as 0.18 for 18 %"),
    "add_bps": _Range(-10_000, 10_000, "basis points from -10000 to 10000, such as 100 for 1 %"),
    "cap_draw": _Range(0, _MONEY_MAX, "an amount in major units, or a share such as `0.8 * request.amount`"),
    "set": _Range(0, _MONEY_MAX, "an amount in major units, such as 5000"),
}


def check_amount(amount: Tree, sort: ComputedSort, length: int, findings: Findings) -> None:
    """Report an amount that is known now and out of range; so is a cap or a limit of less than one major unit."""
    if not isinstance(amount, Number):
        return
    bounds, value = _RANGES[sort], amount.value
    fraction = sort in ("cap_draw", "set") and 0 < value < 1
    if fraction or not bounds.low <= value <= bounds.high:
        findings.error(amount.place, f"`{sort}`: {value:g} cannot be meant", expected=bounds.expected, length=length)
