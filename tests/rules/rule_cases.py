"""What the tests of rules share: a vocabulary, a layout over it, and reading a rule set from text."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

from decision_service.core.rules.compile import Evaluation, RuleSet, compile_rule_set
from decision_service.core.rules.schema import read_rule_set
from decision_service.core.source import Findings
from decision_service.core.vocabulary import BASE_NUMBERS, BASE_STRINGS, Kind, Layout, NameSpec, Vocabulary
from decision_service.policies.files import read_text

_FEATURES: Final = ("vel_req_cnt_10m", "vel_req_cnt_1h", "con_amt_p90_365d", "utl_after", "ext_inq_cnt_30d")
VOCABULARY: Final = Vocabulary(
    {spec.name: spec for spec in (*BASE_NUMBERS, *BASE_STRINGS)}
    | {name: NameSpec(name, Kind.NUMBER) for name in _FEATURES}
    | {"tod_is_odd": NameSpec("tod_is_odd", Kind.FLAG), "behaviour.grade": NameSpec("behaviour.grade", Kind.STRING)}
    | {"list.block": NameSpec("list.block", Kind.LIST)}
)
_NUMBERS: Final = tuple(n for n, s in VOCABULARY.items() if s.kind in (Kind.NUMBER, Kind.FLAG))
_STRINGS: Final = tuple(n for n, s in VOCABULARY.items() if s.kind is Kind.STRING)
LAYOUT: Final = Layout({n: i for i, n in enumerate(_NUMBERS)}, {n: i for i, n in enumerate(_STRINGS)})
HEAD: Final = "rule_set: drawdown\nscene: drawdown\nfallback: {static: {hold: review, reason: RC90}}\n"
JULY_2026_MS: Final = 1_782_864_000_000


def compiled(text: str, findings: Findings | None = None) -> RuleSet:
    """A rule set that must compile without errors."""
    found = Findings() if findings is None else findings
    document = read_text(HEAD + text, "drawdown.yaml", found)
    spec = None if document is None else read_rule_set(document, VOCABULARY, found)
    rule_set = None if spec is None else compile_rule_set(spec, LAYOUT, found)
    assert rule_set is not None, "\n".join(d.render() for d in found.errors)
    assert not found.errors, "\n".join(d.render() for d in found.errors)
    return rule_set


def rendered(text: str) -> str:
    """Every diagnostic of a whole file that is wrong, as an analyst sees them."""
    findings = Findings()
    document = read_text(text, "drawdown.yaml", findings)
    spec = None if document is None else read_rule_set(document, VOCABULARY, findings)
    if spec is not None:
        compile_rule_set(spec, LAYOUT, findings)
    return "\n\n".join(d.render() for d in sorted(findings.diagnostics, key=lambda d: d.place)) + "\n"


def evaluate(
    rule_set: RuleSet,
    values: Mapping[str, float | str],
    lists: Mapping[str, frozenset[str]] | None = None,
    t_ms: int = JULY_2026_MS,
) -> Evaluation:
    """One decision over `values`; everything else is null. A limit of 1,000.00 at 18 %."""
    numbers = [math.nan] * len(_NUMBERS)
    strings: list[str | None] = [None] * len(_STRINGS)
    for name, value in values.items():
        if isinstance(value, str):
            strings[LAYOUT.strings[name]] = value
        else:
            numbers[LAYOUT.numbers[name]] = value
    return rule_set.evaluate(numbers, strings, lists or {}, t_ms, 100, 100_000, 1_800)
