"""How a number was spread over the training rows: what a drift comparison holds the present against.

    deciles  the nine inner cut points of the values without nulls, or none for what was always null
    cuts     the distinct ones among them, rising; value v is in the first bin i with `v <= cuts[i]`, else in the last
    shares   of the values without nulls, one for each bin: k cuts make k + 1 bins

Features that mostly are one number (no arrears: 0) have deciles that repeat, so bins are unequal and their true shares
matter: a bin `<= 0` that nine deciles name may hold 90 % or 99 %. A manifest from before shares were written has none;
they are then taken from the deciles, a tenth for each, which is the best that can be said.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from decision_service.core.scorecards.reading import Section

DECILES: Final = 9
_SUM_TOLERANCE: Final = 1e-4  # shares are written rounded


@dataclass(frozen=True, slots=True)
class Distribution:
    """A spread as its manifest tells it: `len(shares) == len(cuts) + 1`, and they add up to 1."""

    null_rate: float
    deciles: tuple[float, ...]
    shares: tuple[float, ...]


def cuts_of(deciles: Sequence[float]) -> tuple[float, ...]:
    """The distinct cut points among deciles, which never fall."""
    return tuple(dict.fromkeys(deciles))


def shares_of(deciles: Sequence[float]) -> tuple[float, ...]:
    """The shares that deciles alone tell: a tenth for each, those of one value together."""
    upto = [sum(1 for decile in deciles if decile <= cut) / (DECILES + 1) for cut in cuts_of(deciles)]
    return tuple(high - low for low, high in pairwise([0.0, *upto, 1.0]))


def read_distribution(section: Section) -> Distribution:
    """`null_rate`, `deciles` and, if they are there, `shares` of a section of a manifest."""
    null_rate = section.number("null_rate", low=0.0, high=1.0)
    deciles = _deciles(section)
    return Distribution(null_rate, deciles, _shares(section, deciles))


def _deciles(section: Section) -> tuple[float, ...]:
    deciles = section.numbers("deciles")
    if len(deciles) not in (0, DECILES):
        section.error("deciles", f"has {len(deciles)} numbers", f"{DECILES} inner cut points, or none")
    if any(a > b for a, b in pairwise(deciles)):
        section.error("deciles", "falls", "numbers that never fall")
    return deciles


def _shares(section: Section, deciles: tuple[float, ...]) -> tuple[float, ...]:
    if not section.has("shares"):
        return shares_of(deciles)
    shares = section.numbers("shares")
    bins = len(cuts_of(deciles)) + 1
    if len(shares) != bins:
        section.error("shares", f"has {len(shares)} numbers", f"{bins}, one for each bin of the distinct deciles")
    elif any(not 0.0 <= share <= 1.0 for share in shares):
        section.error("shares", "leaves [0, 1]", "shares of the training rows")
    elif not math.isclose(math.fsum(shares), 1.0, abs_tol=_SUM_TOLERANCE):
        section.error("shares", f"adds up to {math.fsum(shares):g}", "shares that add up to 1")
    return shares
