"""The values something may still take once every bound on it is met.

A domain is one of: null; the finite set `members`; or an interval of numbers (all strings, if its ends are infinite)
without some `holes`. Domains only ever shrink (`meet`), so that nothing more is needed for conjunctions. A domain
that is no null is one of known values: every comparison fails on null.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Final, NamedTuple

from decision_service.core.expressions.tree import CompareOp

Value = float | str


class Domain(NamedTuple):
    """A set of values that is not empty. `members` is None for an interval."""

    low: float = -math.inf
    low_open: bool = False
    high: float = math.inf
    high_open: bool = False
    members: frozenset[Value] | None = None
    holes: frozenset[Value] = frozenset()
    null: bool = False

    def holds(self, value: Value) -> bool:
        """Whether a known value is in the domain."""
        if self.null:
            return False
        if self.members is not None:
            return value in self.members
        if value in self.holes:
            return False
        if isinstance(value, str):
            return True
        above = value > self.low or (value == self.low and not self.low_open)
        return above and (value < self.high or (value == self.high and not self.high_open))

    def meet(self, other: Domain) -> Domain | None:
        """The values in both domains, None if there are none."""
        if self.null or other.null:
            return self if self.null and other.null else None
        if self.members is not None:
            return finite(value for value in self.members if other.holds(value))
        if other.members is not None:
            return other.meet(self)
        low, low_open = max((self.low, self.low_open), (other.low, other.low_open))
        high, high_closed = min((self.high, not self.high_open), (other.high, not other.high_open))
        if low > high or (low == high and (low_open or not high_closed)):
            return None
        holes = self.holes | other.holes
        if low == high:
            return None if low in holes else finite([low])
        return Domain(low, low_open, high, not high_closed, None, holes)

    def within(self, other: Domain) -> bool:
        """Whether every value of this domain is in the other."""
        if self.null or other.null:
            return self.null and other.null
        if self.members is not None:
            return all(other.holds(value) for value in self.members)
        if other.members is not None:
            return False
        if (self.low, self.low_open) < (other.low, other.low_open):
            return False
        if (self.high, not self.high_open) > (other.high, not other.high_open):
            return False
        return not any(self.holds(hole) for hole in other.holes)


KNOWN: Final = Domain()
NULL: Final = Domain(null=True)


def finite(values: Iterable[Value]) -> Domain | None:
    """The domain of just these values, None if there are none."""
    members = frozenset(values)
    return Domain(members=members) if members else None


def other_than(values: Iterable[Value]) -> Domain:
    """Every known value but these."""
    return Domain(holes=frozenset(values))


def bounded(op: CompareOp, bound: Value) -> Domain:
    """The values `x` for which `x op bound` is true."""
    if isinstance(bound, str) or op == "==":
        return Domain(members=frozenset([bound]))
    if op in (">", ">="):
        return Domain(low=bound, low_open=op == ">")
    return Domain(high=bound, high_open=op == "<")
