"""Second part of the kernel: segment masks, one byte an event, 1 where the condition is definitely true.

The plan has pushed every `not` down to the leaves, so a mask never needs to know what is unknown: NaN fails every
comparison by itself, and text leaves check for absence. Each instruction is one pass over one column, written so that
LLVM vectorises it; equal subconditions of different segments are computed once by the plan's sharing.
"""

from __future__ import annotations

from decision_service.core.compiled import kernel_function
from decision_service.core.features import opcodes as o

# mypy: disable-error-code="untyped-decorator,no-untyped-def,no-untyped-call"


@kernel_function
def _integer_leaf(op, column, operand, n, mask):
    if op == o.M_EQ:
        for k in range(n):
            mask[k] = column[k] == operand
    elif op == o.M_NE:
        for k in range(n):
            mask[k] = column[k] != operand
    elif op == o.M_LE:
        for k in range(n):
            mask[k] = column[k] <= operand
    elif op == o.M_GE:
        for k in range(n):
            mask[k] = column[k] >= operand
    elif op == o.M_LT:
        for k in range(n):
            mask[k] = column[k] < operand
    elif op == o.M_TEXT_NULL:
        for k in range(n):
            mask[k] = column[k] == 0
    elif op == o.M_TEXT_KNOWN:
        for k in range(n):
            mask[k] = column[k] != 0
    elif operand == 0:
        for k in range(n):
            mask[k] = 0
    elif op == o.M_TEXT_EQ:
        for k in range(n):
            mask[k] = column[k] == operand
    else:
        for k in range(n):
            mask[k] = (column[k] != operand) & (column[k] != 0)


@kernel_function
def _register_leaf(op, column, x, n, mask):
    if op == o.M_F_LT:
        for k in range(n):
            mask[k] = column[k] < x
    elif op == o.M_F_LE:
        for k in range(n):
            mask[k] = column[k] <= x
    elif op == o.M_F_GT:
        for k in range(n):
            mask[k] = column[k] > x
    elif op == o.M_F_GE:
        for k in range(n):
            mask[k] = column[k] >= x
    elif op == o.M_F_EQ:
        for k in range(n):
            mask[k] = column[k] == x
    elif op == o.M_F_NE:
        for k in range(n):
            mask[k] = (column[k] < x) | (column[k] > x)
    elif op == o.M_F_NULL:
        for k in range(n):
            mask[k] = column[k] != column[k]
    else:
        for k in range(n):
            mask[k] = column[k] == column[k]


@kernel_function
def _column_leaf(op, left, right, n, mask):
    if op == o.M_F_LT:
        for k in range(n):
            mask[k] = left[k] < right[k]
    elif op == o.M_F_LE:
        for k in range(n):
            mask[k] = left[k] <= right[k]
    elif op == o.M_F_GT:
        for k in range(n):
            mask[k] = left[k] > right[k]
    elif op == o.M_F_GE:
        for k in range(n):
            mask[k] = left[k] >= right[k]
    elif op == o.M_F_EQ:
        for k in range(n):
            mask[k] = left[k] == right[k]
    else:
        for k in range(n):
            mask[k] = (left[k] < right[k]) | (left[k] > right[k])


@kernel_function
def _combine(op, left, right, n, mask):
    if op == o.M_AND:
        for k in range(n):
            mask[k] = left[k] & right[k]
    else:
        for k in range(n):
            mask[k] = left[k] | right[k]


@kernel_function
def run_masks(prog, start, count, n, row, ints, floats, reg, masks):
    """Every mask of the plan over `n` positions, filled up with zeros to a multiple of 8."""
    padded = (n | 7) + 1
    for j in range(count):
        p = start + j * o.MASK_WORDS
        op = prog[p]
        mask = masks[prog[p + 1]]
        source = prog[p + 2]
        kind = prog[p + 3]
        operand = prog[p + 4]
        if op == o.M_TRUE or op == o.M_FALSE:
            mask[:n] = op == o.M_TRUE
        elif op == o.M_IF:
            mask[:n] = reg[operand] == source
        elif op == o.M_AND or op == o.M_OR:
            _combine(op, masks[source], masks[operand], n, mask)
        elif op >= o.M_F_LT and op <= o.M_F_KNOWN:
            if kind == o.FROM_COLUMN:
                _column_leaf(op, floats[source], floats[operand], n, mask)
            else:
                _register_leaf(op, floats[source], reg[operand], n, mask)
        else:
            if kind == o.FROM_ROW:
                operand = row[operand]
            elif kind == o.FROM_REQUEST:
                operand = ints[operand, n - 1]
            _integer_leaf(op, ints[source], operand, n, mask)
        for k in range(n, padded):
            mask[k] = 0
