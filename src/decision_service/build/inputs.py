"""Request rows and base numbers of many questions: what `core.decide.fill_inputs` writes for one, column by column.

A test compares every row with `fill_inputs` itself, bit for bit. Where a question names no facility it is asked about
the customer's only one; without a file of facilities everybody has a line of nothing, granted at the instant asked
about, as `GET /v1/customers/{id}/features` has it for a customer whose facilities nobody has reported.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from numba import njit

from decision_service.build.dtypes import CURRENCIES, CURRENCY_INDEX, SCALES_BY_INDEX
from decision_service.build.history import Ints, Records, Refused
from decision_service.core import inputs as q
from decision_service.core.event import facility_key
from decision_service.core.limits import DAY_MS, HOUR_MS, SECOND_MS
from decision_service.core.positions import LINE_FIELDS, NO_LINE, POSITION_FIELDS, SEVERAL, positions
from decision_service.core.rules.attributes import AttributeSlot
from decision_service.core.vocabulary import BASE_NUMBERS
from decision_service.core.zone import Zone

# mypy: disable-error-code="untyped-decorator,no-untyped-def,no-untyped-call"

Floats = npt.NDArray[np.float64]

SLOTS: Final = {spec.name: slot for slot, spec in enumerate(BASE_NUMBERS)}
_BPS: Final = 10_000
_VALUE_FIELDS: Final = ("slot", "recorded_at_ms", "as_of_ms", "value")
_NOBODY: Final = facility_key("")
_DEFAULT_CURRENCY: Final = CURRENCY_INDEX["CNY"]


def sorted_snapshots(snapshots: Records) -> Records:
    """By customer and facility, the newest last."""
    order = ("row", "recorded_at_ms", "as_of_ms", "facility", "owner")
    return snapshots[np.lexsort([snapshots[name] for name in order])]


def sorted_values(values: Records) -> Records:
    """By customer and attribute, the newest last."""
    order = ("row", "recorded_at_ms", "as_of_ms", "slot", "owner")
    return values[np.lexsort([values[name] for name in order])]


def _ranges(owners: Records, wanted: Records) -> tuple[Ints, Ints]:
    return (
        np.searchsorted(owners, wanted, side="left").astype(np.int64),
        np.searchsorted(owners, wanted, side="right").astype(np.int64),
    )


@njit(cache=True)
def _newest_values(
    slots, recorded, as_of, values, firsts, lasts, bound_ms, t_ms, ttl_ms, source_ok, source_age, width, numbers
):
    """Write every attribute's newest reported value that is neither stale nor dated ahead, and what it tells of its
    source, fresh or not."""
    for r in range(firsts.shape[0]):
        i = lasts[r] - 1
        while i >= firsts[r]:
            slot, found = slots[i], -1
            while i >= firsts[r] and slots[i] == slot:
                if found < 0 and recorded[i] <= bound_ms[r]:
                    found = i
                i -= 1
            if found < 0 or as_of[found] > t_ms[r]:
                continue
            age_ms = t_ms[r] - as_of[found]
            age_s = age_ms / SECOND_MS
            if not numbers[r, source_age[slot]] <= age_s:  # null, or older
                numbers[r, source_age[slot]] = age_s
            if age_ms <= ttl_ms[slot]:
                numbers[r, source_ok[slot]] = 1.0
                if slot < width:
                    numbers[r, slot] = values[found]


@dataclass(frozen=True, slots=True)
class AttributeColumns:
    """Where attributes and their sources stand among the `width` inputs: an entry for every slot of `values`, those
    from `width` on being texts. `sources` are the inputs that are 0 where nothing was reported."""

    width: int
    sources: slice
    ttl_ms: Ints
    source_ok: Ints
    source_age: Ints

    def tell(self, slot: int, of: AttributeSlot) -> None:
        """Take over the declaration of the attribute whose values have a slot."""
        self.ttl_ms[slot], self.source_ok[slot], self.source_age[slot] = of.spec.ttl_ms, of.source_ok, of.source_age


class Inputs:
    """What is known of the customers of one partition, for questions in any order."""

    def __init__(
        self, snapshots: Records, values: Records, zone: Zone, timeout_ms: int, attributes: AttributeColumns,
        facilities_known: bool,
    ) -> None:  # fmt: skip
        self._snapshots, self._values = sorted_snapshots(snapshots), sorted_values(values)
        lines = np.stack([self._snapshots[name] for name in LINE_FIELDS], axis=1) if len(snapshots) else None
        self._lines = np.zeros((0, len(LINE_FIELDS)), np.int64) if lines is None else np.ascontiguousarray(lines)
        self._zone, self._timeout_ms, self._attributes = zone, timeout_ms, attributes
        self._facilities_known = facilities_known

    def fill(
        self, questions: Records, words: Ints, starts: Ints, ends: Ints, bound_ms: Ints
    ) -> tuple[Ints, Floats, npt.NDArray[np.bool_], Refused]:
        """`(request rows, numbers as wide as there are inputs, answerable, who is not)` of questions that see the logs
        `words[starts:ends]` and what was reported up to `bound_ms`."""
        firsts, lasts = _ranges(self._snapshots["owner"], questions["owner"])
        found = np.zeros((len(questions), len(POSITION_FIELDS)), np.int64)
        positions(
            words, starts, ends, questions["at_ms"].copy(), bound_ms, questions["facility"].astype(np.int64), firsts,
            lasts, self._lines, _NOBODY, self._timeout_ms, found,
        )  # fmt: skip
        of = dict(zip(POSITION_FIELDS, found.T, strict=True))
        line = _Line(self._snapshots, of["chosen"], questions)
        answerable, refused = self._refuse(questions, of, line)
        rows = self._request_rows(questions, of, line)
        columns = self._attributes
        numbers = np.full((len(questions), columns.width), np.nan)
        numbers[:, columns.sources] = 0.0
        _base_numbers(numbers, questions, rows, of, line)
        if len(self._values):
            firsts, lasts = _ranges(self._values["owner"], questions["owner"])
            slots, recorded, as_of, values = (np.ascontiguousarray(self._values[name]) for name in _VALUE_FIELDS)
            t_ms = rows[:, q.T_MS].copy()
            _newest_values(
                slots, recorded, as_of, values, firsts, lasts, bound_ms, t_ms, columns.ttl_ms, columns.source_ok,
                columns.source_age, columns.width, numbers,
            )  # fmt: skip
        return rows, numbers, answerable, refused

    def _refuse(self, questions: Records, of: dict[str, Ints], line: _Line) -> tuple[npt.NDArray[np.bool_], Refused]:
        several = of["chosen"] == SEVERAL
        named = (questions["facility"] != 0) | (of["known"] > 0)
        unknown = (of["chosen"] == NO_LINE) & named & self._facilities_known
        # an event without an amount is of no currency, whatever its file has for the others
        money, currency = questions["amount"] > 0, questions["currency"]
        other_money = money & (currency >= 0) & (currency != line.currency) & ~several & ~unknown
        refused: Refused = []
        for where, column, reason in (
            (several, "facility_id", "is needed: the customer has several facilities"),
            (unknown, "facility_id", "unknown facility: no snapshot of it was reported by then"),
            (other_money, "currency", "is not the currency of the facility"),
        ):
            refused += [(int(row), column, reason) for row in questions["row"][where]]
        return ~(several | unknown | other_money), refused

    def _request_rows(self, questions: Records, of: dict[str, Ints], line: _Line) -> Ints:
        rows = np.zeros((len(questions), q.REQUEST_WORDS), np.int64)
        t_ms = questions["at_ms"]
        transition = np.searchsorted(self._zone.transitions_utc_ms, t_ms, side="right") - 1
        for column, values in {
            q.T_MS: t_ms, q.AMOUNT: np.maximum(questions["amount"], 0), q.SCALE: SCALES_BY_INDEX[line.currency],
            q.FACILITY: line.facility, q.DEVICE: questions["device"],
            q.COUNTERPARTY: questions["party"].view(np.int64), q.CODE: questions["code"],
            q.CHANNEL: questions["channel"], q.HAS_PLACE: questions["placed"], q.LAT_E6: questions["lat_e6"],
            q.LON_E6: questions["lon_e6"], q.ACCURACY_CLASS: questions["accuracy"],
            q.GRANTED_MS: line["granted_at_ms"], q.LIMIT: line["limit"], q.OUTSTANDING: of["outstanding"],
            q.RESERVED: of["reserved"], q.AVAILABLE: line["limit"] - of["outstanding"] - of["reserved"],
            q.NEXT_DUE_MS: line["next_due_at_ms"], q.UTC_OFFSET_MS: self._zone.offsets_ms[transition],
            q.CUSTOMER: questions["owner"].view(np.int64), q.LOAN: questions["loan"].view(np.int64),
            q.IP: questions["ip_link"].view(np.int64),
        }.items():  # fmt: skip
            rows[:, column] = values
        return rows


class _Line:
    """Columns of the facility each question is about; without a snapshot, a line of nothing granted at its instant."""

    def __init__(self, snapshots: Records, chosen: Ints, questions: Records) -> None:
        self._snapshots, self._chosen, self._questions = snapshots, chosen, questions
        self._none = chosen < 0
        asked = np.where(questions["facility"] == 0, _NOBODY, questions["facility"]).astype(np.int64)
        self.facility = self._of("facility", asked)
        wanted = np.where(questions["currency"] < 0, _DEFAULT_CURRENCY, questions["currency"])
        self.currency = self._of("currency", wanted)
        assert len(CURRENCIES) > int(self.currency.max(initial=0))

    def _of(self, name: str, without: Any) -> Ints:
        if not len(self._snapshots):
            return np.broadcast_to(without, len(self._chosen)).astype(np.int64)
        return np.where(self._none, without, self._snapshots[name][np.maximum(self._chosen, 0)])

    def __getitem__(self, name: str) -> Ints:
        if name in ("granted_at_ms", "as_of_ms"):
            return self._of(name, self._questions["at_ms"])
        absent = name in ("expires_at_ms", "reviewed_at_ms", "next_due_at_ms", "next_due", "days_past_due")
        return self._of(name, q.ABSENT if absent else 0)

    def number(self, name: str) -> Floats:
        """A column whose ABSENT is NaN."""
        values = self[name]
        return np.where(values == q.ABSENT, np.nan, values)


def _base_numbers(numbers: Floats, questions: Records, rows: Ints, of: dict[str, Ints], line: _Line) -> None:
    t_ms, scale, limit = rows[:, q.T_MS], rows[:, q.SCALE], rows[:, q.LIMIT]

    def days_until(name: str) -> Floats:
        instants = line[name]
        return np.where(instants == q.ABSENT, np.nan, (instants - t_ms) / DAY_MS)

    values = {
        "request.amount": rows[:, q.AMOUNT] / scale,
        "request.term_months": questions["term_months"],
        "request.local_hour": (t_ms + rows[:, q.UTC_OFFSET_MS]) // HOUR_MS % 24,
        "facility.limit": limit / scale,
        "facility.outstanding": of["outstanding"] / scale,
        "facility.reserved": of["reserved"] / scale,
        "facility.available": rows[:, q.AVAILABLE] / scale,
        "facility.apr": line["apr_bps"] / _BPS,
        "facility.days_past_due": line.number("days_past_due"),
        "facility.age_d": (t_ms - rows[:, q.GRANTED_MS]) / DAY_MS,
        "facility.days_to_due": days_until("next_due_at_ms"),
        "facility.due_amount": line.number("next_due") / scale,
        "facility.days_to_expiry": days_until("expires_at_ms"),
        "facility.days_since_review": -days_until("reviewed_at_ms"),
        "customer.limit": of["total_limit"] / scale,
        "customer.outstanding": of["total_outstanding"] / scale,
        "customer.facilities": of["known"] + (of["chosen"] == NO_LINE),
    }  # fmt: skip
    for name, slot in SLOTS.items():
        numbers[:, slot] = values[name]
