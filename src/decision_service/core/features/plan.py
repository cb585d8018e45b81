"""A plan: the features a policy needs and what they depend on, laid out as the arrays that drive the kernel.

Compiling a plan takes milliseconds and compiles no machine code, so a new feature is live as soon as its file is
read. `FeaturePlan.compute` is one call of the kernel, and `compute_many` one call for many requests; the buffers belong
to the plan, so one thread at a time.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from decision_service.core.event import Words
from decision_service.core.features import opcodes as o
from decision_service.core.features.catalogue import Catalogue
from decision_service.core.features.kernel import compute
from decision_service.core.features.layout import PlanBuilder
from decision_service.core.inputs import RequestWords
from decision_service.core.zone import Zone

Indices = npt.NDArray[np.int64]

_EVENTS_AT_FIRST = 1_024  # buffers for this many events; they double when a longer log arrives


class FeaturePlan:
    """`names` in slot order: the features asked for and the intermediates they need."""

    def __init__(
        self,
        names: tuple[str, ...],
        program: npt.NDArray[np.int64],
        registers: npt.NDArray[np.float64],
        float_rows: int,
        mask_rows: int,
        zone: Zone,
    ) -> None:
        self.names = names
        self.zone = zone
        self._program = program
        self._registers = registers
        self._shape = float_rows, mask_rows
        self._unbounded = np.zeros((2, 0), np.int64)
        self._size_buffers(_EVENTS_AT_FIRST)

    def __reduce__(self) -> tuple[Any, ...]:
        """A plan goes to another process without its buffers."""
        return FeaturePlan, (self.names, self._program, self._registers, *self._shape, self.zone)

    def _size_buffers(self, events: int) -> None:
        float_rows, mask_rows = self._shape
        self._events_max = events
        zone, registers = self.zone, self._registers.view(np.int64)
        sizes = (
            4 * (events + 16), float_rows, events + 16, mask_rows, events // 8 + 2,
            len(registers), len(zone.transitions_utc_ms), len(zone.offsets_ms),
        )  # fmt: skip
        rows = o.INT_ROWS * 4 * (events + 16) + float_rows * (events + 16) + mask_rows * (events // 8 + 2)
        filled = np.concatenate((sizes, registers, zone.transitions_utc_ms, zone.offsets_ms))
        self._scratch = np.zeros(len(filled) + rows, np.int64)
        self._scratch[: len(filled)] = filled

    def compute(self, words: Words, row: RequestWords, numbers: npt.NDArray[np.float64]) -> None:
        """Read inputs from the front of `numbers` and write every feature behind them.

        `words` is `event.words_of(log)` (int64[1 + n, 8], may be read-only), `row` int64[REQUEST_WORDS]; `numbers`
        float64, contiguous, at least inputs + len(names) long. Allocates only when a log is longer than any before.
        """
        if len(words) > self._events_max:
            self._size_buffers(1 << (len(words) - 1).bit_length())
        if words.flags.writeable:
            words = _read_only(words)
        compute(words, self._unbounded, row, numbers, self._program, self._scratch)

    def compute_many(
        self, words: Words, starts: Indices, ends: Indices, rows: RequestWords, numbers: npt.NDArray[np.float64]
    ) -> None:
        """As `compute` for every row of `rows` and `numbers`, with the very code that serves.

        `words` int64[N, 8] holds logs one after the other, each behind a header of its own; request r sees
        `words[starts[r]:ends[r]]`, header first. `rows` int64[R, REQUEST_WORDS] and `numbers` float64[R, width] are
        contiguous. Logs may overlap: prefixes of one log serve a customer at several instants.
        """
        bounds = np.stack((starts, ends)).astype(np.int64, copy=False)
        if not (rows.flags.c_contiguous and numbers.flags.c_contiguous):
            raise ValueError("rows and numbers must be contiguous")
        if not len(rows) == len(numbers) == bounds.shape[1]:
            raise ValueError(f"{bounds.shape[1]} logs, {len(rows)} rows and {len(numbers)} rows of numbers")
        if len(rows) == 0:
            return
        if bounds.min() < 0 or bounds[1].max() > len(words) or (bounds[1] <= bounds[0]).any():
            raise ValueError("a log must lie inside words and begin with its header")
        longest = int((bounds[1] - bounds[0]).max())
        if longest > self._events_max:
            self._size_buffers(1 << (longest - 1).bit_length())
        compute(
            _read_only(words), bounds, rows.reshape(-1), numbers.reshape(-1), self._program, self._scratch
        )  # fmt: skip


def _read_only(words: Words) -> Words:
    """The same log, read-only: one compiled form serves all, and logs from the store are."""
    words = words.view()
    words.flags.writeable = False
    return words


def compile_plan(
    catalogue: Catalogue, needed: Iterable[str], input_slots: Mapping[str, int], first_slot: int, zone: Zone
) -> FeaturePlan:
    """Lay out the features in `needed` and everything they depend on; inputs stand in `numbers[:first_slot]`.

    `needed` names features of the catalogue; KeyError for any other.
    """
    builder = PlanBuilder(catalogue, needed, input_slots, first_slot)
    program, registers = builder.built()
    return FeaturePlan(builder.names, program, registers, builder.float_rows, builder.mask_rows, zone)
