"""A matrix: what to do by the row and the column two values fall into.

    rows: behaviour.grade in [A, B, C, D, E, null]      one row a value; anything else is unknown
    columns: utl_after <= [0.50, 0.80, 0.95, inf]       one column up to and including each edge

The last edge is inf, so that no number falls beside the matrix. A last `null` gives unknown values a row or column of
their own; without it, and for a value that is in no row, the matrix is unknown and its `on_null` decides. `cells` has
one list a row, under the row's label, with one effect a column; all of them must be there. A cell that caps the draw
approves it up to the cap.
"""

from __future__ import annotations

import math
import re
from itertools import pairwise
from typing import Final

from decision_service.core.decision import Approve, Hold
from decision_service.core.expressions.units import check_bounds
from decision_service.core.limits import MATRIX_CELLS_MAX
from decision_service.core.rules.effects import EffectReader, action_of
from decision_service.core.rules.fields import check_keys, mapping, sequence
from decision_service.core.rules.heads import HeadReader, amount_names
from decision_service.core.rules.spec import Axis, ComputedEffect, EffectSpec, FixedEffect, MatrixSpec
from decision_service.core.source import Findings, MappingNode, Node, Place, Scalar, nearest_name
from decision_service.core.vocabulary import Kind, NameSpec, Vocabulary

Cells = tuple[tuple[tuple[EffectSpec, ...], ...], ...]

_AXIS: Final = re.compile(r"\s*([A-Za-z_][A-Za-z0-9_.]*)\s*(in|<=)\s*\[(.*)\]\s*", re.DOTALL | re.ASCII)
_EXPECTED: Final = "`name in [A, B, C]` or `name <= [0.5, 0.8, inf]`, a last `null` for unknown values"
_NUMBER: Final = re.compile(r"-?[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]{1,3})?", re.ASCII)
NULL: Final = "null"
_KEYS: Final = ("id", "stage", "note", "rows", "columns", "cells", "on_null", "reason", "tests")


def read_matrix(node: MappingNode, heads: HeadReader) -> MatrixSpec | None:
    """One matrix, or None with the reasons among the findings."""
    findings = heads.findings
    sound = check_keys(node, _KEYS, ("id", "rows", "columns", "cells"), "a matrix", findings)
    head = heads.head(node)
    rows_node, columns_node, cells_node = node.get("rows"), node.get("columns"), node.get("cells")
    rows = None if rows_node is None else read_axis(rows_node, "rows", heads.vocabulary, findings)
    columns = None if columns_node is None else read_axis(columns_node, "columns", heads.vocabulary, findings)
    cells = None
    if rows is not None and columns is not None and cells_node is not None:
        cells = read_cells(cells_node, rows, columns, heads.effects, findings)
    every = [effect for row in cells or () for cell in row for effect in cell]
    on_null, reason = heads.on_null(node, every, may_fire=False), heads.reason(node, every)
    if rows is None or columns is None or cells is None or head is None or not sound:
        return None
    if on_null is None or reason is None:
        return None
    specs = [rows.name, columns.name, *amount_names(every)]
    labels = [f"{row}/{column}" for row in rows.labels for column in columns.labels]
    return MatrixSpec(
        head.id, head.stage, head.place, rows, columns, cells, on_null, reason,
        heads.tests(node, specs, (*labels, "unknown")), heads.names(specs), head.note,
    )  # fmt: skip


def read_axis(node: Node, what: str, vocabulary: Vocabulary, findings: Findings) -> Axis | None:
    """One axis, or None with the reason among the findings."""
    match = _AXIS.fullmatch(node.text) if isinstance(node, Scalar) else None
    if match is None:
        findings.error(node.place, f"`{what}` is not an axis", expected=_EXPECTED)
        return None
    spec = vocabulary.get(match[1])
    place = node.place.moved(match.start(1))
    if spec is None or spec.constant is not None or spec.kind is Kind.LIST:
        findings.error(
            place, f"unknown name `{match[1]}`", expected="a number or a string that a decision computes",
            nearest=nearest_name(match[1], vocabulary), length=len(match[1]),
        )  # fmt: skip
        return None
    labels = tuple(item.strip().strip("\"'") for item in match[3].split(","))
    if spec.kind is Kind.NUMBER:
        check_bounds(match[3], node.place.moved(match.start(3)), spec.unit, vocabulary, findings)
    return _axis(spec, match[2] == "<=", labels, node.place.moved(match.start(3)), vocabulary, findings)


