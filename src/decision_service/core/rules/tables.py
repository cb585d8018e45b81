"""Decision tables: many conditions on the same few values, written as rows.

    tables:
      - id: renewal_by_lateness
        hit: first                                     the first row that applies; `all`: every one
        inputs: [behaviour.grade, rpy_dpd_max_365d]    names or expressions: numbers, flags, strings
        rows:
          - {if: [[A, B], "<= 0"], then: [{renew: auto}, {limit: {raise: 0.10}}]}
          - {if: [C, "> 0 and <= late_short"], then: {renew: manual}, reason: RC31, id: c_late}
          - {if: ["null", any], then: {renew: manual}}
        otherwise: {renew: decline}                    when no row applies; without it a gap is an error
        on_null: {hold: review}                        when it cannot be known which row applies
        reason: RC31                                   of the rows that give none
        tests: [{given: {behaviour.grade: C, rpy_dpd_max_365d: 3}, expect: c_late}, {given: {}, expect: unknown}]

What a cell may say is in `cells.py`. A row applies when all its cells are true. A `first` table is unknown if a row
that is unknown stands before the first that is true; an `all` table applies its true rows, and if any is unknown takes
its `on_null` besides. A test expects a row by its id or number, `otherwise` or `unknown`; of an `all` table a list.
"""

from __future__ import annotations

from typing import Final

from decision_service.core.expressions.check import SAYS
from decision_service.core.expressions.names import names_in
from decision_service.core.expressions.parse import parse_expression
from decision_service.core.expressions.units import report_mixed_units, unit_of
from decision_service.core.limits import TABLE_INPUTS_MAX, TABLE_ROWS_MAX
from decision_service.core.rules.cells import Cell, CellReader
from decision_service.core.rules.fields import check_keys, identifier, mapping, one_of, scalar, sequence
from decision_service.core.rules.heads import HeadReader, amount_names
from decision_service.core.rules.table_checks import check_table
from decision_service.core.rules.table_spec import OTHERWISE, UNKNOWN, WRONG, Hit, TableInput, TableRow, TableSpec
from decision_service.core.source import MappingNode, Node, SequenceNode
from decision_service.core.vocabulary import Kind

_KEYS: Final = (
    "id", "stage", "note", "hit", "inputs", "rows", "otherwise", "on_null", "reason", "tests",
)  # fmt: skip
_ROW_KEYS: Final = ("id", "note", "if", "then", "reason")
_KINDS: Final = (Kind.NUMBER, Kind.FLAG, Kind.STRING)


