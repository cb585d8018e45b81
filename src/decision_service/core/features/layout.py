"""Collects what a plan computes: which features, in which slots, as which streams, cells and instructions; `program`
makes the kernel's array of it.

Outputs that look at the same segment, value and place of the request share a stream: the events are gathered once.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from typing import Final

import numpy as np
import numpy.typing as npt

from decision_service.core.features import opcodes as o
from decision_service.core.features.aggregations import AGGREGATIONS, MOMENTS, SERIES, Aggregation
from decision_service.core.features.catalogue import Catalogue, FeatureSpec
from decision_service.core.features.closure import Closure, first_division, observation_name, observations
from decision_service.core.features.durations import duration_ms
from decision_service.core.features.event_names import KEYS
from decision_service.core.features.grains import CUSTOMER, RESTRICTIONS, log_read_by
from decision_service.core.features.program import Output, Program, Stream
from decision_service.core.features.references import series_names
from decision_service.core.features.registers import Registers
from decision_service.core.features.segments import SegmentCompiler
from decision_service.core.limits import DAY_MS

_ANY_AGE: Final = -(2**62)


class PlanBuilder:
    """Collects streams and formulas, then lays them out."""

    def __init__(
        self, catalogue: Catalogue, needed: Iterable[str], input_slots: Mapping[str, int], first_slot: int
    ) -> None:
        given = {name for name, slot in input_slots.items() if slot < first_slot}
        specs = Closure(catalogue, needed, given).specs
        if len({log_read_by(spec.grain) for spec in specs.values()}) > 1:
            raise ValueError("these features read several logs: `compile_plans` makes a plan of each")
        hidden = dict.fromkeys(filter(None, map(observations, specs.values())))
        self.names = (*specs, *(observation_name(*key) for key in hidden))
        slots = {name: first_slot + k for k, name in enumerate(self.names)}
        self._first_slot = first_slot
        self._catalogue = catalogue
        self._registers = Registers(input_slots, first_slot, slots)
        self._segments = SegmentCompiler(self._registers)
        self._streams: dict[object, Stream] = {}
        self._slots = slots
        self._null = self._registers.constant(float("nan"))
        self._counts: dict[object, int] = {}
        self._shares: dict[str, tuple[int, int]] = {}
        self._unguarded: dict[str, int] = {}  # features of a restricted grain: the value before the grain's null rule
        for segment, window_ms in hidden:
            self._addobservations(segment, window_ms)
        for spec in specs.values():
            if spec.row.section == "features" and spec.row.plain("agg", spec.variant) in AGGREGATIONS:
                self._add_aggregate(spec)
        self._scalars = self._registers.section()
        for spec in specs.values():
            self._add_formula(spec)

    @property
    def float_rows(self) -> int:
        """Float columns and working rows."""
        return self._segments.columns_count + o.V_ROWS

    @property
    def mask_rows(self) -> int:
        """Masks, columns of codes as bytes, and one row for effective statuses."""
        return len(self._segments.masks) + o.CODE_ROWS + 1

    # --- streams ---

    def _mask_of(self, segment: str, grain: str = CUSTOMER) -> int:
        mask = self._segments.mask(self._catalogue.segments[segment].tree)
        restriction = RESTRICTIONS.get(grain)
        if restriction is None:
            return mask
        return self._segments.all_of(
            mask, self._segments.same_as_row(restriction.column, restriction.word, restriction.needs)
        )

    def _addobservations(self, segment: str, window_ms: int) -> None:
        slot = self._slots[observation_name(segment, window_ms)]
        stream = self._stream(self._mask_of(segment), False, 0)
        stream.cells.setdefault(window_ms, []).append(Output(o.O_COUNT, slot, 0, self._null, _ANY_AGE, False))

    def _stream(
        self, mask: int, with_request: bool, delay_ms: int, kind: int = o.VALUE_AMOUNT, column: int = 0,
        family: object = None, group: int | None = None,
    ) -> Stream:  # fmt: skip
        """The stream to write to; a further one where its groups are full."""
        for part in itertools.count():
            key = (mask, with_request, delay_ms, kind, column, family, part)
            stream = self._streams.setdefault(key, Stream(mask, with_request, kind, column, delay_ms))
            if group is None or group in stream.groups or len(stream.groups) < o.GROUPS_MAX:
                return stream
        raise AssertionError("itertools.count() does not end")

    def _add_aggregate(self, spec: FeatureSpec) -> None:
        row, variant = spec.row, spec.variant
        name = row.plain("agg", variant)
        aggregation = AGGREGATIONS[name]
        if name == "share":
            self._add_share(spec)
            return
        value = row.plain("value", variant, "amount")
        money = value == "amount" or not aggregation.valued
        kind, column = (o.VALUE_AMOUNT, 0) if money else (o.VALUE_COLUMN, self._segments.measure(value))
        family = spec.name.rpartition("_m")[0] if variant.buckets else None
        group = self._segments.key(row.plain("by", variant)) if aggregation.flags & o.FLAG_GROUPED else None
        mask = self._mask_of(row.plain("of", variant), row.grain)
        stream = self._stream(mask, row.flag("incl"), row.delay_ms, kind, column, family, group)
        stream.flags |= aggregation.flags | _looks_at(aggregation.opcode)
        null = spec.null
        output = Output(
            _opcode(aggregation, bool(variant.buckets)), self._slot_before_guard(spec), null.min_n,
            self._registers.constant(null.otherwise), _least_age_ms(spec),
            aggregation.money and value == "amount",
        )  # fmt: skip
        self._set_parameters(output, aggregation, spec, stream)
        stream.cells.setdefault(variant.window_ms + row.delay_ms, []).append(output)

    def _slot_before_guard(self, spec: FeatureSpec) -> int:
        """Where an aggregate goes: its slot, or a temporary that its grain's null rule is applied to."""
        if spec.grain not in RESTRICTIONS:
            return self._slots[spec.name]
        self._unguarded[spec.name] = register = self._registers.temporary()
        return register

    def _add_share(self, spec: FeatureSpec) -> None:
        """Two counts; the division is a formula."""
        row, variant = spec.row, spec.variant
        among = self._mask_of(row.plain("among", variant), row.grain)
        part = self._segments.all_of(self._mask_of(row.plain("of", variant), row.grain), among)
        self._shares[spec.name] = self._count(spec, part), self._count(spec, among)

    def _count(self, spec: FeatureSpec, mask: int) -> int:
        """A register that holds how many events of the mask are in the feature's window."""
        with_request, delay_ms = spec.row.flag("incl"), spec.row.delay_ms
        window_ms = spec.variant.window_ms + delay_ms
        key = (mask, with_request, delay_ms, window_ms)
        if key not in self._counts:
            self._counts[key] = register = self._registers.temporary()
            stream = self._stream(mask, with_request, delay_ms)
            stream.cells.setdefault(window_ms, []).append(Output(o.O_COUNT, register, 0, self._null, _ANY_AGE, False))
        return self._counts[key]

    def _set_parameters(self, output: Output, aggregation: Aggregation, spec: FeatureSpec, stream: Stream) -> None:
        row, variant = spec.row, spec.variant
        number = row.number
        op = output.op
        if aggregation.flags & o.FLAG_GROUPED:
            name = row.plain("by", variant)
            output.p1 = _index_in(stream.groups, self._segments.key(name))
            output.p2 = KEYS[name].categories
        elif op == o.O_QUANTILE:
            output.p1, output.p1_is_register = self._registers.constant(number("q", variant)), True
        elif op == o.O_TOP_SUM:
            output.p1 = round(number("top", variant))
        elif op == o.O_BURST:
            output.p1 = duration_ms(row.plain("width", variant)) or 0
        elif op == o.O_EWMA:
            output.p1 = variant.window_ms // DAY_MS
            output.p2, output.p2_is_register = self._registers.constant(number("half_life", variant)), True
        elif op == o.O_OPEN_LOANS:
            output.p1, output.p1_is_register = self._registers.named(row.plain("against", variant)), True
        elif op in (o.O_KM_LAST, o.O_KMH_LAST, o.O_BOTH_GPS, o.O_KM_HOME, o.O_GYRATION):
            self._segments.int_needs |= o.NEED_PLACE
        elif op == o.O_LAST_DAYS:
            self._segments.int_needs |= o.NEED_LOCAL
        else:
            self._set_relation(output, spec)

    def _set_relation(self, output: Output, spec: FeatureSpec) -> None:
        row, variant = spec.row, spec.variant
        if o.O_DAY_AT <= output.op <= o.O_WORST_MONTHS or o.O_TERM_RATIO_MEAN <= output.op <= o.O_TERM_CARRIED:
            self._set_line(output, spec)
            return
        for key in ("while", "since", "after", "before", "answer"):
            if row.has(key):
                output.p1 = self._mask_of(row.plain(key, variant), row.grain)
        within = float(duration_ms(row.plain("within", variant)) or 0)
        if output.op == o.O_TAIL_STREAK:
            output.p2 = round(row.number("cap", variant))
        elif output.op == o.O_FOLLOWED:
            output.p2 = round(within)
        elif output.op in (o.O_REDRAW_COUNT, o.O_REDRAW_SUM):
            pair = within, row.number("share", variant)
            output.p2, output.p2_is_register = self._registers.constants(*pair), True
        elif output.op == o.O_SECS_TO:
            output.p2, output.p2_is_register = self._registers.constant(row.number("share", variant)), True
        elif output.op == o.O_RETURNS:
            pair = within, float(self._segments.key(row.plain("by", variant)))
            output.p2, output.p2_is_register = self._registers.constants(*pair), True
        elif output.op == o.O_UNANSWERED:
            output.p2 = self._segments.key(row.plain("by", variant))

    def _set_line(self, output: Output, spec: FeatureSpec) -> None:
        """What the days and terms of a line, and months by their worst day, look at."""
        row, variant = spec.row, spec.variant
        if output.op == o.O_WORST_MONTHS:
            pair = row.number("least", variant), row.number("below", variant)
            output.p2, output.p2_is_register = self._registers.constants(*pair), True
            return
        self._segments.int_needs |= o.NEED_LOCAL
        self._segments.measure("value")
        output.p1 = self._mask_of(row.plain("repaid", variant), row.grain)
        output.min_n = 0  # its observations are days or terms, not the events of the stream
        if output.op >= o.O_TERM_RATIO_MEAN:
            output.p2 = round(row.number("cap", variant))
            return
        level = next((row.number(key, variant) for key in ("least", "above", "below") if row.has(key)), 0.0)
        limits = self._mask_of(row.plain("limits", variant), row.grain) if row.has("limits") else -1
        words = float(variant.window_ms // DAY_MS), level, float(limits), float(spec.null.min_n)
        output.p2, output.p2_is_register = self._registers.constants(*words), True

    # --- formulas ---

    def _add_formula(self, spec: FeatureSpec) -> None:
        slot, row, variant = self._slots[spec.name], spec.row, spec.variant
        registers = self._registers
        if spec.surge_of:
            self._add_surge(spec, slot)
        elif spec.name in self._shares:
            self._add_quotient(spec, slot)
        elif spec.name in self._unguarded:
            registers.emit(o.S_GUARD_NAMED, slot, RESTRICTIONS[spec.grain].word, self._unguarded[spec.name])
        elif spec.tree is not None:
            self._add_guarded(spec, slot, registers.value(spec.tree))
        elif (agg := row.plain("agg", variant)) in SERIES:
            names = [registers.named(name) for name in series_names(spec)]
            start = registers.in_a_row(names[: variant.months])
            other = registers.in_a_row(names[variant.months :]) if row.has("with") else 0
            value = registers.emit(o.S_SERIES, registers.temporary(), start, variant.months, other, SERIES[agg])
            self._add_guarded(spec, slot, value)
        elif agg == "in_calendar":
            calendar = self._catalogue.calendars[row.plain("calendar", variant)]
            start = registers.constants(*map(float, (calendar.first, calendar.last, *calendar.days)))
            registers.emit(o.S_IN_CALENDAR, slot, start, len(calendar.days))
        elif agg in MOMENTS:
            registers.emit(MOMENTS[agg], slot, variant.window_ms, int(spec.grain != CUSTOMER))

    def _add_quotient(self, spec: FeatureSpec, slot: int) -> None:
        """A share: null without anything to be a share of."""
        registers, null = self._registers, spec.null
        part, among = self._shares[spec.name]
        value = registers.emit(o.S_DIV, registers.temporary(), part, among)
        if null.min_n:
            otherwise = registers.constant(null.otherwise)
            value = registers.emit(o.S_GUARD_COUNT, registers.temporary(), value, among, null.min_n, otherwise)
        if (least := _least_age_ms(spec)) > _ANY_AGE:
            value = registers.emit(o.S_GUARD_AGE, registers.temporary(), value, least)
        if (restriction := RESTRICTIONS.get(spec.grain)) is not None:
            value = registers.emit(o.S_GUARD_NAMED, registers.temporary(), restriction.word, value)
        registers.settle(value, slot)

    def _add_surge(self, spec: FeatureSpec, slot: int) -> None:
        watched = self._catalogue.by_name[spec.surge_of]
        division = first_division(watched.tree) if watched.tree is not None else None
        if division is None:
            self._registers.emit(o.S_MOVE, slot, self._registers.constant(0.0))
            return
        top, bottom = self._registers.value(division.left), self._registers.value(division.right)
        value = self._registers.emit(o.S_NEW, self._registers.temporary(), top, bottom)
        self._add_guarded(watched, slot, value, capped=False)

    def _add_guarded(self, spec: FeatureSpec, slot: int, value: int, *, capped: bool = True) -> None:
        """The null rule of a formula, in this order: range, observations, age."""
        registers, null = self._registers, spec.null
        if null.cap is not None and capped:
            value = registers.emit(o.S_MAX, registers.temporary(), value, registers.constant(null.cap[0]))
            value = registers.emit(o.S_MIN, registers.temporary(), value, registers.constant(null.cap[1]))
        counted = observations(spec)
        if counted is not None:
            count = self._slots[observation_name(*counted)]
            otherwise = registers.constant(null.otherwise)
            value = registers.emit(o.S_GUARD_COUNT, registers.temporary(), value, count, null.min_n, otherwise)
        least = _least_age_ms(spec)
        if least > _ANY_AGE:
            registers.emit(o.S_GUARD_AGE, slot, value, least)
        else:
            registers.settle(value, slot)

    # --- layout ---

    def built(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
        """`(prog, reg)` as `opcodes` describes them."""
        formulas = self._registers.section()
        program = Program(self._registers, self._segments, tuple(self._streams.values()))
        return program.words(self._scalars, formulas, self._first_slot, len(self.names)), self._registers.finished()


def _least_age_ms(spec: FeatureSpec) -> int:
    """The youngest line that the feature speaks about; what a delay adds lies before its window."""
    row = spec.row
    delay_ms = row.delay_ms if row.section == "features" else 0
    return spec.null.min_age_ms(spec.variant.window_ms + delay_ms, spec.variant.months)


def _opcode(aggregation: Aggregation, per_bucket: bool) -> int:
    if not per_bucket:
        return aggregation.opcode
    return o.O_BUCKET_SUM if aggregation.opcode == o.O_SUM else o.O_BUCKET_COUNT


def _index_in(groups: list[int], key: int) -> int:
    if key not in groups:
        groups.append(key)
    return groups.index(key)


def _looks_at(op: int) -> int:
    """Whether an output needs the members' instants, their values, or neither."""
    timed = op in (o.O_FIRST_AGE, o.O_LAST_AGE, o.O_REDRAW_COUNT, o.O_REDRAW_SUM, o.O_FOLLOWED) or (
        o.O_GAP_MEAN <= op <= o.O_GAP_RATIO or op in (o.O_BURST, o.O_EWMA, o.O_WORST_MONTHS)
    )
    valued = o.O_MIN <= op <= o.O_LAST or o.O_RISING <= op <= o.O_GINI or op in (
        o.O_SUM_SINCE, o.O_MAX_SINCE, o.O_COUNT_SINCE, o.O_EPISODES, o.O_WORST_MONTHS
    )  # fmt: skip
    return (o.FLAG_TIMES if timed else 0) | (o.FLAG_VALUES if valued else 0)
