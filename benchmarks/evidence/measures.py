"""What evidence is measured with: rankings, their figures with bootstrap intervals, and where public data lies.

A figure is computed from a weight a row, so that a resample is nothing but other weights: all rows 1 gives the figure
itself, and as often as its customer was drawn gives one resample of whole customers. `bad` is 1 for bad, 0 for good; a
higher `risk` means worse. Rows of equal risk are one step of the curve, as in scikit-learn.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

DATA = Path(__file__).parents[3] / "shared" / "data"
RESAMPLES = 400
LEVEL = 0.95

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Weighted = Callable[[Floats], float]
"""A figure of rows that count as often as their weights say."""


@dataclass(frozen=True, slots=True)
class Figure:
    """A value and the interval that holds 95 % of its resamples."""

    value: float
    low: float
    high: float

    def text(self, digits: int = 3, percent: bool = False) -> str:
        """`0.789 (0.775 to 0.802)`."""
        scale, unit = (100.0, " %") if percent else (1.0, "")
        value, low, high = (f"{scale * x:.{digits}f}" for x in (self.value, self.low, self.high))
        return f"{value}{unit} ({low} to {high})"


def figure(measured: Weighted, unit: Ints, seed: int = 1) -> Figure:
    """A figure with its interval; `unit` numbers what is resampled (a row's customer, or the row itself) from 0."""
    rng, units = np.random.default_rng(seed), int(unit.max()) + 1
    resamples = [
        measured(np.bincount(rng.integers(0, units, units), minlength=units)[unit].astype(float))
        for _ in range(RESAMPLES)
    ]
    edges = np.nanquantile(resamples, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Figure(float(measured(np.ones(len(unit)))), float(edges[0]), float(edges[1]))


class Ranking:
    """Rows in order of risk, the worst first."""

    def __init__(self, risk: Floats, bad: npt.ArrayLike) -> None:
        self._order = np.argsort(-risk, kind="stable")
        ordered = risk[self._order]
        self._steps = np.flatnonzero(np.append(ordered[1:] != ordered[:-1], True))
        self._bad = np.asarray(bad, float)[self._order]

    def _curve(self, weights: Floats) -> tuple[Floats, Floats]:
        """Cumulated bads and goods after each step."""
        ordered = weights[self._order]
        return np.cumsum(ordered * self._bad)[self._steps], np.cumsum(ordered * (1.0 - self._bad))[self._steps]

    def auc(self, weights: Floats) -> float:
        """Area under the ROC curve."""
        bads, goods = self._curve(weights)
        return float(np.trapezoid(np.append(0.0, bads), np.append(0.0, goods)) / (bads[-1] * goods[-1]))

    def ks(self, weights: Floats) -> float:
        """Largest distance between the two cumulated shares."""
        bads, goods = self._curve(weights)
        return float(np.max(bads / bads[-1] - goods / goods[-1]))

    def average_precision(self, weights: Floats) -> float:
        """Precision averaged over the steps of recall."""
        bads, goods = self._curve(weights)
        there = bads + goods > 0.0
        precision = np.divide(bads, bads + goods, out=np.zeros(len(bads)), where=there)
        return float(np.sum(np.diff(np.append(0.0, bads)) * precision) / bads[-1])


def share(part: npt.ArrayLike, whole: npt.ArrayLike) -> Weighted:
    """The share of `whole` that is in `part`: two columns of counts or amounts."""
    above, below = np.asarray(part, float), np.asarray(whole, float)

    def measured(weights: Floats) -> float:
        total = float(weights @ below)
        return float(weights @ above) / total if total else float("nan")

    return measured


@dataclass(frozen=True, slots=True)
class Calibration:
    """Predicted beside observed: overall, and the mean gap over ten equal groups weighted by size."""

    predicted: float
    observed: float
    error: float
    groups: tuple[tuple[float, float], ...]


def calibration(pd: Floats, bad: npt.NDArray[Any], groups: int = 10) -> Calibration:
    """Calibration of probabilities, in groups of equal size from the safest to the worst."""
    parts = [part for part in np.array_split(np.argsort(pd, kind="stable"), groups) if len(part)]
    pairs = tuple((float(pd[part].mean()), float(bad[part].mean())) for part in parts)
    gaps = [len(part) * abs(p - b) for part, (p, b) in zip(parts, pairs, strict=True)]
    return Calibration(float(pd.mean()), float(bad.mean()), sum(gaps) / len(pd), pairs)


def arguments(document: str | None, **more: Mapping[str, Any]) -> argparse.Namespace:
    """The options of a script: `--json`, and what else it names; its docstring's first line is the help."""
    parser = argparse.ArgumentParser(description=(document or "").partition("\n")[0])
    parser.add_argument("--json", action="store_true", help="figures as JSON instead of a table")
    for name, option in more.items():
        parser.add_argument(f"--{name}", **option)
    return parser.parse_args()


def needed(*files: Path) -> None:
    """End with status 0 and a message if a data file is absent: evidence is skipped, not failed."""
    for path in files:
        if not path.is_file():
            print(f"skipped: {path.name} is not in ../shared/data beside the repository", file=sys.stderr)
            sys.exit(0)


def as_json(found: Any) -> str:
    """Figures as a line of JSON."""
    return json.dumps(found, ensure_ascii=False)
