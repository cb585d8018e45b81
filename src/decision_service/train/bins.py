"""Bins of one feature for a points scorecard: cut by optbinning, counted and weighed here.

optbinning chooses the cuts: a tree proposes them, an integer programme (one worker, fixed seed, hence the same bins on
every run) merges them to the highest information value that keeps a direction, the least rows and bads a bin, and the
most bins. Where no direction is declared optbinning finds the better one: bins that may turn around between fit noise
(generated portfolio, out of time: AUC 0.850 with turns, 0.861 without). A value on a cut belongs to the bin above, in
optbinning as here.

A cut is anywhere between two values that occur; of those that divide the training rows alike the roundest is kept, so
that people read `below: 0.3` and not `below: 0.29650000482797623`.

    WOE = ln((goods in the bin / all goods) / (bads in the bin / all bads))
    IV  = sum of (share of all goods - share of all bads) * WOE

The bin of null is what it is, and may hold a handful of rows. With fewer than `bin_bads_min` bads or goods it counts as
if that many bads' worth of average rows were in it too: its WOE is finite, near 0 while little is known, and 0 if
nothing is. Otherwise seven rows without a bad would make not telling better than any answer. So does any other bin
without bads or goods, which only a feature that cannot be cut has.
"""

from __future__ import annotations

import io
import math
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from decision_service.train.fitted import NothingToLearn
from decision_service.train.model_design import WoeDesign

Floats = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int8]

_TRENDS: Final = {1: "ascending", -1: "descending", 0: "auto_asc_desc"}  # of the share of bads
_DIGITS: Final = range(-9, 17)
WOE_DECIMALS: Final = 6


@dataclass(frozen=True, slots=True)
class Bins:
    """Cuts, and of each bin (that of null last) its rows, bads and WOE; `iv` of all of them."""

    cuts: tuple[float, ...]
    rows: npt.NDArray[np.int64]
    bads: npt.NDArray[np.int64]
    woe: Floats
    iv: float

    def woe_of(self, values: Floats) -> Floats:
        """The WOE of the bin that each value is in."""
        woe: Floats = np.take(self.woe, _bin_of(self.cuts, values))
        return woe


def bins_of(name: str, values: Floats, bad: Labels, monotone: int, design: WoeDesign) -> Bins:
    """The bins of a feature over training rows that hold goods and bads."""
    cuts = _cuts(name, values, bad, monotone, design)
    where = _bin_of(cuts, values)
    rows = np.bincount(where, minlength=len(cuts) + 2)
    bads = np.bincount(where[bad == 1], minlength=len(cuts) + 2)
    woe = _woe(rows - bads, bads, design.bin_bads_min)
    shares = (rows - bads) / (rows - bads).sum() - bads / bads.sum()
    return Bins(cuts, rows, bads, woe, float(shares @ woe))


def _bin_of(cuts: tuple[float, ...], values: Floats) -> npt.NDArray[np.intp]:
    where: npt.NDArray[np.intp] = np.searchsorted(np.array(cuts, np.float64), values, side="right")
    where[np.isnan(values)] = len(cuts) + 1
    return where


def _woe(goods: npt.NDArray[np.int64], bads: npt.NDArray[np.int64], least: int) -> Floats:
    odds = goods.sum() / bads.sum()
    fewer = np.minimum(goods, bads)
    more = np.where(fewer < np.where(np.arange(len(bads)) == len(bads) - 1, least, 1), least, 0)
    woe: Floats = np.round(np.log((goods + more * odds) / (bads + more) / odds), WOE_DECIMALS)
    return woe + 0.0  # no -0.0 in the file


def _cuts(name: str, values: Floats, bad: Labels, monotone: int, design: WoeDesign) -> tuple[float, ...]:
    there = ~np.isnan(values)
    known = np.unique(values[there])
    if len(known) < 2 or len(np.unique(bad[there])) < 2:
        return ()
    if np.abs(known).max() > np.finfo(np.float32).max:
        raise NothingToLearn(f"{name} has values beyond 3.4e38, which cannot be binned")
    binning = _optbinning().OptimalBinning(
        name=name, dtype="numerical", prebinning_method="cart", solver="cp", monotonic_trend=_TRENDS[monotone],
        min_prebin_size=design.bin_share_min, max_n_bins=design.bins_max, min_bin_size=design.bin_share_min,
        min_bin_n_event=design.bin_bads_min,
    )  # fmt: skip
    binning.fit(values, bad)
    return tuple(sorted({roundest(known, float(split)) for split in binning.splits}))


def roundest(known: Floats, cut: float) -> float:
    """The roundest number that divides the known values as `cut` does: above one of them, and not above the next."""
    at = int(np.searchsorted(known, cut, side="left"))
    low, high = (float(known[at - 1]) if at else -math.inf), (float(known[at]) if at < len(known) else math.inf)
    for digits in _DIGITS:
        unit = 10.0**-digits
        for candidate in (math.ceil(cut / unit), round(cut / unit), math.floor(cut / unit)):
            rounded = round(candidate * unit, max(digits, 0))
            if low < rounded <= high:
                return rounded
    return cut


def _optbinning() -> Any:
    """The library. What it imports talks while it does (CVXPY, of solvers it cannot find): nothing of that is ours."""
    try:
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            import optbinning
    except ImportError as error:
        raise ModuleNotFoundError("a points scorecard needs optbinning: install the extra `train`") from error
    return optbinning
