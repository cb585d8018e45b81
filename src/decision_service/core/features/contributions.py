"""What each event contributes to a feature over events: the members of its segment inside its window.

A contribution is what the event adds to a count or a sum, its part of a mean, 1 or 0 for an event of `among` that is in
`of` or is not, 1 for the newest event of each key of `distinct`, the value itself where one event alone decides (`max`,
`last` ...), and None where all events together do (a quantile, a run, an entropy): then the value is what it brings.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from decision_service.core.features.aggregations import AGGREGATIONS, SEGMENT_KEYS
from decision_service.core.features.catalogue import FeatureSpec, Segment
from decision_service.core.features.membership import GROUP_KEYS, Fact, Judge
from decision_service.core.features.rows import Variant

OF: Final = "of"
AMONG: Final = "among"  # of a share, whose members they are
_ONE_DECIDES: Final = ("first", "last", "min", "max")


@dataclass(frozen=True, slots=True)
class Span:
    """A window in time: `(after_ms, until_ms]`."""

    after_ms: int
    until_ms: int

    def holds(self, fact: Fact) -> bool:
        """Whether a fact lies in it."""
        return self.after_ms < fact.at_ms <= self.until_ms


@dataclass(frozen=True, slots=True)
class Contribution:
    """One fact in the window of a feature. `role` is the key of the row whose segment it is in: of, among, while ..."""

    fact: Fact
    role: str
    value: float | None
    contribution: float | None


def span_of(variant: Variant, t_ms: int, delay_ms: int = 0) -> Span:
    """The window of one variant of a row; a bucket is the difference of two windows."""
    newest = t_ms - delay_ms
    return Span(newest - variant.window_ms, newest - max(variant.bucket, 0) * variant.bucket_ms)


def counts_events(spec: FeatureSpec) -> bool:
    """Whether a feature is made of events directly, not of other features, the request or the facility alone."""
    return spec.row.section == "features" and spec.row.plain("agg", spec.variant) in AGGREGATIONS


def contributions_of(
    spec: FeatureSpec, span: Span, segments: Mapping[str, Segment], facts: Sequence[Fact], judge: Judge
) -> list[Contribution]:
    """The facts a feature looks at, oldest first; those of its own segment carry their contribution."""
    members = _members(spec, span, segments, facts, judge)
    parts = _parts(spec, members, segments, judge)
    seen = [Contribution(fact, OF, value, part) for (fact, value), part in zip(members, parts, strict=True)]
    for key in SEGMENT_KEYS:
        if spec.row.has(key) and key != AMONG:
            tree = segments[spec.row.plain(key, spec.variant)].tree
            seen += [
                Contribution(fact, key, judge.measure("amount", fact), None)
                for fact in facts
                if not fact.is_request and span.holds(fact) and judge.truth(tree, fact)
            ]
    return sorted(seen, key=lambda contribution: (contribution.fact.at_ms, contribution.fact.is_request))


def _members(
    spec: FeatureSpec, span: Span, segments: Mapping[str, Segment], facts: Sequence[Fact], judge: Judge
) -> list[tuple[Fact, float]]:
    """The members of the row's own segment with their values; a member without the value it is asked for drops out."""
    row, variant = spec.row, spec.variant
    tree = segments[row.plain(AMONG if row.has(AMONG) else OF, variant)].tree
    measure = row.plain("value", variant, "amount")
    valued = AGGREGATIONS[row.plain("agg", variant)].valued and measure != "amount"
    found = [
        (fact, judge.measure(measure, fact))
        for fact in facts
        if (row.flag("incl") or not fact.is_request) and span.holds(fact) and judge.truth(tree, fact)
    ]
    return [(fact, value) for fact, value in found if not valued or not math.isnan(value)]


def _parts(
    spec: FeatureSpec, members: Sequence[tuple[Fact, float]], segments: Mapping[str, Segment], judge: Judge
) -> list[float | None]:
    """What each member adds, in the members' order."""
    name = spec.row.plain("agg", spec.variant)
    values = [value for _, value in members]
    if name == "count":
        return [1.0] * len(members)
    if name == "sum":
        return list(values)
    if name == "mean":
        return [value / len(values) for value in values]
    if name == "share":
        tree = segments[spec.row.plain(OF, spec.variant)].tree
        return [float(judge.truth(tree, fact) is True) for fact, _ in members]
    if name == "distinct":
        return _newest_of_each(spec, members)
    if name in _ONE_DECIDES and values:
        chosen = {"first": 0, "last": len(values) - 1, "min": _index(min, values), "max": _index(max, values)}[name]
        return [value if i == chosen else None for i, value in enumerate(values)]
    return [None] * len(members)


def _index(choose: type(min), values: Sequence[float]) -> int:  # type: ignore[valid-type]
    return list(values).index(choose(values))


def _newest_of_each(spec: FeatureSpec, members: Sequence[tuple[Fact, float]]) -> list[float | None]:
    key_of = GROUP_KEYS[spec.row.plain("by", spec.variant)]
    unknown_is_a_key = spec.row.plain("by", spec.variant).startswith("local_")
    seen: set[int] = set()
    parts: list[float | None] = []
    for fact, _ in reversed(members):
        key = key_of(fact)
        new = key not in seen and (key != 0 or unknown_is_a_key)
        seen.add(key)
        parts.append(1.0 if new else 0.0)
    return parts[::-1]
