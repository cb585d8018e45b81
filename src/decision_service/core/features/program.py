"""The last step of a plan: streams, columns, masks and instructions become the one int64 array that drives the kernel.

`opcodes` draws the array. Registers are resolved here, when every constant has its final place.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt

from decision_service.core.features import opcodes as o
from decision_service.core.features.aggregations import AGGREGATIONS
from decision_service.core.features.registers import Registers
from decision_service.core.features.segments import REGISTER_BASE, SegmentCompiler

_FLAGS: Final = {aggregation.opcode: aggregation.flags for aggregation in AGGREGATIONS.values()}
Instruction = tuple[int, ...]


@dataclass(slots=True)
class Output:
    """One value a stream writes; register operands are unresolved until the constants have their place."""

    op: int
    slot: int
    min_n: int
    default: int
    min_age_ms: int
    scaled: bool
    p1: int = 0
    p2: int = 0
    p1_is_register: bool = False
    p2_is_register: bool = False


@dataclass(slots=True)
class Stream:
    """One segment with one value, with or without the request, and what is written at each window's edge."""

    mask: int
    with_request: bool
    value_kind: int
    column: int
    delay_ms: int = 0
    flags: int = 0
    groups: list[int] = field(default_factory=list)
    cells: dict[int, list[Output]] = field(default_factory=dict)


class Program:
    """The parts of a plan, ready to be laid out."""

    def __init__(self, registers: Registers, segments: SegmentCompiler, streams: Sequence[Stream]) -> None:
        self._registers = registers
        self._segments = segments
        self._streams = streams

    def words(
        self, scalars: Sequence[Instruction], formulas: Sequence[Instruction], inputs: int, outputs: int
    ) -> npt.NDArray[np.int64]:
        """The array. `scalars` run before any event is looked at, `formulas` last."""
        streams = self._streams
        delays = {stream.delay_ms for stream in streams if stream.delay_ms}
        windows = sorted(delays | {window for stream in streams for window in stream.cells})
        header = [0] * o.HEADER_WORDS
        body: list[int] = []

        def section(start: int, count: int, words: Iterable[int], entries: int) -> None:
            header[start], header[count] = o.HEADER_WORDS + len(body), entries
            body.extend(words)

        segments = self._segments
        section(o.P_WINDOWS, o.P_WINDOWS_N, windows, len(windows))
        section(o.P_KEYS, o.P_KEYS_N, segments.keys, len(segments.keys))
        section(o.P_SCALARS, o.P_SCALARS_N, self._instruction_words(scalars), len(scalars))
        section(o.P_COLUMNS, o.P_COLUMNS_N, self._column_words(), len(segments.columns))
        section(o.P_MASKS, o.P_MASKS_N, self._mask_words(), len(segments.masks))
        section(o.P_STREAMS, o.P_STREAMS_N, self._stream_words(windows), len(self._streams))
        section(o.P_FORMULAS, o.P_FORMULAS_N, self._instruction_words(formulas), len(formulas))
        header[o.P_INPUTS], header[o.P_OUTPUTS] = inputs, outputs
        header[o.P_FLOAT_NEEDS], header[o.P_INT_NEEDS] = segments.float_needs, segments.int_needs
        header[o.P_VALUES_ROW] = segments.columns_count
        header[o.P_REACH], header[o.P_ORDERED], header[o.P_GROUPED] = self._reaches(windows)
        header[o.P_SLIM] = int(self._is_slim())
        return np.array(header + body, np.int64)

    def _reaches(self, windows: Sequence[int]) -> tuple[int, int, int]:
        """How far back the plan looks, needs order and needs groups (see `opcodes`).

        The newest label of an event may stand anywhere; local times are found in a column that ascends throughout.
        """
        needs = self._segments.int_needs
        listed = [stream for stream in self._streams if _flags(stream) & o.FLAG_MEMBERS]
        if needs & o.NEED_LABEL or not o.WITHIN.issuperset(_ops(self._streams)) or not windows:
            return -1, -1, -1
        ordered = -1 if needs & o.NEED_LOCAL else windows.index(_widest(listed)) if listed else 0
        grouped = [stream for stream in listed if stream.groups]
        return len(windows) - 1, ordered, windows.index(_widest(grouped)) if grouped else 0

    def _is_slim(self) -> bool:
        """Whether the plan counts, and looks at no base column but the slim ones."""
        segments = self._segments
        looked_at = set(segments.keys)
        for op, _, source, kind, operand in segments.masks:
            if op in o.M_OF_INTEGERS:
                looked_at |= {source, operand} if kind == o.FROM_REQUEST else {source}
        counts = {o.O_COUNT, o.O_BUCKET_COUNT, o.O_GROUPS}.issuperset(_ops(self._streams))
        needs = o.NEED_CUSTOMER | o.NEED_LABEL | o.NEED_LOAN
        own = {o.C_CUSTOMER, o.C_LABEL, o.C_LOAN}
        return counts and not segments.float_needs and not segments.int_needs & ~needs and looked_at <= o.SLIM | own

    def _instruction_words(self, instructions: Iterable[tuple[int, ...]]) -> Iterable[int]:
        resolved = self._registers.resolved
        for op, dst, a, b, c, d in instructions:
            if op in (o.S_ROW_EQ, o.S_COVERAGE, o.S_TRUNCATED, o.S_SERIES, o.S_GRANT_AGE, o.S_AT_LEAST):
                yield from (op, dst, a, b, c, d)
            elif op == o.S_GUARD_NAMED:
                yield from (op, dst, a, resolved(b), 0, 0)
            elif op in (o.S_GUARD_AGE, o.S_IN_CALENDAR):
                yield from (op, dst, resolved(a), b, 0, 0)
            elif op == o.S_GUARD_COUNT:
                yield from (op, dst, resolved(a), resolved(b), c, resolved(d))
            else:
                yield from (op, dst, resolved(a), resolved(b), resolved(c), 0)

    def _column_words(self) -> Iterable[int]:
        for op, column, left, right in self._segments.columns:
            yield from (op, column, self._column_operand(left), self._column_operand(right))

    def _column_operand(self, word: int) -> int:
        return word if word >= 0 else ~self._registers.resolved(word - REGISTER_BASE)

    def _mask_words(self) -> Iterable[int]:
        for op, mask, source, kind, operand in self._segments.masks:
            number = o.M_F_LT <= op <= o.M_F_KNOWN and kind == o.FROM_REGISTER
            if op == o.M_IF or number:
                operand = self._registers.resolved(operand)
            yield from (op, mask, source, kind, operand)

    def _stream_words(self, windows: list[int]) -> Iterable[int]:
        for stream in self._streams:
            groups = [*stream.groups, *[0] * o.GROUPS_MAX][: o.GROUPS_MAX]
            yield from (
                stream.mask, int(stream.with_request), stream.value_kind, stream.column, _flags(stream),
                len(stream.groups), *groups, windows.index(stream.delay_ms) if stream.delay_ms else -1,
                *_reaches(stream, windows), len(stream.cells),
            )  # fmt: skip
            for window in sorted(stream.cells):
                outputs = stream.cells[window]
                yield from (windows.index(window), len(outputs))
                for output in outputs:
                    yield from self._output_words(output)

    def _output_words(self, output: Output) -> tuple[int, ...]:
        resolved = self._registers.resolved
        p1 = resolved(output.p1) if output.p1_is_register else output.p1
        p2 = resolved(output.p2) if output.p2_is_register else output.p2
        return (
            output.op, output.slot, output.min_n, resolved(output.default), output.min_age_ms, int(output.scaled),
            p1, p2,
        )  # fmt: skip