class TableReader:
    """Reads the tables of one rule set."""

    def __init__(self, heads: HeadReader) -> None:
        self._heads = heads
        self._findings = heads.findings
        self._cells = CellReader(heads.vocabulary, heads.dated, heads.findings)

    def read(self, node: MappingNode) -> TableSpec | None:
        """One table, or None with the reasons among the findings."""
        sound = check_keys(node, _KEYS, ("id", "hit", "inputs", "rows"), "a table", self._findings)
        head, hit = self._heads.head(node), self._hit(node.get("hit"))
        inputs, rows_node, otherwise_node = self._inputs(node.get("inputs")), node.get("rows"), node.get("otherwise")
        rows = None if inputs is None or rows_node is None else self._rows(rows_node, inputs)
        otherwise = None if otherwise_node is None else self._heads.effects.read(otherwise_node)
        asked = [*(otherwise or ()), *(effect for row in rows or () for effect in row.then)]
        on_null = self._heads.on_null(node, asked, may_fire=False)
        without = [*(otherwise or ()), *(effect for row in rows or () if not row.reason for effect in row.then)]
        reason = self._heads.reason(node, without)
        if not sound or head is None or hit is None or inputs is None or rows is None:
            return None
        if on_null is None or reason is None or (otherwise is None and otherwise_node is not None):
            return None
        given = tuple(_named_null(one, position, rows) for position, one in enumerate(inputs))
        rows = tuple(row if row.reason else _because(row, reason) for row in rows)
        specs = [*(spec for one in inputs for spec in names_in(one.tree)), *amount_names(asked)]
        labels = [*(row.label for row in rows), *([] if otherwise is None else [OTHERWISE]), UNKNOWN]
        table = TableSpec(
            head.id, head.stage, head.place, hit, given, rows, otherwise, on_null, reason,
            self._heads.tests(node, specs, labels, several=hit == "all"), self._heads.names(specs), head.note,
        )  # fmt: skip
        check_table(table, self._heads.zone, self._findings)
        return table

    def _hit(self, node: Node | None) -> Hit | None:
        match None if node is None else one_of(node, ("first", "all"), "`hit`", self._findings):
            case "first":
                return "first"
            case "all":
                return "all"
        return None

    # --- inputs -------------------------------------------------------------------------------------------------

    def _inputs(self, node: Node | None) -> tuple[TableInput, ...] | None:
        items = None if node is None else sequence(node, "`inputs`", self._findings)
        if items is None:
            return None
        if not 0 < len(items.items) <= TABLE_INPUTS_MAX:
            self._findings.error(
                items.place, f"a table of {len(items.items)} inputs", expected=f"1 to {TABLE_INPUTS_MAX} inputs"
            )
            return None
        inputs = [self._input(item) for item in items]
        return tuple(one for one in inputs if one is not None) if None not in inputs else None

    def _input(self, node: Node) -> TableInput | None:
        text = scalar(node, "an input", self._findings)
        if text is None:
            return None
        tree = parse_expression(text.text, text.place, self._heads.vocabulary, self._findings)
        if tree is None:
            return None
        if tree.kind not in _KINDS or not any(True for _ in names_in(tree)):
            what = SAYS[tree.kind] if tree.kind not in _KINDS else "the same for every decision"
            self._findings.error(
                text.place, f"this is {what}", expected="a number, a flag or a string that a decision computes",
                length=len(text.text),
            )  # fmt: skip
            return None
        report_mixed_units(tree, self._findings)
        return TableInput(text.text, tree, text.place, null_is_value=False)

    # --- rows ---------------------------------------------------------------------------------------------------

    def _rows(self, node: Node, inputs: tuple[TableInput, ...]) -> tuple[TableRow, ...] | None:
        items = sequence(node, "`rows`", self._findings)
        if items is None:
            return None
        if not 0 < len(items.items) <= TABLE_ROWS_MAX:
            self._findings.error(
                items.place, f"a table of {len(items.items):,} rows", expected=f"1 to {TABLE_ROWS_MAX:,} rows"
            )
            return None
        labels: dict[str, int] = {}
        rows = [self._row(item, number, inputs, labels) for number, item in enumerate(items, 1)]
        return tuple(row for row in rows if row is not None) if None not in rows else None

    def _row(self, node: Node, number: int, inputs: tuple[TableInput, ...], labels: dict[str, int]) -> TableRow | None:
        block = mapping(node, "a row", node.place, self._findings)
        if block is None or not check_keys(block, _ROW_KEYS, ("if", "then"), "a row", self._findings):
            return None
        if_node, then_node = block.get("if"), block.get("then")
        label = self._label(block, number, labels)
        cells = None if if_node is None else self._row_cells(if_node, inputs)
        then = None if then_node is None else self._heads.effects.read(then_node)
        reason = self._heads.reason(block, ())
        if label is None or cells is None or then is None or reason is None:
            return None
        return TableRow(label, cells, then, reason, block.place)

    def _label(self, block: MappingNode, number: int, labels: dict[str, int]) -> str | None:
        node = block.get("id")
        if node is None:
            return str(number)
        label = identifier(node, "an id", self._findings)
        if label is None:
            return None
        if label in (OTHERWISE, UNKNOWN, WRONG):
            self._findings.error(node.place, f"`{label}` means something else here", length=len(label))
            return None
        first = labels.setdefault(label, node.place.line)
        if first != node.place.line:
            self._findings.error(
                node.place, f"the id `{label}` is taken by line {first}", expected="each id once", length=len(label)
            )
        return label

    def _row_cells(self, node: Node, inputs: tuple[TableInput, ...]) -> tuple[Cell, ...] | None:
        if not isinstance(node, SequenceNode) or len(node.items) != len(inputs):
            count = f"{len(node.items)} cells" if isinstance(node, SequenceNode) else "no list of cells"
            self._findings.error(
                node.place, f"a row with {count}", expected="[...] with one cell each for "
                + ", ".join(one.text for one in inputs),
            )  # fmt: skip
            return None
        cells = [
            self._cells.read(item, one.tree.kind, unit_of(one.tree)) for item, one in zip(node, inputs, strict=True)
        ]
        return tuple(cell for cell in cells if cell is not None) if None not in cells else None


def _named_null(given: TableInput, position: int, rows: tuple[TableRow, ...]) -> TableInput:
    named = any(row.cells[position].sort == "null" for row in rows)
    return TableInput(given.text, given.tree, given.place, named)


def _because(row: TableRow, reason: str) -> TableRow:
    return TableRow(row.label, row.cells, row.then, reason, row.place)
