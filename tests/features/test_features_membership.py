"""The events an explanation names are the events the kernel counted: every count and sum rebuilt from them."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest
from cases import random_case
from kernel_runner import computed, inputs_of, log_of, row_of, shipped_catalogue, shipped_plan
from oracle import Case

from decision_service.core.event import words_of
from decision_service.core.features.catalogue import FeatureSpec
from decision_service.core.features.contributions import OF, contributions_of, counts_events, span_of
from decision_service.core.features.event_names import FLAGS, KEYS, MEASURES, TEXTS
from decision_service.core.features.membership import GROUP_KEYS, TEXT_CODES, Judge, facts_of
from decision_service.core.zone import zone_named

REBUILT = ("count", "sum", "distinct", "mean", "min", "max", "first", "last")


def rebuilt(case: Case) -> Iterator[tuple[FeatureSpec, float | None]]:
    """Every feature of an aggregation that its contributions add up to, with that sum; None without members."""
    catalogue = shipped_catalogue()
    row, numbers = row_of(case), {**dict.fromkeys(INPUTS, math.nan), **inputs_of(case)}
    words, zone = words_of(log_of(case)), zone_named(case.zone)
    seen = {grain: facts_of(words, row, zone, grain) for grain in ("customer", "facility")}
    judge = Judge(row, numbers)
    for spec in catalogue.specs:
        if (
            spec.grain in seen
            and counts_events(spec)
            and spec.row.plain("agg", spec.variant) in REBUILT
            and spec.null.age_days is None
        ):
            span = span_of(spec.variant, case.t)
            members = [
                c for c in contributions_of(spec, span, catalogue.segments, seen[spec.grain], judge) if c.role == OF
            ]
            parts = [c.contribution for c in members if c.contribution is not None]
            yield spec, math.fsum(parts) if len(members) >= max(spec.null.min_n, 0) and parts else None


INPUTS = ("facility.limit",)


@pytest.mark.parametrize("seed", range(12))
def test_explained_events_add_up_to_what_the_kernel_counted(seed: int) -> None:
    """Counts, sums, distinct keys, means and extremes of the whole catalogue, on histories with every sort of event."""
    case = random_case(seed, 20 + 15 * seed, zone="America/New_York" if seed % 3 == 0 else "Asia/Shanghai")
    values = computed(case, shipped_plan(case.zone))
    wrong = []
    for spec, total in rebuilt(case):
        value = values[spec.name]
        if total is None and not spec.null.min_n:
            total = 0.0 if spec.row.plain("agg", spec.variant) in ("count", "sum", "distinct") else None
        elif total is None and not math.isnan(spec.null.otherwise):
            total = spec.null.otherwise
        same = value is total or (value is not None and total is not None and math.isclose(value, total, rel_tol=1e-9))
        if not same:
            wrong.append(f"{spec.name}: kernel {value}, explained {total}")
    assert not wrong, "\n".join(wrong)


def test_most_of_the_catalogue_is_rebuilt() -> None:
    """The comparison above is about hundreds of features, not about a handful."""
    assert sum(1 for _ in rebuilt(random_case(1, 30))) > 150


@pytest.mark.parametrize("name", [*TEXTS, *FLAGS, *MEASURES, *KEYS])
def test_an_explanation_knows_every_name_a_segment_may_use(name: str) -> None:
    """A text, flag, measure or group key that the kernel learns must be learned here as well."""
    case = random_case(3, 20)
    facts = facts_of(words_of(log_of(case)), row_of(case), zone_named(case.zone))
    judge = Judge(row_of(case), inputs_of(case))
    for fact in facts:
        if name in TEXTS:
            assert isinstance(TEXT_CODES[name](fact), int)
        if name in KEYS:
            assert isinstance(GROUP_KEYS[name](fact), int)
        if name in FLAGS:
            assert judge.flag(name, fact) in (True, False, None)
        if name in MEASURES:
            assert isinstance(judge.measure(name, fact), float)
