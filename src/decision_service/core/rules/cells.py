"""Cells: what a row of a decision table, or a bin of a points scorecard, asks of one value.

    any                                  whatever it is, unknown or not
    null · known                         unknown; not unknown
    B · 12 · good_grades                 this value, or one of the list constant
    [A, B]                               one of these; inside a list every word is a value, `any` and `null`, too
    <= late_short · > 0 and <= 0.8       comparisons joined by `and`, with numbers or constants; dated ones as well
    != "app"                             `==` and `!=` are the only comparisons a string knows

A cell is true, false or unknown of a value (Kleene). `any`, `null` and `known` are never unknown; of a null value the
others are unknown, or false where somebody names `null` for the same input (it then is a value of its own).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from decision_service.core.expressions.units import check_bounds
from decision_service.core.limits import LIST_VALUES_MAX
from decision_service.core.rules.spec import DatedConstant
from decision_service.core.source import Findings, Node, Place, Scalar, SequenceNode, nearest_name
from decision_service.core.vocabulary import Kind, Vocabulary

CellSort = Literal["any", "null", "known", "values", "bounds"]
Op = Literal["<", "<=", ">", ">=", "==", "!="]

WORDS: Final[dict[str, CellSort]] = {"any": "any", "null": "null", "known": "known"}
_OPS: Final[dict[str, Op]] = {"<": "<", "<=": "<=", ">": ">", ">=": ">=", "==": "==", "!=": "!="}
_BOUND: Final = re.compile(r"\s*(<=|>=|==|!=|<|>)\s*(?:\"([^\"]*)\"|'([^']*)'|([^\s<>=!\"']+))\s*", re.ASCII)
_AND: Final = re.compile(r"\sand(?=[\s<>=!])")
_NUMBER: Final = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]{1,3})?", re.ASCII)
_SAYS: Final[Mapping[Kind, str]] = {
    Kind.NUMBER: "any, null, known, a number, [numbers], or comparisons such as `> 0 and <= 0.8`",
    Kind.FLAG: "any, null, known, 0 or 1",
    Kind.STRING: 'any, null, known, a text, [texts], or `!= "text"`',
}


@dataclass(frozen=True, slots=True)
class Bound:
    """One comparison of a cell."""

    op: Op
    value: float | str | DatedConstant

    def number_at(self, t_ms: int) -> float:
        """The number compared with at an instant, NaN where a dated constant has none yet."""
        if isinstance(self.value, DatedConstant):
            return self.value.at(t_ms)
        assert isinstance(self.value, float), "only cells of numbers are asked"
        return self.value


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell; `text` is what was typed."""

    sort: CellSort
    text: str
    place: Place
    values: tuple[float | str, ...] = ()
    bounds: tuple[Bound, ...] = ()

    @property
    def dated(self) -> tuple[DatedConstant, ...]:
        """The dated constants among the bounds."""
        return tuple(bound.value for bound in self.bounds if isinstance(bound.value, DatedConstant))


