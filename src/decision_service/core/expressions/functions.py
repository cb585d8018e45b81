"""The closed list of functions an expression may call. Every back end implements exactly these.

Null, for every function but `coalesce` and `is_null`: a null argument makes the result null (also of `min`,
`max`, `mean` and `sum`), and so does a result that is not a finite number (`sqrt` of a negative number, `log`
of zero, an overflow). `coalesce` takes its first argument that is not null. `is_null` is a condition and
never unknown. `at_least(k, c1, c2, ...)` is true once k conditions are true whatever the others turn out to
be, and false once too many are false. `round` goes to the even neighbour on a tie, as NumPy does.

To add a function: a row here, its scalar form in `scalar.py`, its vector form, and rows in the case table.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

EXP_MAX: Final = 709.782712893384  # the largest double whose exp is finite lies just below

Takes = Literal["numbers", "alike", "value", "conditions"]
Gives = Literal["number", "alike", "condition"]


@dataclass(frozen=True, slots=True)
class Function:
    """One function: what it takes, how many, what it gives.

    `takes`: numbers; alike (all numbers or all strings); value (one number or string); conditions (a whole
    number, then conditions). `count_max` None means any number.
    """

    name: str
    takes: Takes
    count_min: int
    count_max: int | None
    gives: Gives
    signature: str
    meaning: str


def _one(name: str, meaning: str) -> Function:
    return Function(name, "numbers", 1, 1, "number", f"{name}(x)", meaning)


def _many(name: str, meaning: str) -> Function:
    return Function(name, "numbers", 1, None, "number", f"{name}(x, ...)", meaning)


FUNCTIONS: Final[dict[str, Function]] = {
    function.name: function
    for function in (
        _many("min", "the smallest; null if any is null"),
        _many("max", "the largest; null if any is null"),
        _many("mean", "the arithmetic mean; null if any is null"),
        _many("sum", "the sum; null if any is null"),
        _one("abs", "the size without the sign"),
        _one("round", "the nearest whole number, the even one on a tie"),
        _one("floor", "the next whole number below"),
        _one("ceil", "the next whole number above"),
        _one("sqrt", "the square root; null for a negative number"),
        _one("log", "the natural logarithm; null for zero and below"),
        _one("exp", "e to the power of x; null on overflow"),
        Function("clip", "numbers", 3, 3, "number", "clip(x, low, high)", "x, at least low and at most high"),
        Function("coalesce", "alike", 2, None, "alike", "coalesce(x, y, ...)", "the first that is not null"),
        Function("is_null", "value", 1, 1, "condition", "is_null(x)", "whether x is null; never unknown"),
        Function(
            "at_least", "conditions", 2, None, "condition", "at_least(k, c1, c2, ...)",
            "whether k or more of the conditions are true",
        ),
    )
}  # fmt: skip
