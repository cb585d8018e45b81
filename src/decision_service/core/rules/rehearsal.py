"""Running the inline tests of a rule set: each against the real compiled code.

A test that says what is asked for (`asks`) is two tests: what it comes to, and, if that is so, what is asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from decision_service.core.decision import Action, Effect
from decision_service.core.rules.asked import SCALE, apr_bps_of, limit_minor_of, shown_actions, shown_asks
from decision_service.core.rules.codegen import (
    FIRED,
    PART_BLOCKS,
    PART_RULES,
    SILENT,
    Generated,
    PartFunction,
    TestCompiler,
)
from decision_service.core.rules.points_spec import grade_name, points_name
from decision_service.core.rules.rule_set import RuleSetSpec
from decision_service.core.rules.rule_tests import shown_points
from decision_service.core.rules.spec import NOTHING_KNOWN, EffectSpec, FixedEffect, TestSpec
from decision_service.core.source import Findings, Place
from decision_service.core.vocabulary import Layout

_VERDICTS: Final = {SILENT: "silent", FIRED: "fires"}  # any other is unknown


@dataclass(frozen=True, slots=True)
class TestResult:
    """One inline test, or what it says is asked for, and what came of it."""

    __test__ = False

    subject: str  # such as rule `overdue`
    verb: str  # gives, or asks for
    expected: str
    actual: str
    passed: bool
    place: Place


class _Run(NamedTuple):
    """What one part of a rule set did with the values of a test."""

    numbers: list[float]
    strings: list[str | None]
    verdicts: bytearray
    cells: list[str]
    effects: list[Effect]


def run_rule_tests(spec: RuleSetSpec, generated: Generated, layout: Layout) -> list[TestResult]:
    """Every inline test of a rule set, on the code that serves. Names a test does not give are null."""
    stage = _Stage(spec, generated, layout)
    results: list[TestResult] = []
    for index, rule in enumerate(spec.rules):
        results += [result for test in rule.tests for result in stage.rule(index, test)]
    for index, block in enumerate(spec.blocks):
        results += [result for test in block.tests for result in stage.block(index, test)]
    for index, card in enumerate(spec.points):
        results += [stage.points(index, test) for test in card.tests]
    return results


def report_failures(results: list[TestResult], findings: Findings) -> None:
    """An error for every test that failed, at the test."""
    for result in results:
        if not result.passed:
            findings.error(
                result.place, f"this test of {result.subject} fails: it {result.verb} `{result.actual}`",
                expected=result.expected, length=len(result.expected) if result.verb == "gives" else 1,
            )  # fmt: skip


class _Stage:
    """Where tests are run: the values of one decision, of which each test sets the few that it gives."""

    def __init__(self, spec: RuleSetSpec, generated: Generated, layout: Layout) -> None:
        self._spec = spec
        self._generated = generated
        self._layout = layout
        self._asks = TestCompiler(spec, layout)
        self._width = max([*layout.numbers.values(), *layout.strings.values()], default=-1) + 1
        self._latest_ms = max((start for dated in spec.dated for start in dated.starts_ms), default=0)

    def rule(self, index: int, test: TestSpec) -> list[TestResult]:
        """A test of a rule: fires, silent or unknown, and what is asked for then."""
        run = self._run(self._generated.rules[index // PART_RULES], test)
        verdict = _VERDICTS.get(run.verdicts[index], "unknown")
        return self._results("rule", self._spec.rules[index].id, test, verdict, run)

    def block(self, index: int, test: TestSpec) -> list[TestResult]:
        """A test of a block: the label of a cell or a row, `otherwise`, unknown; several joined by `+`."""
        run = self._run(self._generated.blocks[index // PART_BLOCKS], test)
        block = self._spec.blocks[index]
        of_block = block.id + ":"
        label = "+".join(cell.removeprefix(of_block) for cell in run.cells if cell.startswith(of_block))
        return self._results(block.sort, block.id, test, label, run)

    def points(self, index: int, test: TestSpec) -> TestResult:
        """A test of a scorecard: the points, or unknown; the grade if that is what the test expects."""
        spec = self._spec.points[index]
        run = self._run(self._generated.points[index // PART_BLOCKS], test)
        if test.expect in dict(spec.grades):
            shown = run.strings[self._layout.strings[grade_name(spec.id)]] or "unknown"
        else:
            points = run.numbers[self._layout.numbers[points_name(spec.id)]]
            shown = shown_points(points) if points == points else "unknown"
        return _result(f"points `{spec.id}`", test, shown)

    def _results(self, sort: str, name: str, test: TestSpec, actual: str, run: _Run) -> list[TestResult]:
        result = _result(f"{sort} `{name}`", test, actual)
        if test.asks is None or not result.passed:
            return [result]
        source = f"{sort}:{name}"
        return [result, self._asked(result.subject, test, {e.action for e in run.effects if e.source == source})]

    def _asked(self, subject: str, test: TestSpec, actual: set[Action]) -> TestResult:
        asks = test.asks or ()
        told, unknown = self._told(asks, test)
        shown = shown_actions(actual, test)
        passed = not unknown and told == actual
        return TestResult(
            subject, "asks for", shown_asks(asks, unknown), shown, passed, test.asks_place or test.place
        )  # fmt: skip

    def _told(self, asks: Sequence[EffectSpec], test: TestSpec) -> tuple[set[Action], list[str]]:
        """The actions that a test names, and the amounts that its values leave unknown."""
        fixed = [effect.action for effect in asks if isinstance(effect, FixedEffect)]
        if len(fixed) == len(asks):  # nothing to compile, as nearly everywhere
            return set(fixed), []
        told = self._run(self._asks.compile(asks), test)
        return {effect.action for effect in told.effects}, told.cells

    def _run(self, part: PartFunction, test: TestSpec) -> _Run:
        """Run a part on the values of a test."""
        run = _Run([NOTHING_KNOWN] * self._width, [None] * self._width, bytearray(len(self._spec.rules)), [], [])
        given = dict(test.given)
        for name, value in given.items():
            if isinstance(value, str) and name in self._layout.strings:
                run.strings[self._layout.strings[name]] = value
            elif isinstance(value, float) and name in self._layout.numbers:
                run.numbers[self._layout.numbers[name]] = value
        lists = {name: value for name, value in given.items() if isinstance(value, frozenset)}
        at_ms = self._latest_ms if test.at_ms is None else test.at_ms
        dated = (constant.at(at_ms) for constant in self._spec.dated)
        part(
            run.numbers, run.strings, lists, at_ms, SCALE, limit_minor_of(test), apr_bps_of(test), run.verdicts,
            run.effects, run.cells, *dated,
        )  # fmt: skip
        return run


def _result(subject: str, test: TestSpec, actual: str) -> TestResult:
    return TestResult(subject, "gives", test.expect, actual, test.expect == actual, test.place)
