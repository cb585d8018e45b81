"""Running the inline tests of a rule set: each against the real compiled code of its one rule or matrix."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from decision_service.core.rules.codegen import FIRED, SILENT, Evaluation, RuleSetCompiler
from decision_service.core.rules.spec import NOTHING_KNOWN, MatrixSpec, RuleSetSpec, RuleSpec, TestSpec
from decision_service.core.source import Findings, Place
from decision_service.core.vocabulary import Layout

_SCALE: Final = 100
_VERDICTS: Final = {SILENT: "silent", FIRED: "fires"}  # any other is unknown


@dataclass(frozen=True, slots=True)
class TestResult:
    """One inline test and what came of it."""

    __test__ = False

    subject: str  # rule:id or matrix:id
    expected: str
    actual: str
    place: Place

    @property
    def passed(self) -> bool:
        """Whether what was expected happened."""
        return self.expected == self.actual


def run_rule_tests(spec: RuleSetSpec) -> list[TestResult]:
    """Every inline test of a rule set. Names a test does not give are null."""
    results: list[TestResult] = []
    for rule in spec.rules:
        if rule.tests:
            results += _rehearse(spec, rule)
    for matrix in spec.matrices:
        if matrix.tests:
            results += _rehearse(spec, matrix)
    return results


def report_failures(results: list[TestResult], findings: Findings) -> None:
    """An error for every test that failed, at the test."""
    for result in results:
        if not result.passed:
            findings.error(
                result.place, f"this test of {result.subject} fails: it gives `{result.actual}`",
                expected=result.expected, length=len(result.expected),
            )  # fmt: skip


def _rehearse(spec: RuleSetSpec, part: RuleSpec | MatrixSpec) -> list[TestResult]:
    alone = replace(
        spec,
        rules=(part,) if isinstance(part, RuleSpec) else (),
        matrices=(part,) if isinstance(part, MatrixSpec) else (),
    )
    names = sorted(part.names)
    layout = Layout({name: i for i, name in enumerate(names)}, {name: i for i, name in enumerate(names)})
    evaluate = RuleSetCompiler(alone, layout).compile()
    latest = max((start for dated in spec.dated for start in dated.starts_ms), default=0)
    sort = "rule" if isinstance(part, RuleSpec) else "matrix"
    return [
        TestResult(f"{sort} `{part.id}`", test.expect, _verdict(_run(test, names, latest, evaluate)), test.place)
        for test in part.tests
    ]


def _run(test: TestSpec, names: list[str], latest_ms: int, evaluate: Callable[..., Evaluation]) -> Evaluation:
    given = dict(test.given)
    numbers = [v if isinstance(v, float) else NOTHING_KNOWN for v in (given.get(name) for name in names)]
    strings = [v if isinstance(v, str) else None for v in (given.get(name) for name in names)]
    lists = {name: value for name, value in given.items() if isinstance(value, frozenset)}
    limit = given.get("facility.limit")
    limit_minor = int(limit * _SCALE) if isinstance(limit, float) and limit == limit else 0
    at_ms = latest_ms if test.at_ms is None else test.at_ms
    return evaluate(numbers, strings, lists, at_ms, _SCALE, limit_minor, 0)


def _verdict(evaluation: Evaluation) -> str:
    if evaluation.cells:
        return evaluation.cells[0].split(":", 1)[1]
    return _VERDICTS.get(evaluation.verdicts[0], "unknown")
