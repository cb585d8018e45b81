"""The points table of a WOE scorecard: what every bin of every feature gives, which is the scorecard itself."""

from __future__ import annotations

import math
from itertools import chain

from decision_service.core.scorecards.woe import WoeBin, WoeFeature, WoeScorer, bin_text
from decision_service.report import Cell, Section, Table, Text, percent
from decision_service.train.card.subject import Subject


def points_table(subject: Subject) -> Section:
    """Bins with points, WOE and training rows; a model of another kind has no such table and says so."""
    scorer = subject.card.scorer
    title = "Points table"
    if not isinstance(scorer, WoeScorer):
        return Section(title, (Text("The model is made of trees: no table of points adds up to its score."),))
    rows = tuple(chain.from_iterable(_lines(feature) for feature in scorer.model.features))
    columns = ("feature", "values", "points", "WOE", "rows", "share", "bads", "bad rate")
    note = "Points of a row's bins add up to its score but for rounding; rows and bads are those of training."
    return Section(title, (Table(columns, rows, note),))


def _lines(feature: WoeFeature) -> list[tuple[Cell, ...]]:
    lows = (-math.inf, *(one.below for one in feature.bins))
    named = [(bin_text(low, one.below), one) for low, one in zip(lows, feature.bins, strict=False)]
    named += [] if feature.missing is None else [("null", feature.missing)]
    return [(f"`{feature.name}`", text, *_cells(one, feature.rows)) for text, one in named]


def _cells(one: WoeBin, rows: int) -> tuple[Cell, ...]:
    return (
        one.points,
        f"{one.woe:+.3f}".replace("-", "−"),
        one.rows,
        percent(one.rows / rows),
        one.bads,
        percent(one.bad_rate, 2),
    )
