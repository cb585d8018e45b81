"""The feature kernel: one compiled function that runs every plan, online for one request, offline for many.

    history    select and sort the events seen so far, fill columns          (kernel_columns)
    scalars    limits that segments compare with                             (kernel_formulas)
    masks      which events belong to which segment                          (kernel_masks)
    streams    windows of every segment, newest event to oldest              (kernel_streams)
    formulas   derived features in dependency order                          (kernel_formulas)

The compiled code is cached on disk. Numba's cache watches this file only, so the entry closes over a digest of all
sources of the kernel: a change in any of them is another function.
"""

from __future__ import annotations

from hashlib import blake2b
from pathlib import Path
from typing import Any, Final

import numpy as np

from decision_service.core import compiled, event, inputs, ledger, limits, zone
from decision_service.core import inputs as q
from decision_service.core.compiled import kernel_entry, kernel_function
from decision_service.core.event import HEADER_MAGIC
from decision_service.core.features import (
    kernel_calendar,
    kernel_columns,
    kernel_daily,
    kernel_formulas,
    kernel_groups,
    kernel_links,
    kernel_masks,
    kernel_members,
    kernel_order,
    kernel_pairs,
    kernel_places,
    kernel_streams,
    kernel_terms,
    kernel_times,
    opcodes,
)
from decision_service.core.features import opcodes as o
from decision_service.core.features.kernel_columns import (
    fill_base,
    fill_categories,
    fill_digits,
    fill_floats,
    fill_key,
    fill_local,
    fill_places,
    run_columns,
    select_history,
)
from decision_service.core.features.kernel_daily import begin_days
from decision_service.core.features.kernel_formulas import run_scalars
from decision_service.core.features.kernel_links import fill_customers, fill_labels, fill_loans
from decision_service.core.features.kernel_masks import fill_codes, run_masks
from decision_service.core.features.kernel_streams import find_edges, run_streams
from decision_service.core.features.kernel_terms import begin_terms
from decision_service.core.ledger import resolve

# mypy: disable-error-code="untyped-decorator,no-untyped-def,no-untyped-call"

_PARTS: Final = (
    compiled, event, inputs, ledger, limits, zone, opcodes, kernel_columns, kernel_links, kernel_masks, kernel_members,
    kernel_order, kernel_groups, kernel_times, kernel_pairs, kernel_places, kernel_daily, kernel_terms,
    kernel_calendar, kernel_streams, kernel_formulas,
)  # fmt: skip
assert len(HEADER_MAGIC) == 8, "row 0 of a log is its header"


def _digest_of_sources() -> int:
    """A number that changes whenever any part of the kernel does."""
    digest = blake2b(digest_size=7)
    for part in _PARTS:
        digest.update(Path(str(part.__file__)).read_bytes())
    return int.from_bytes(digest.digest(), "little")


@kernel_function
def _fill_columns(words, row, h, prog, transitions, offsets, ints, floats):
    needs = prog[o.P_INT_NEEDS]
    if needs & o.NEED_LOCAL:
        fill_local(row, h, transitions, offsets, ints)
        begin_days(row, transitions, offsets, ints)
        begin_terms(ints)
    if needs & o.NEED_PLACE:
        fill_places(words, row, h, ints)
    if needs & o.NEED_DIGIT:
        fill_digits(row, h, ints)
    if needs & o.NEED_CUSTOMER:
        fill_customers(words, row, h, ints)
    if needs & o.NEED_LOAN:
        fill_loans(words, row, h, ints)
    if needs & o.NEED_LABEL:
        fill_labels(words, h, ints)
    fill_floats(words, row, h, prog[o.P_FLOAT_NEEDS], ints, floats)
    grouped = prog[o.P_GROUPED]
    start = ints[o.R_WINDOW, grouped] if grouped >= 0 else np.int64(0)
    for j in range(prog[o.P_KEYS_N]):
        column = prog[prog[o.P_KEYS] + j]
        values, target = ints[column, start:], ints[o.R_KEY + j, start:]
        if column == o.C_HOUR or column == o.C_DOW or column == o.C_FIRST_DIGIT:
            fill_categories(h + 1 - start, values, target, 0 if column == o.C_FIRST_DIGIT else -1)
            ints[o.R_GROUPS, j] = 24 if column == o.C_HOUR else (7 if column == o.C_DOW else 10)
        else:
            ints[o.R_GROUPS, j] = fill_key(column, h + 1 - start, values, target, ints[o.R_TABLE], ints[o.R_TABLE_ID])


