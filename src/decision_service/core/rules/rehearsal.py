"""Running the inline tests of a rule set: each against the real compiled code."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from decision_service.core.rules.codegen import FIRED, PART_BLOCKS, PART_RULES, SILENT, Generated, PartFunction
from decision_service.core.rules.points_spec import grade_name, points_name
from decision_service.core.rules.rule_set import RuleSetSpec
from decision_service.core.rules.rule_tests import shown_points
from decision_service.core.rules.spec import NOTHING_KNOWN, TestSpec
from decision_service.core.source import Findings, Place
from decision_service.core.vocabulary import Layout

_SCALE: Final = 100
_VERDICTS: Final = {SILENT: "silent", FIRED: "fires"}  # any other is unknown


@dataclass(frozen=True, slots=True)
class TestResult:
    """One inline test and what came of it."""

    __test__ = False

    subject: str  # such as rule `overdue`
    expected: str
    actual: str
    place: Place

    @property
    def passed(self) -> bool:
        """Whether what was expected happened."""
        return self.expected == self.actual


def run_rule_tests(spec: RuleSetSpec, generated: Generated, layout: Layout) -> list[TestResult]:
    """Every inline test of a rule set, on the code that serves. Names a test does not give are null."""
    stage = _Stage(spec, generated, layout)
    results: list[TestResult] = []
    for index, rule in enumerate(spec.rules):
        results += [stage.result(f"rule `{rule.id}`", test, stage.verdict(index, test)) for test in rule.tests]
    for index, block in enumerate(spec.blocks):
        subject = f"{block.sort} `{block.id}`"
        results += [stage.result(subject, test, stage.label(index, test)) for test in block.tests]
    for index, card in enumerate(spec.points):
        results += [stage.result(f"points `{card.id}`", test, stage.points(index, test)) for test in card.tests]
    return results


def report_failures(results: list[TestResult], findings: Findings) -> None:
    """An error for every test that failed, at the test."""
    for result in results:
        if not result.passed:
            findings.error(
                result.place, f"this test of {result.subject} fails: it gives `{result.actual}`",
                expected=result.expected, length=len(result.expected),
            )  # fmt: skip


class _Stage:
    """Where tests are run: the values of one decision, of which each test sets the few that it gives."""

    def __init__(self, spec: RuleSetSpec, generated: Generated, layout: Layout) -> None:
        self._spec = spec
        self._generated = generated
        self._layout = layout
        self._width = max([*layout.numbers.values(), *layout.strings.values()], default=-1) + 1
        self._latest_ms = max((start for dated in spec.dated for start in dated.starts_ms), default=0)

    @staticmethod
    def result(subject: str, test: TestSpec, actual: str) -> TestResult:
        """What a test of `subject` came to."""
        return TestResult(subject, test.expect, actual, test.place)

    def verdict(self, rule: int, test: TestSpec) -> str:
        """fires, silent or unknown."""
        verdicts = bytearray(len(self._spec.rules))
        self._run(self._generated.rules[rule // PART_RULES], test, verdicts, [])
        return _VERDICTS.get(verdicts[rule], "unknown")

    def label(self, block: int, test: TestSpec) -> str:
        """What a block hits: the label of a cell or a row, `otherwise`, unknown; several joined by `+`."""
        cells: list[str] = []
        self._run(self._generated.blocks[block // PART_BLOCKS], test, bytearray(), cells)
        of_block = self._spec.blocks[block].id + ":"
        return "+".join(cell.removeprefix(of_block) for cell in cells if cell.startswith(of_block))

    def points(self, card: int, test: TestSpec) -> str:
        """The points, or unknown; the grade if that is what the test expects."""
        spec = self._spec.points[card]
        part = self._generated.points[card // PART_BLOCKS]
        numbers, strings = self._run(part, test, bytearray(len(self._spec.rules)), [])
        if test.expect in dict(spec.grades):
            return strings[self._layout.strings[grade_name(spec.id)]] or "unknown"
        points = numbers[self._layout.numbers[points_name(spec.id)]]
        return shown_points(points) if points == points else "unknown"

    def _run(
        self, part: PartFunction, test: TestSpec, verdicts: bytearray, cells: list[str]
    ) -> tuple[list[float], list[str | None]]:
        """Run a part on the values of a test; the vectors afterwards."""
        numbers = [NOTHING_KNOWN] * self._width
        strings: list[str | None] = [None] * self._width
        given = dict(test.given)
        for name, value in given.items():
            if isinstance(value, str) and name in self._layout.strings:
                strings[self._layout.strings[name]] = value
            elif isinstance(value, float) and name in self._layout.numbers:
                numbers[self._layout.numbers[name]] = value
        lists = {name: value for name, value in given.items() if isinstance(value, frozenset)}
        limit = given.get("facility.limit")
        limit_minor = int(limit * _SCALE) if isinstance(limit, float) and limit == limit else 0
        at_ms = self._latest_ms if test.at_ms is None else test.at_ms
        dated = (constant.at(at_ms) for constant in self._spec.dated)
        part(numbers, strings, lists, at_ms, _SCALE, limit_minor, 0, verdicts, [], cells, *dated)
        return numbers, strings
