"""A plan: the features a policy needs and what they depend on, laid out as the arrays that drive the kernel.

Compiling a plan takes milliseconds and compiles no machine code, so a new feature is live as soon as its file is
read. `FeaturePlan.compute` is one call of the kernel; its buffers belong to the plan, so one thread at a time.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import numpy.typing as npt

from decision_service.core.event import Words
from decision_service.core.features import opcodes as o
from decision_service.core.features.catalogue import Catalogue
from decision_service.core.features.kernel import compute
from decision_service.core.features.layout import PlanBuilder
from decision_service.core.inputs import RequestWords
from decision_service.core.zone import Zone

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
        self._transitions = zone.transitions_utc_ms.copy()
        self._offsets = zone.offsets_ms.copy()
        self._size_buffers(_EVENTS_AT_FIRST)

    def _size_buffers(self, events: int) -> None:
        float_rows, mask_rows = self._shape
        self._events_max = events
        self._ints = np.zeros((o.INT_ROWS, 4 * (events + 16)), np.int64)
        self._floats = np.zeros((float_rows, events + 16), np.float64)
        self._mask_words = np.zeros((mask_rows, events // 8 + 2), np.int64)
        self._masks = self._mask_words.view(np.uint8)

    def compute(self, words: Words, row: RequestWords, numbers: npt.NDArray[np.float64]) -> None:
        """Read inputs from the front of `numbers` and write every feature behind them.

        `words` is `event.words_of(log)` (int64[1 + n, 8], may be read-only), `row` int64[REQUEST_WORDS]; `numbers`
        float64, contiguous, at least inputs + len(names) long. Allocates only when a log is longer than any before.
        """
        events = words.shape[0]
        if events > self._events_max:
            self._size_buffers(1 << (events - 1).bit_length())
        if words.flags.writeable:  # one compiled form serves both: logs from the store are read-only
            words = words.view()
            words.flags.writeable = False
        compute(
            words, row, numbers, self._program, self._registers, self._ints, self._floats, self._masks,
            self._mask_words, self._transitions, self._offsets,
        )  # fmt: skip


def compile_plan(
    catalogue: Catalogue, needed: Iterable[str], input_slots: Mapping[str, int], first_slot: int, zone: Zone
) -> FeaturePlan:
    """Lay out the features in `needed` and everything they depend on; inputs stand in `numbers[:first_slot]`.

    `needed` names features of the catalogue; KeyError for any other.
    """
    builder = PlanBuilder(catalogue, needed, input_slots, first_slot)
    program, registers = builder.built()
    return FeaturePlan(builder.names, program, registers, builder.float_rows, builder.mask_rows, zone)