@kernel_function
def _run(words, row, numbers, prog, reg, ints, floats, masks, mask_words, transitions, offsets):
    """Everything once the effective statuses stand in the last row of `masks`; the number of events seen."""
    t_ms = row[q.T_MS]
    trimmed_ms = words[0, 2]
    first = prog[o.P_INPUTS]
    for k in range(first):
        reg[k] = numbers[k]
    h = select_history(words, t_ms, prog, ints)
    fill_base(words, row, masks[masks.shape[0] - 1], prog[o.P_SLIM], h, ints)
    find_edges(prog, h, ints, t_ms)
    _fill_columns(words, row, h, prog, transitions, offsets, ints, floats)
    run_scalars(prog, prog[o.P_SCALARS], prog[o.P_SCALARS_N], row, trimmed_ms, reg)
    run_columns(prog, prog[o.P_COLUMNS], prog[o.P_COLUMNS_N], h + 1, floats, reg)
    fill_codes(h + 1, ints, masks)
    run_masks(prog, prog[o.P_MASKS], prog[o.P_MASKS_N], h + 1, row, ints, floats, reg, masks, mask_words)
    run_streams(prog, h, row, reg, ints, floats, masks, mask_words)
    run_scalars(prog, prog[o.P_FORMULAS], prog[o.P_FORMULAS_N], row, trimmed_ms, reg)
    for k in range(prog[o.P_OUTPUTS]):
        numbers[first + k] = reg[first + k]
    return h


def _build(digest: int) -> Any:
    @kernel_entry
    def compute(words, bounds, rows, numbers, prog, scratch):
        """Write the plan's features of every request row; the number of rows.

        Request r sees the log `words[bounds[0, r]:bounds[1, r]]`, or a single one all of it where there are no bounds,
        and stands in the r-th part of the flat `rows`; its features go to `[inputs:inputs + outputs]` of the r-th part
        of the flat `numbers`. `scratch` holds every other array of the plan: each argument costs a call 150 ns.
        """
        width, float_rows, float_width = scratch[o.B_INT_WIDTH], scratch[o.B_FLOAT_ROWS], scratch[o.B_FLOAT_WIDTH]
        mask_rows, mask_width = scratch[o.B_MASK_ROWS], scratch[o.B_MASK_WIDTH]
        at = np.int64(o.BUFFER_WORDS)
        reg = scratch[at : at + scratch[o.B_REGISTERS]].view(np.float64)
        at += scratch[o.B_REGISTERS]
        transitions = scratch[at : at + scratch[o.B_TRANSITIONS]]
        at += scratch[o.B_TRANSITIONS]
        offsets = scratch[at : at + scratch[o.B_OFFSETS]]
        at += scratch[o.B_OFFSETS]
        ints = scratch[at : at + o.INT_ROWS * width].reshape((o.INT_ROWS, width))
        at += o.INT_ROWS * width
        floats = scratch[at : at + float_rows * float_width].view(np.float64).reshape((float_rows, float_width))
        at += float_rows * float_width
        mask_words = scratch[at : at + mask_rows * mask_width].reshape((mask_rows, mask_width))
        masks = scratch[at : at + mask_rows * mask_width].view(np.uint8).reshape((mask_rows, 8 * mask_width))
        bounded = bounds.shape[1]
        count = max(bounded, 1)
        share = numbers.shape[0] // count
        for r in range(count):
            log = words[bounds[0, r] : bounds[1, r]] if bounded else words
            row = rows[r * q.REQUEST_WORDS : (r + 1) * q.REQUEST_WORDS]
            resolve(log, row[q.T_MS], masks[mask_rows - 1], ints[o.R_SETTLED])
            _run(
                log, row, numbers[r * share : (r + 1) * share], prog, reg, ints, floats, masks, mask_words, transitions,
                offsets,
            )  # fmt: skip
        return count if digest else -1

    return compute


compute: Final[Any] = _build(_digest_of_sources())
