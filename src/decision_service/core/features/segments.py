"""Segments compiled to masks: `not` is pushed down to the leaves, so a mask holds "definitely true".

What does not depend on the event is computed once on the registers; what does becomes float columns; equal columns
and equal conditions of different segments are computed once.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Final

from decision_service.core.expressions.tree import (
    And,
    Arithmetic,
    Call,
    Compare,
    In,
    Literals,
    Name,
    Negative,
    Not,
    Number,
    Or,
    String,
    Tree,
)
from decision_service.core.features import opcodes as o
from decision_service.core.features.event_names import FLAGS, KEYS, MEASURES, TEXTS, Text
from decision_service.core.features.references import names_in
from decision_service.core.features.registers import Registers, Unsupported, code_of, fingerprint

_EVENT_NAMES: Final = frozenset((*TEXTS, *FLAGS, *MEASURES))
_FLOAT_OPS: Final = {
    ("<", False): o.M_F_LT, ("<=", False): o.M_F_LE, (">", False): o.M_F_GT, (">=", False): o.M_F_GE,
    ("==", False): o.M_F_EQ, ("<", True): o.M_F_GE, ("<=", True): o.M_F_GT, (">", True): o.M_F_LE,
    (">=", True): o.M_F_LT, ("==", True): o.M_F_NE,
}  # fmt: skip
_MIRROR: Final = {"<": ">", "<=": ">=", ">": "<", ">=": "<=", "==": "=="}
_COLUMN_OPS: Final = {"+": o.K_ADD, "-": o.K_SUB, "*": o.K_MUL, "/": o.K_DIV}
_COLUMN_CALLS: Final = {
    "min": o.K_MIN, "max": o.K_MAX, "sum": o.K_ADD, "coalesce": o.K_COALESCE, "abs": o.K_ABS, "floor": o.K_FLOOR,
    "ceil": o.K_CEIL, "round": o.K_ROUND, "sqrt": o.K_SQRT, "log": o.K_LOG, "exp": o.K_EXP,
}  # fmt: skip


def _is_about_the_event(tree: Tree) -> bool:
    return any(name.spec.name in _EVENT_NAMES for name in names_in(tree))


class SegmentCompiler:
    """Collects column and mask instructions and what columns they need."""

    def __init__(self, registers: Registers) -> None:
        self._registers = registers
        self.columns: list[tuple[int, int, int, int]] = []
        self.masks: list[tuple[int, int, int, int, int]] = []
        self.keys: list[int] = []
        self.float_needs = 0
        self.int_needs = 0
        self._column_memory: dict[object, int] = {}
        self._mask_memory: dict[object, int] = {}

    @property
    def columns_count(self) -> int:
        """Rows of float columns in use."""
        return o.FLOAT_COLUMNS + len(self.columns)

    def measure(self, name: str) -> int:
        """The float column of an event's measure."""
        measure = MEASURES[name]
        self.float_needs |= 1 << measure.column
        self.int_needs |= measure.needs
        return measure.column

    def key(self, name: str) -> int:
        """The index of a group key among the plan's keys."""
        key = KEYS[name]
        self.int_needs |= key.needs
        if key.column not in self.keys:
            self.keys.append(key.column)
        return self.keys.index(key.column)

    def all_of(self, *masks: int) -> int:
        """The mask of what is in all of these."""
        return self._joined(o.M_AND, masks)

    def same_as_row(self, column: int, word: int, needs: int) -> int:
        """The mask of events whose key is that of the request's row; none where the row has none."""
        self.int_needs |= needs
        return self._emit(o.M_TEXT_EQ, column, o.FROM_ROW, word)

    def mask(self, tree: Tree, *, negated: bool = False) -> int:
        """The mask of "definitely true" (or, negated, "definitely false")."""
        key = (fingerprint(tree), negated)
        if key not in self._mask_memory:
            self._mask_memory[key] = self._compiled(tree, negated)
        return self._mask_memory[key]

    def _emit(self, op: int, source: int, kind: int, operand: int) -> int:
        key = (op, source, kind, operand)
        if key not in self._mask_memory:
            self._mask_memory[key] = len(self.masks)
            self.masks.append((op, len(self.masks), source, kind, operand))
        return self._mask_memory[key]

    def _compiled(self, tree: Tree, negated: bool) -> int:
        if not _is_about_the_event(tree):
            return self._emit(o.M_IF, 0 if negated else 1, o.FROM_REGISTER, self._registers.value(tree))
        match tree:
            case Not(operand=operand):
                return self.mask(operand, negated=not negated)
            case And(operands=operands):
                return self._combined(o.M_OR if negated else o.M_AND, operands, negated)
            case Or(operands=operands):
                return self._combined(o.M_AND if negated else o.M_OR, operands, negated)
            case Name(spec=spec):
                return self._flag(spec.name, negated)
            case Compare():
                return self._compare(tree, negated)
            case In(item=item, container=Literals(values=values)):
                return self._member(item, values, negated)
            case Call(function="is_null", arguments=(argument,)):
                return self._null(argument, negated)
            case _:
                raise Unsupported("a segment cannot use this kind of condition")

    def _combined(self, op: int, operands: Sequence[Tree], negated: bool) -> int:
        return self._joined(op, [self.mask(operand, negated=negated) for operand in operands])

    def _joined(self, op: int, masks: Sequence[int]) -> int:
        mask = masks[0]
        for other in masks[1:]:
            mask = self._emit(op, mask, 0, other)
        return mask

    def _flag(self, name: str, negated: bool) -> int:
        flag = FLAGS[name]
        self.int_needs |= flag.needs
        op, kind, operand = flag.false if negated else flag.true
        return self._emit(op, flag.column, kind, operand)

    def _compare(self, tree: Compare, negated: bool) -> int:
        sides = (tree.left, tree.right)
        for side, other in (sides, sides[::-1]):
            if isinstance(side, Name) and side.spec.name in TEXTS:
                return self._text(TEXTS[side.spec.name], other, negated)
        if not _is_about_the_event(tree.left):
            return self._numbers(_MIRROR[tree.op], tree.right, tree.left, negated)
        return self._numbers(tree.op, tree.left, tree.right, negated)

    def _numbers(self, op: str, left: Tree, right: Tree, negated: bool) -> int:
        column = self._column(left)
        code = _FLOAT_OPS[op, negated]
        if _is_about_the_event(right):
            return self._emit(code, column, o.FROM_COLUMN, self._column(right))
        return self._emit(code, column, o.FROM_REGISTER, self._registers.value(right))

    def _text(self, text: Text, other: Tree, negated: bool) -> int:
        op = o.M_TEXT_NE if negated else o.M_TEXT_EQ
        self.int_needs |= text.needs
        if isinstance(other, String):
            return self._emit(op, text.column, o.FROM_CONSTANT, code_of(text, other.value))
        if isinstance(other, Name) and other.spec.name == text.request_name:
            return self._emit(op, text.column, o.FROM_ROW, text.request_word)
        expected = f"a text or `{text.request_name}`" if text.request_name else "a text"
        raise Unsupported(f"an event's text can be compared only with {expected}")

    def _member(self, item: Tree, values: tuple[float | str, ...], negated: bool) -> int:
        if not values:
            return self._emit(o.M_TRUE if negated else o.M_FALSE, 0, 0, 0)
        leaf = partial(self._is_value, item, negated=negated)
        return self._joined(o.M_AND if negated else o.M_OR, [leaf(value) for value in values])

    def _is_value(self, item: Tree, value: float | str, *, negated: bool) -> int:
        if isinstance(item, Name) and item.spec.name in TEXTS:
            return self._text(TEXTS[item.spec.name], String(str(value), item.place), negated)
        if isinstance(value, str):
            raise Unsupported("a segment cannot compare this with a text")
        return self._numbers("==", item, Number(value, item.place), negated)

    def _null(self, tree: Tree, negated: bool) -> int:
        if isinstance(tree, Name) and tree.spec.name in TEXTS:
            op = o.M_TEXT_KNOWN if negated else o.M_TEXT_NULL
            text = TEXTS[tree.spec.name]
            self.int_needs |= text.needs
            return self._emit(op, text.column, 0, 0)
        op = o.M_F_KNOWN if negated else o.M_F_NULL
        return self._emit(op, self._column(tree), o.FROM_REGISTER, self._registers.constant(0.0))

    def _operand(self, tree: Tree) -> tuple[bool, int]:
        """`(is a column, column or register)`."""
        if _is_about_the_event(tree):
            return True, self._column(tree)
        return False, self._registers.value(tree)

    def _column(self, tree: Tree) -> int:
        key = fingerprint(tree)
        if key not in self._column_memory:
            self._column_memory[key] = self._compiled_column(tree)
        return self._column_memory[key]

    def _compiled_column(self, tree: Tree) -> int:
        match tree:
            case Name(spec=spec) if spec.name in MEASURES:
                return self.measure(spec.name)
            case Arithmetic(op=op, left=left, right=right):
                return self._column_step(_COLUMN_OPS[op], self._operand(left), self._operand(right))
            case Negative(operand=operand):
                return self._column_step(o.K_NEG, self._operand(operand), self._operand(operand))
            case Call(function=function, arguments=arguments) if function in _COLUMN_CALLS:
                return self._column_call(_COLUMN_CALLS[function], arguments)
            case _:
                raise Unsupported("a segment cannot use this kind of number")

    def _column_call(self, op: int, arguments: Sequence[Tree]) -> int:
        sides = [self._operand(argument) for argument in arguments]
        column = self._column_step(op, sides[0], sides[min(1, len(sides) - 1)])
        for side in sides[2:]:
            column = self._column_step(op, (True, column), side)
        return column

    def _column_step(self, op: int, left: tuple[bool, int], right: tuple[bool, int]) -> int:
        column = self.columns_count
        self.columns.append((op, column, *(self._coded(*side) for side in (left, right))))  # type: ignore[arg-type]
        return column

    def _coded(self, is_column: bool, index: int) -> int:
        """An operand word; registers are resolved (and complemented) when the plan is laid out."""
        return index if is_column else REGISTER_BASE + index


REGISTER_BASE: Final = -(1 << 40)  # marks a register operand until the constants have their final place