def _ops(streams: Iterable[Stream]) -> set[int]:
    return {output.op for stream in streams for outputs in stream.cells.values() for output in outputs}


def _widest(streams: Iterable[Stream]) -> int:
    return max(max(stream.cells) for stream in streams)


def _flags(stream: Stream) -> int:
    """What the stream must prepare for its outputs."""
    ops = _ops([stream])
    listed = stream.value_kind == o.VALUE_COLUMN or not ops <= set(o.TALLIES)
    adds = bool(ops & {o.O_SUM, o.O_BUCKET_SUM})
    return stream.flags | (o.FLAG_MEMBERS if listed else 0) | (o.FLAG_SUMS if adds else 0)


def _reaches(stream: Stream, windows: list[int]) -> Iterable[int]:
    """How far back the stream lists members, sorts them, and groups them by each key (see `opcodes`)."""
    widest = max(stream.cells)
    ranked = 0
    grows = [0] * o.GROUPS_MAX
    for k, window in enumerate(sorted(stream.cells)):
        for output in stream.cells[window]:
            flags = _FLAGS.get(output.op, 0)
            if output.op in o.LOOK_BACK:
                widest = -1
            if flags & o.FLAG_SORTED:
                ranked = window
            if flags & o.FLAG_GROUPED:
                grows[output.p1] = k + 1
    yield windows.index(widest) if widest >= 0 else -1
    yield windows.index(ranked) if ranked else 0
    yield from grows
