"""Points scorecards: a score an analyst writes by hand, bin by bin.

    points:
      - id: intent
        base: 500
        of:
          - {value: utl_now, bins: {"<= 0.3": 30, "> 0.3 and <= 0.8": 10, "> 0.8": -20, null: 0}}
          - {value: facility.product, bins: {revolving: 20, any: 0}}
        grades: {A: 560, B: 520, C: 0}      optional: lowest points of each, falling; below all is the last
        tests: [{given: {utl_now: 0.2, facility.product: revolving}, expect: 550}, {given: {}, expect: unknown}]

It defines `intent.points` and, with grades, `intent.grade`, which rules and blocks use as they use a model's. The keys
of `bins` are cells as in a table (`cells.py`), and the first that takes the value counts; values that no bin takes are
an error. A value that is null without a bin for it makes the score null. One scorecard does not build on another.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Final

from decision_service.core.expressions.check import SAYS
from decision_service.core.expressions.names import names_in
from decision_service.core.expressions.parse import parse_expression
from decision_service.core.expressions.tree import (
    And,
    Call,
    Compare,
    IfElse,
    In,
    Literals,
    Name,
    Not,
    Number,
    Or,
    String,
    Tree,
)
from decision_service.core.expressions.units import report_mixed_units, unit_of
from decision_service.core.limits import POINTS_BINS_MAX
from decision_service.core.rules.cells import Bound, Cell, CellReader
from decision_service.core.rules.fields import check_keys, mapping, number, scalar, sequence
from decision_service.core.rules.heads import HeadReader
from decision_service.core.rules.points_spec import Characteristic, PointsSpec, grade_name, points_name
from decision_service.core.rules.spec import DatedConstant
from decision_service.core.rules.table_checks import check_table
from decision_service.core.rules.table_spec import UNKNOWN, TableInput, TableRow, TableSpec
from decision_service.core.source import Findings, MappingNode, Node, Place, Scalar, SequenceNode
from decision_service.core.vocabulary import Kind, NameSpec, Vocabulary

_KEYS: Final = ("id", "note", "base", "of", "grades", "tests")
_OF_KEYS: Final = ("value", "bins", "note")
_KINDS: Final = (Kind.NUMBER, Kind.FLAG, Kind.STRING)
_CHAIN_MAX: Final = 16  # bins asked one after the other; longer lists are halved, so that expressions stay shallow
Bins = tuple[tuple[Cell, float], ...]


def points_names(root: MappingNode, vocabulary: Vocabulary, findings: Findings) -> list[NameSpec]:
    """The names that the points scorecards of a rule set define; ids that a model's scorecard has are errors."""
    node = root.get("points")
    return [
        spec for item in (node if isinstance(node, SequenceNode) else ()) for spec in _names(item, vocabulary, findings)
    ]


def _names(item: Node, vocabulary: Vocabulary, findings: Findings) -> Iterator[NameSpec]:
    card = item.get("id") if isinstance(item, MappingNode) else None
    if not isinstance(item, MappingNode) or not isinstance(card, Scalar):
        return
    if points_name(card.text) in vocabulary:
        findings.error(
            card.place, f"`{card.text}` is the scorecard of a model", expected="an id of its own", length=len(card.text)
        )
        return
    yield NameSpec(points_name(card.text), Kind.NUMBER, "points")
    grades = item.get("grades")
    if isinstance(grades, MappingNode):
        yield NameSpec(grade_name(card.text), Kind.STRING, values=grades.keys())