class CellReader:
    """Reads cells over one vocabulary, in which `dated` are the constants that depend on the date."""

    def __init__(self, vocabulary: Vocabulary, dated: Mapping[str, DatedConstant], findings: Findings) -> None:
        self._vocabulary = vocabulary
        self._dated = dated
        self._findings = findings

    def read(self, node: Node, kind: Kind, unit: str = "") -> Cell | None:
        """The cell for a value of some kind (number, flag, string), or None with the reason among the findings.

        Bounds that are measured in something else than the value are warnings.
        """
        cell = self._cell(node, kind)
        if cell is not None and kind is Kind.NUMBER and isinstance(node, Scalar):
            check_bounds(cell.text, cell.place, unit, self._vocabulary, self._findings)
        return cell

    def _cell(self, node: Node, kind: Kind) -> Cell | None:
        if isinstance(node, SequenceNode):
            return self._list(node, kind)
        if not isinstance(node, Scalar) or not node.text:
            self._refused(node, "this is no cell", kind)
            return None
        if node.text in WORDS:
            return Cell(WORDS[node.text], node.text, node.place)
        if node.text.lstrip()[:1] in ("<", ">", "=", "!"):
            return self._comparisons(node, kind)
        values = self._values(node, kind)
        return None if values is None else self._sound(Cell("values", node.text, node.place, values), kind)

    def _refused(self, node: Node, message: str, kind: Kind, nearest: str = "") -> None:
        length = len(node.text) if isinstance(node, Scalar) else 1
        self._findings.error(node.place, message, expected=_SAYS[kind], nearest=nearest, length=max(1, length))

    def _sound(self, cell: Cell, kind: Kind) -> Cell | None:
        """The cell, unless it asks a flag for something it can never be."""
        numbers = [*cell.values, *(bound.value for bound in cell.bounds)]
        if kind is Kind.FLAG and (cell.dated or any(number not in (0.0, 1.0) for number in numbers)):
            self._findings.error(cell.place, "a flag is 0, 1 or null", expected=_SAYS[kind], length=len(cell.text))
            return None
        return cell

    def _list(self, node: SequenceNode, kind: Kind) -> Cell | None:
        values: list[float | str] = []
        for item in node.items[: LIST_VALUES_MAX + 1]:
            found = self._literal(item, kind) if isinstance(item, Scalar) else None
            if found is None:
                self._refused(item, "not a value that this input can have", kind)
                return None
            values += found
        if not 0 < len(values) <= LIST_VALUES_MAX:
            self._refused(node, "a list of values needs at least one", kind)
            return None
        text = "[" + ", ".join(item.text for item in node.items if isinstance(item, Scalar)) + "]"
        return self._sound(Cell("values", text, node.place, tuple(values)), kind)

    def _values(self, node: Scalar, kind: Kind) -> tuple[float | str, ...] | None:
        found = self._literal(node, kind)
        if found is None:
            nearest = nearest_name(node.text, [*WORDS, *self._constant_names(kind)])
            self._refused(node, f"`{node.text}` is no cell for {kind.value}s", kind, nearest)
        return found

    def _literal(self, node: Scalar, kind: Kind) -> tuple[float | str, ...] | None:
        """The values one word stands for: itself, or a constant's."""
        if kind is Kind.STRING and node.quoted:
            return (node.text,)
        constant = self._constant(node.text)
        values = constant if isinstance(constant, tuple) else (constant,)
        if constant is not None and all(isinstance(value, str) is (kind is Kind.STRING) for value in values):
            return tuple(value for value in values if value is not None)
        if kind is Kind.STRING:
            return (node.text,) if node.text else None
        number = self._number(node.text)
        return None if number is None else (number,)

    def _constant(self, name: str) -> float | str | tuple[float | str, ...] | None:
        if name not in self._vocabulary:
            return None
        return self._vocabulary[name].constant

    def _constant_names(self, kind: Kind) -> list[str]:
        text = kind is Kind.STRING
        return [
            name
            for name, spec in self._vocabulary.items()
            if (spec.constant is not None and isinstance(spec.constant, str) is text)
            or (name in self._dated and not text)
        ]

    @staticmethod
    def _number(text: str) -> float | None:
        if not _NUMBER.fullmatch(text):
            return None
        value = float(text)
        return value if math.isfinite(value) else None

    # --- comparisons --------------------------------------------------------------------------------------------

    def _comparisons(self, node: Scalar, kind: Kind) -> Cell | None:
        bounds: list[Bound] = []
        offset = 0
        for part in _AND.split(node.text):
            bound = self._bound(part, node.place.moved(offset + len(part) - len(part.lstrip())), kind)
            if bound is None:
                return None
            bounds.append(bound)
            offset += len(part) + len(" and")
        return self._sound(Cell("bounds", node.text, node.place, bounds=tuple(bounds)), kind)

    def _bound(self, text: str, place: Place, kind: Kind) -> Bound | None:
        match = _BOUND.fullmatch(text)
        if match is None:
            self._findings.error(place, "not a comparison", expected=_SAYS[kind], length=max(1, len(text.strip())))
            return None
        op, word = _OPS[match[1]], match[4]
        quoted = match[2] if match[2] is not None else match[3]
        at = place.moved(match.start(2 if match[2] is not None else 3 if word is None else 4) - _lead(text))
        if kind is Kind.STRING and op not in ("==", "!="):
            self._findings.error(place, f"strings have no order, `{op}` needs numbers", expected=_SAYS[kind])
            return None
        value = self._text(word, quoted) if kind is Kind.STRING else self._limit(word)
        if value is None:
            shown = word if word is not None else f'"{quoted}"'
            self._findings.error(
                at, f"`{shown}` is not a number", expected="a number or a constant's name",
                nearest=nearest_name(shown, self._constant_names(kind)), length=len(shown),
            )  # fmt: skip
            return None
        return Bound(op, value)

    def _text(self, word: str | None, quoted: str | None) -> str | None:
        if word is None:
            return quoted
        constant = self._constant(word)
        return constant if isinstance(constant, str) else word

    def _limit(self, word: str | None) -> float | DatedConstant | None:
        if word is None:
            return None
        if word in self._dated:
            self._vocabulary[word]  # it is used
            return self._dated[word]
        constant = self._constant(word)
        return constant if isinstance(constant, float) else self._number(word)


def _lead(text: str) -> int:
    return len(text) - len(text.lstrip())
