"""Second part of the kernel: segment masks, one byte an event, 1 where the condition is definitely true.

The plan has pushed every `not` down to the leaves, so a mask never needs to know what is unknown: NaN fails every
comparison by itself, and text leaves check for absence. Each instruction is one pass over one column, written so that
LLVM vectorises it; equal subconditions of different segments are computed once by the plan's sharing.
"""

from __future__ import annotations

import numpy as np

from decision_service.core.compiled import kernel_function
from decision_service.core.features import opcodes as o

# mypy: disable-error-code="untyped-decorator,no-untyped-def,no-untyped-call"


U = np.uint64


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
def _code_leaf(op, codes, operand, n, mask):
    """As `_integer_leaf` for a column of one-byte codes, thirty-two at a time; codes and operand are 0 to 255."""
    code = np.uint8(operand)
    if op == o.M_EQ or op == o.M_TEXT_EQ:
        for k in range(n):
            mask[k] = codes[k] == code
    elif op == o.M_LE:
        for k in range(n):
            mask[k] = codes[k] <= code
    elif op == o.M_GE:
        for k in range(n):
            mask[k] = codes[k] >= code
    elif op == o.M_NE:
        for k in range(n):
            mask[k] = codes[k] != code
    else:
        for k in range(n):
            mask[k] = (codes[k] != code) & (codes[k] != 0)


@kernel_function
def _has_code_leaf(op, source, operand):
    """Whether `_code_leaf` does: a column of codes and a comparison with a code (of a text: one that is known)."""
    coded = source >= o.C_KIND and source <= o.C_CHANNEL and operand >= 0 and operand <= 255
    plain = op == o.M_EQ or op == o.M_NE or op == o.M_LE or op == o.M_GE
    return coded and (plain or ((op == o.M_TEXT_EQ or op == o.M_TEXT_NE) and operand != 0))


@kernel_function
def fill_codes(n, ints, masks):
    """Kinds, statuses and channels again, a byte each, in the last rows of the masks (see `opcodes`)."""
    first = masks.shape[0] - 1 - o.CODE_ROWS
    for column in range(o.CODE_ROWS):
        codes = masks[first + column]
        source = ints[o.C_KIND + column]
        for k in range(n):
            codes[k] = source[k]


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
def run_masks(prog, start, count, n, row, ints, floats, reg, masks, mask_words):
    """Every mask of the plan over `n` positions, with zeros behind them to a multiple of 8."""
    end = n >> 3
    first_code = masks.shape[0] - 1 - o.CODE_ROWS
    for j in range(count):
        p = start + j * o.MASK_WORDS
        op = prog[U(p)]
        mask = masks[prog[U(p + 1)]]
        mask_words[prog[U(p + 1)], U(end)] = 0
        source = prog[U(p + 2)]
        kind = prog[U(p + 3)]
        operand = prog[U(p + 4)]
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
            if _has_code_leaf(op, source, operand):
                _code_leaf(op, masks[first_code + source - o.C_KIND], operand, n, mask)
            else:
                _integer_leaf(op, ints[source], operand, n, mask)