class PointsReader:
    """Reads the points scorecards of one rule set, which define `defined`."""

    def __init__(self, heads: HeadReader, defined: Sequence[NameSpec]) -> None:
        self._heads = heads
        self._findings = heads.findings
        self._cells = CellReader(heads.vocabulary, heads.dated, heads.findings)
        self._defined = frozenset(spec.name for spec in defined)

    def read(self, node: MappingNode) -> PointsSpec | None:
        """One points scorecard, or None with the reasons among the findings."""
        sound = check_keys(node, _KEYS, ("id", "base", "of"), "a points scorecard", self._findings)
        card, base_node, of_node, grades_node = (
            self._heads.id(node),
            node.get("base"),
            node.get("of"),
            node.get("grades"),
        )
        base = None if base_node is None else number(base_node, "`base`", self._findings)
        of = None if of_node is None else self._of(of_node, card or "")
        grades = () if grades_node is None else self._grades(grades_node)
        if not sound or card is None or base is None or of is None or grades is None:
            return None
        specs = [spec for one in of for spec in (*names_in(one.value), *names_in(one.points))]
        expected = (*(name for name, _ in grades), UNKNOWN)
        tests = self._heads.tests(node, [s for s in specs if s.name not in self._heads.dated], expected, numbers=True)
        return PointsSpec(card, node.place, base, of, grades, tests, self._heads.names(specs), self._heads.note(node))

    # --- characteristics ----------------------------------------------------------------------------------------

    def _of(self, node: Node, card: str) -> tuple[Characteristic, ...] | None:
        items = sequence(node, "`of`", self._findings)
        if items is None:
            return None
        if not items.items:
            self._findings.error(node.place, "a scorecard without a value", expected="- {value: name, bins: {...}}")
            return None
        read = [self._characteristic(item, card) for item in items]
        return tuple(one for one in read if one is not None) if None not in read else None

    def _characteristic(self, node: Node, card: str) -> Characteristic | None:
        block = mapping(node, "an item of `of`", node.place, self._findings)
        if block is None or not check_keys(block, _OF_KEYS, ("value", "bins"), "an item of `of`", self._findings):
            return None
        value_node, bins_node = block.get("value"), block.get("bins")
        text = None if value_node is None else scalar(value_node, "`value`", self._findings)
        value = None if text is None else self._value(text)
        if text is None or value is None or bins_node is None:
            return None
        bins = self._bins(bins_node, value)
        if not bins:
            return None
        self._check(card, text, value, bins, bins_node.place)
        return Characteristic(text.text, value, bins, _points(value, bins))

    def _value(self, text: Scalar) -> Tree | None:
        value = parse_expression(text.text, text.place, self._heads.vocabulary, self._findings)
        if value is None:
            return None
        names = {spec.name for spec in names_in(value)}
        message = ""
        if value.kind not in _KINDS or not names:
            message = (
                f"this is {SAYS[value.kind]}" if value.kind not in _KINDS else "this is the same for every decision"
            )
        built_on = sorted(names & self._defined)
        if built_on:
            message = f"a points scorecard does not build on another: `{built_on[0]}`"
        if message:
            self._findings.error(
                text.place, message, expected="a number, a flag or a string that a decision computes",
                length=len(text.text),
            )  # fmt: skip
        return None if message else value

    def _bins(self, node: Node, value: Tree) -> Bins | None:
        block = mapping(node, "`bins`", node.place, self._findings)
        if block is None:
            return None
        if not 0 < len(block.items) <= POINTS_BINS_MAX:
            self._findings.error(node.place, f"{len(block.items)} bins", expected=f"1 to {POINTS_BINS_MAX} bins")
            return None
        kind, unit = value.kind, unit_of(value)
        read = [
            (self._cells.read(key, kind, unit), number(points, "points", self._findings)) for key, points in block.items
        ]
        sound = tuple((cell, points) for cell, points in read if cell is not None and points is not None)
        return sound if len(sound) == len(read) else None

    def _check(self, card: str, text: Scalar, value: Tree, bins: Bins, place: Place) -> None:
        """Report values that no bin takes, bins in vain and bins that meet: those of a table of one input."""
        report_mixed_units(value, self._findings)
        null = any(cell.sort == "null" for cell, _ in bins)
        rows = tuple(TableRow(cell.text, (cell,), (), f"{points:g}", cell.place) for cell, points in bins)
        table = TableSpec(
            card, "", place, "first", (TableInput(text.text, value, text.place, null),), rows, None, "skip", "", (),
            frozenset(),
        )  # fmt: skip
        check_table(table, self._heads.zone, self._findings, row="bin", cure="a bin for it, or a last bin `any`")

    # --- grades -------------------------------------------------------------------------------------------------

    def _grades(self, node: Node) -> tuple[tuple[str, float], ...] | None:
        block = mapping(node, "`grades`", node.place, self._findings)
        if block is None:
            return None
        read = [(key.text, number(least, f"grade `{key.text}`", self._findings)) for key, least in block.items]
        sound = tuple((name, least) for name, least in read if least is not None)
        falling = all(a > b for (_, a), (_, b) in pairwise(sound))
        if len(read) < 2 or not falling or any(not name for name, _ in read):
            self._findings.error(
                node.place, "grades must be two at least, with falling points", expected="{A: 560, B: 520, C: 0}"
            )
            return None
        return sound if len(sound) == len(read) else None


# --- the points of a value as an expression --------------------------------------------------------------------------


def _points(value: Tree, bins: Bins) -> Tree:
    """The points of a value: those of the first bin that takes it, null if that cannot be known."""
    place = value.place
    of_null = next((points for cell, points in bins if cell.sort in ("null", "any")), None)
    of_known = _first([(_taken(cell, value), points) for cell, points in bins if cell.sort != "null"], place)
    if of_null is None or not any(cell.sort == "null" for cell, _ in bins):
        return of_known
    return IfElse(Call("is_null", (value,), place, Kind.BOOLEAN), Number(of_null, place), of_known, place, Kind.NUMBER)


def _first(choices: Sequence[tuple[Tree | None, float]], place: Place) -> Tree:
    """The number behind the first condition that is true; None is a condition that always is."""
    if len(choices) > _CHAIN_MAX:
        half = len(choices) // 2
        conditions = [condition for condition, _ in choices[:half]]
        known = tuple(condition for condition in conditions if condition is not None)
        if len(known) < len(conditions):
            return _first(choices[:half], place)
        return IfElse(
            Or(known, place), _first(choices[:half], place), _first(choices[half:], place), place, Kind.NUMBER
        )
    points: Tree = Number(float("nan"), place)
    for condition, value in reversed(choices):
        number_ = Number(value, place)
        points = number_ if condition is None else IfElse(condition, number_, points, place, Kind.NUMBER)
    return points


def _taken(cell: Cell, value: Tree) -> Tree | None:
    """A cell as a condition on a value that is known."""
    place = cell.place
    if cell.sort == "any":
        return None
    if cell.sort == "known":
        return Not(Call("is_null", (value,), place, Kind.BOOLEAN), place)
    if cell.sort == "values":
        return In(value, Literals(cell.values, place), place)
    conditions = tuple(_compared(bound, value, place) for bound in cell.bounds)
    return conditions[0] if len(conditions) == 1 else And(conditions, place)


def _compared(bound: Bound, value: Tree, place: Place) -> Tree:
    limit: Tree
    if isinstance(bound.value, DatedConstant):
        limit = Name(NameSpec(bound.value.name, Kind.NUMBER), place)
    else:
        limit = String(bound.value, place) if isinstance(bound.value, str) else Number(bound.value, place)
    if bound.op == "!=":
        return Not(Compare("==", value, limit, place), place)
    return Compare(bound.op, value, limit, place)
