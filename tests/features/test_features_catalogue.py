"""What an analyst is told about a feature file: expansion, meanings, and every kind of mistake."""

from __future__ import annotations

import pytest
from kernel_runner import BASE, catalogue_of, shipped_catalogue

from decision_service.core.features.durations import LIFE_MS, duration_ms
from decision_service.core.features.nulls import NullRule, read_codes
from decision_service.core.source import Findings
from decision_service.core.vocabulary import Kind

SEGMENTS = 'segments: {draws: kind == "drawdown"}\n'
TEXTS = 'unit: n, en: "x", zh: "x"'


def mistakes(text: str) -> list[str]:
    """The messages for one file."""
    findings = Findings()
    catalogue_of(text, findings)
    return [d.message for d in findings.diagnostics]


def test_windows_multiply_a_row() -> None:
    """A list of windows appends their labels; one window does not; a mapping names its own labels."""
    findings = Findings()
    rows = (
        f"features:\n  a: {{agg: count, of: draws, windows: [10m, 7d], null: Z, {TEXTS}}}\n"
        f"  b: {{agg: count, of: draws, window: life, null: Z, {TEXTS}}}\n"
        f"  c: {{agg: count, of: draws, windows: {{3m: 90d}}, null: Z, {TEXTS}}}\n"
        f"  d: {{agg: sum, of: draws, buckets: 2 x 30d, null: Z, {TEXTS}}}\n"
    )
    catalogue = catalogue_of(SEGMENTS + rows, findings)
    assert findings.diagnostics == []
    assert list(catalogue.by_name) == ["a_10m", "a_7d", "b", "c_3m", "d_m0", "d_m1"]


def test_division_brings_its_companion() -> None:
    """`null: D` on a derived row defines `<name>__new`, a flag."""
    findings = Findings()
    text = "derived:\n  r: {expr: facility.outstanding / facility.limit, null: D, unit: ratio, en: x, zh: x}\n"
    catalogue = catalogue_of(text, findings)
    assert [(s.name, s.kind) for s in catalogue.specs] == [("r", Kind.NUMBER), ("r__new", Kind.FLAG)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("featurs: {}", "unknown section `featurs`"),
        ("features: {a: {ag: count}}", "unknown key `ag`"),
        (f"features: {{a: {{agg: cuont, of: draws, window: 7d, null: Z, {TEXTS}}}}}", "unknown aggregation `cuont`"),
        (f"features: {{a: {{agg: count, of: drws, window: 7d, null: Z, {TEXTS}}}}}", "unknown segment `drws`"),
        (f"features: {{a: {{agg: count, of: draws, window: 7w, null: Z, {TEXTS}}}}}", "`7w` is no window"),
        (f"features: {{a: {{agg: count, of: draws, window: 7d, null: Q, {TEXTS}}}}}", "unknown null code `Q`"),
        (f"features: {{a: {{agg: quantile, of: draws, window: 7d, null: Z, {TEXTS}}}}}", "`quantile` needs `q`"),
        (f"features: {{a: {{agg: count, of: draws, null: Z, {TEXTS}}}}}", "`count` needs a window"),
        (f"features: {{a: {{agg: series_sum, over: b, month: 3, null: Z, {TEXTS}}}}}",
         "`b` is no row of buckets"),
        (f"derived: {{a: {{expr: a + 1, null: Z, {TEXTS}}}}}", "feature `a` refers to itself: a -> a"),
        (f"derived: {{a: {{expr: facility.limit > 1, null: Z, {TEXTS}}}}}", "feature `a` is a condition"),
        ("derived: {a: {expr: 1, null: Z, unit: n}}", "feature `a` has no `en`"),
        ("segments: {s: amount}", "segment `s` is no condition"),
        ("features: 3", "`features` must be a mapping of names"),
        ("features: {a: 3}", "`a` is not a row"),
    ],
)  # fmt: skip
def test_mistakes_are_named(text: str, message: str) -> None:
    """Each mistake is a diagnostic, not an exception."""
    prefix = "" if text.startswith("segments") else SEGMENTS
    assert message in mistakes(prefix + text + "\n")


def test_a_mistake_says_where_and_what_is_near() -> None:
    """Line, column, caret and the nearest name are those of the mistyped word."""
    findings = Findings()
    catalogue_of(SEGMENTS + f"features:\n  a: {{agg: cout, of: draws, window: 7d, null: Z, {TEXTS}}}\n", findings)
    (found,) = findings.diagnostics
    assert (found.place.line, found.place.column, found.nearest) == (3, 12, "count")


def test_all_mistakes_are_reported_at_once() -> None:
    """Two bad rows give two findings."""
    rows = "".join(f"  {name}: {{agg: nothing, of: draws, window: 7d, null: Z, {TEXTS}}}\n" for name in "ab")
    assert len(mistakes(SEGMENTS + "features:\n" + rows)) == 2


def test_two_definitions_of_one_name_are_refused() -> None:
    """A row that expands to an existing name is a mistake, so is one that hides an input."""
    one = f"  a_7d: {{agg: count, of: draws, window: 7d, null: Z, {TEXTS}}}\n"
    two = f"  a: {{agg: count, of: draws, windows: [7d], null: Z, {TEXTS}}}\n"
    assert mistakes(SEGMENTS + "features:\n" + one + two) == ["feature `a_7d` is defined twice"]


def test_every_shipped_row_is_explained() -> None:
    """All visible features have a meaning in English and Chinese, a unit and a null rule."""
    for spec in shipped_catalogue().specs:
        if not spec.internal:
            assert spec.meaning_en, spec.name
            assert spec.meaning_zh, spec.name
            assert spec.unit, spec.name
            assert spec.name not in BASE


def test_durations() -> None:
    """Minutes, hours, days and life are durations; months and zero are not."""
    assert [duration_ms(text) for text in ("10m", "24h", "7d", "life")] == [600_000, 86_400_000, 604_800_000, LIFE_MS]
    assert [duration_ms(text) for text in ("0d", "7", "7w", "-1d", "", "1.5h")] == [None] * 6


def test_null_codes() -> None:
    """Codes combine; `Hn` counts days, `H` the window, `H30p` thirty days a month."""
    rule = read_codes(["N2", "D", "H30p", "Cap[-20,20]"])
    assert isinstance(rule, NullRule)
    assert (rule.min_n, rule.surge, rule.cap) == (2, True, (-20, 20))
    assert rule.min_age_ms(0, 6) == 180 * 86_400_000
    assert read_codes(["N2->0"]) == NullRule(("N2->0",), 2, 0.0)
    assert read_codes(["Z", "what"]) == "what"