def _axis(
    spec: NameSpec, ranged: bool, labels: tuple[str, ...], place: Place, vocabulary: Vocabulary, findings: Findings
) -> Axis | None:
    proper = labels[:-1] if labels[-1] == NULL else labels
    if ranged and spec.kind is Kind.STRING:
        findings.error(place, f"`{spec.name}` is a string, strings have no order", expected="`in`")
        return None
    if not proper or len(set(proper)) < len(proper):
        findings.error(place, "an axis needs at least one value, each of them once", expected=_EXPECTED)
        return None
    if spec.kind is Kind.STRING:
        return Axis(spec, proper, False, labels)
    numbers = [_edge(label, place, vocabulary, findings) for label in proper]
    values = tuple(number for number in numbers if number is not None)
    if len(values) < len(numbers):
        return None
    if ranged and (values[-1] != math.inf or any(a >= b for a, b in pairwise(values))):
        findings.error(place, "edges must rise and end with inf, so that nothing falls beside", expected=_EXPECTED)
        return None
    return Axis(spec, values, ranged, labels)


def _edge(label: str, place: Place, vocabulary: Vocabulary, findings: Findings) -> float | None:
    if label == "inf":
        return math.inf
    if _NUMBER.fullmatch(label):
        return float(label)
    spec = vocabulary.get(label)
    if spec is not None and isinstance(spec.constant, float):
        return spec.constant
    if spec is not None and spec.constant is None and spec.kind is Kind.NUMBER:
        findings.error(
            place, f"`{label}` is no edge: its value is not known when the policy compiles",
            expected="a number, a constant without dates or inf",
        )  # fmt: skip
        return None
    findings.error(
        place, f"`{label}` is not a number", expected="a number, a named constant or inf",
        nearest=nearest_name(label, (name for name, s in vocabulary.items() if isinstance(s.constant, float))),
    )  # fmt: skip
    return None


def read_cells(node: Node, rows: Axis, columns: Axis, effects: EffectReader, findings: Findings) -> Cells | None:
    """All cells in axis order, or None if any is missing or wrong."""
    block = mapping(node, "`cells`", node.place, findings)
    if block is None:
        return None
    if len(rows.labels) * len(columns.labels) > MATRIX_CELLS_MAX:
        findings.error(node.place, f"more than {MATRIX_CELLS_MAX} cells")
        return None
    for key, _ in block.items:
        if key.text not in rows.labels:
            findings.error(
                key.place, f"`{key.text}` is no row", expected=", ".join(rows.labels),
                nearest=nearest_name(key.text, rows.labels), length=max(1, len(key.text)),
            )  # fmt: skip
    cells = [_row(label, block, columns, effects, findings) for label in rows.labels]
    return tuple(row for row in cells if row is not None) if None not in cells else None


def _row(
    label: str, block: MappingNode, columns: Axis, effects: EffectReader, findings: Findings
) -> tuple[tuple[EffectSpec, ...], ...] | None:
    node = block.get(label)
    if node is None:
        findings.error(
            block.place,
            f"the row `{label}` is missing",
            expected=f"`{label}: [...]` with one effect for each of {', '.join(columns.labels)}",
        )
        return None
    row = sequence(node, f"the row `{label}`", findings)
    if row is None:
        return None
    if len(row.items) != len(columns.labels):
        findings.error(
            row.place,
            f"the row `{label}` has {len(row.items)} cells",
            expected=f"one a column: {', '.join(columns.labels)}",
        )
        return None
    cells = [effects.read(item) for item in row]
    return tuple(_verdict(cell) for cell in cells if cell is not None) if None not in cells else None


def _verdict(cell: tuple[EffectSpec, ...]) -> tuple[EffectSpec, ...]:
    """A cell that caps the draw, and neither approves nor holds it, approves it up to the cap."""
    capped = next((effect for effect in cell if isinstance(effect, ComputedEffect) and effect.sort == "cap_draw"), None)
    if capped is None or any(isinstance(action_of(effect), (Approve, Hold)) for effect in cell):
        return cell
    return (FixedEffect(Approve(), capped.place), *cell)
