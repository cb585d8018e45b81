"""A tally: what is counted of a series on a day. Integers only, so that sums are exact in whatever order they come.

    bins     int64[1 + features, STRIDE]: row 0 the points, then each feature in the manifest's order; column i the bin
             between its cuts (`core/scorecards/drift.py`), NULLS the values that are null
    words    how often what happened, by a word

    n                decisions counted            a                of which something was paid out or granted
    g:<grade>        with this grade              d:<decision>     answered so
    h:<kind>         held so                      r:<rung>         on this rung
    x:<cause>        not scored, one of CAUSES    p                sum of the PDs in units of 1e-9

Stored as a hash of integer fields, `<row>.<column>` for bins and the words as they are; what is zero is not there.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from decision_service.core.decision import Score
from decision_service.core.scorecards.distribution import DECILES, cuts_of
from decision_service.core.scorecards.manifest import Manifest

NULLS: Final = DECILES + 1  # the column of nulls: k distinct cuts fill columns 0 to k, and k is at most DECILES
STRIDE: Final = NULLS + 1
PD_UNITS: Final = 1_000_000_000
CAUSES: Final = ("all_null", "null", "infinite", "margin", "other")
_CAUSE_BY_TEXT: Final = (
    ("all features null", "all_null"), ("is null, which", "null"), ("is infinite", "infinite"), ("margin", "margin"),
)  # fmt: skip
_COMPARISONS_MAX: Final = 50_000  # with cuts at once: about 0.4 ms

Floats = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]


class Bins:
    """Where the values of one scorecard fall."""

    def __init__(self, manifest: Manifest) -> None:
        self.manifest = manifest
        self.cuts = tuple(map(cuts_of, (manifest.score_deciles, *(f.deciles for f in manifest.features))))
        edges = np.full((len(self.cuts), DECILES), np.inf)  # nothing is above infinity
        for row, cuts in zip(edges, self.cuts, strict=True):
            row[: len(cuts)] = cuts
        self._edges = edges
        self._starts = np.arange(len(edges)) * STRIDE
        self.rows_at_once: Final = max(1, _COMPARISONS_MAX // edges.size)  # decisions; more keep others waiting

    @property
    def rows(self) -> int:
        """Rows of a tally: the points and every feature."""
        return len(self.cuts)

    def count(self, values: Floats) -> Counts:
        """How many of float64[decisions, rows] fall where, NaN for null: int64[rows, STRIDE]."""
        counts = np.zeros(self.rows * STRIDE, np.int64)
        for start in range(0, len(values), self.rows_at_once):
            some = values[start : start + self.rows_at_once]
            found = np.count_nonzero(some[:, :, None] > self._edges, axis=2)
            found[np.isnan(some)] = NULLS
            counts += np.bincount((found + self._starts).ravel(), minlength=len(counts))
        return counts.reshape(self.rows, STRIDE)


class Answered(NamedTuple):
    """What an answer was, as far as it is counted."""

    decision: str
    hold: str | None
    approved: bool
    rung: str


class Seen(NamedTuple):
    """One decision that a scorecard had a part in: the features as it saw them, in its order, what it said of them, and
    what was answered."""

    features: Floats
    score: Score
    answered: Answered


@dataclass(slots=True)
class Tally:
    """The counts of a series on a day, or of several days together."""

    bins: Counts
    words: Counter[str]

    @classmethod
    def empty(cls, rows: int) -> Tally:
        """Nothing counted yet."""
        return cls(np.zeros((rows, STRIDE), np.int64), Counter())

    @property
    def n(self) -> int:
        """Decisions counted."""
        return self.words["n"]

    def count(self, bins: Bins, some: Sequence[Seen]) -> None:
        """Count some decisions."""
        values = np.empty((len(some), bins.rows))
        points = [seen.score.points for seen in some]
        values[:, 0] = [math.nan if one is None else one for one in points]
        values[:, 1:] = [seen.features for seen in some]
        self.bins += bins.count(values)
        self.count_words(some)

    def count_words(self, some: Sequence[Seen]) -> None:
        """Count all of some decisions but their numbers. Many are alike: words are made for each sort of them."""
        told = ((seen.answered, seen.score) for seen in some)
        alike = Counter((answered, s.grade, s.points is None, s.problem) for answered, s in told)
        for sort, count in alike.items():
            for word in _words(*sort):
                self.words[word] += count
        pds = [round(pd * PD_UNITS) for seen in some if (pd := seen.score.pd) is not None]
        if pds:
            self.words["p"] += sum(pds)

    def add(self, other: Tally) -> None:
        """Add another tally of the same scorecard."""
        self.bins += other.bins
        self.words.update(other.words)

    def fields(self) -> dict[bytes, int]:
        """As it is stored, without zeros."""
        rows, columns = np.nonzero(self.bins)
        counted = self.bins[rows, columns].tolist()
        places = zip(rows.tolist(), columns.tolist(), counted, strict=True)
        return {b"%d.%d" % (row, column): count for row, column, count in places} | {
            word.encode(): count for word, count in self.words.items() if count
        }


def tally_of(fields: Mapping[bytes, int], rows: int) -> Tally:
    """The tally that is stored so; fields that mean nothing to a scorecard of so many rows are passed over."""
    tally = Tally.empty(rows)
    for name, count in fields.items():
        row, dot, column = name.partition(b".")
        if not (dot and row.isdigit() and column.isdigit()):
            tally.words[name.decode(errors="replace")] += count
        elif int(row) < rows and int(column) < STRIDE:
            tally.bins[int(row), int(column)] += count
    return tally


def sum_of(tallies: Iterable[Tally], rows: int) -> Tally:
    """All of them together."""
    total = Tally.empty(rows)
    for tally in tallies:
        total.add(tally)
    return total


def cause_of(problem: str) -> str:
    """Which of CAUSES the text of a refusal tells."""
    return next((cause for text, cause in _CAUSE_BY_TEXT if text in problem), "other")


def _words(answered: Answered, grade: str | None, unscored: bool, problem: str) -> list[str]:
    words = ["n", f"d:{answered.decision}", f"r:{answered.rung}"]
    words.append(f"x:{cause_of(problem)}" if unscored else f"g:{grade}")
    if answered.hold is not None:
        words.append(f"h:{answered.hold}")
    if answered.approved:
        words.append("a")
    return words
