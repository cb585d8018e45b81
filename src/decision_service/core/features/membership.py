"""Which events make a feature's value: segments applied to one event at a time, in plain Python.

The kernel computes values for millions and keeps nothing; this shows one person what a value is made of. It reads the
same packed log and the same row about the request, and must agree with the kernel to the event: the tests rebuild every
count and every sum of the catalogue from the members found here.

    facts_of(words, row, zone)   H(t) as segments see it, oldest first, and the request as the last one
    Judge(row, numbers)          whether a condition holds for a fact: true, false or unknown (Kleene)
    members_of(...)              the facts inside a feature's window and segment, and what each contributes

Slow on purpose (some 10 us an event and segment): nothing here is on the path of a decision.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from decision_service.core import inputs as q
from decision_service.core.event import BOOKED, DRAWDOWN, FLAG_LOAN, FLAG_PLACE, FLAG_SETTLES, LABEL, Words
from decision_service.core.expressions.tree import (
    And,
    Arithmetic,
    Call,
    Compare,
    IfElse,
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
from decision_service.core.features.event_names import FLAGS, MEASURES, TEXTS
from decision_service.core.features.grains import CUSTOMER, RESTRICTIONS
from decision_service.core.features.kernel_columns import CITY_CELL_E6
from decision_service.core.features.registers import code_of
from decision_service.core.inputs import RequestWords
from decision_service.core.ledger import resolve
from decision_service.core.limits import DAY_MS, HOUR_MS
from decision_service.core.zone import Zone

NAN: Final = math.nan
REQUEST_SEQ: Final = -1  # of the request itself, which stands in no log
Truth = bool | None
_RECORD: Final = struct.Struct("<qqqdBBBBIiiIIq")


@dataclass(frozen=True, slots=True)
class Fact:
    """One event of H(t), or the request, as segments see it. Codes and digests are 0 where absent."""

    seq: int
    key: int
    at_ms: int
    kind: int
    status: int  # effective at t
    channel: int
    code: int
    facility: int
    device: int
    party: int
    customer: int
    loan: int  # key of the drawdown that it is or concerns
    about: int  # of a label: the key of the event that it is about
    label: int  # code of the newest label about it
    amount_minor: int
    value: float
    place: tuple[int, int, int] | None  # lat, lon in 1e-6 degrees, accuracy class
    day: int
    hour: int
    dow: int  # 0 is Monday

    @property
    def is_request(self) -> bool:
        """Whether this is the request under decision."""
        return self.seq == REQUEST_SEQ

    @property
    def city(self) -> int:
        """The cell of the map, 0 without a place."""
        if self.place is None:
            return 0
        lat, lon = ((degrees + 360_000_000) // CITY_CELL_E6 for degrees in self.place[:2])
        return lat * 100_000 + lon


def facts_of(words: Words, row: RequestWords, zone: Zone, grain: str = CUSTOMER) -> list[Fact]:
    """H(t) in order of time, then of recording; the request stands last. Of a facility or loan only its own events."""
    t_ms = int(row[q.T_MS])
    status = np.zeros(len(words), np.uint8)
    resolve(words, t_ms, status, np.zeros(len(words), np.int64))
    linked = bool(words[0, 3])  # an entity's log: word 6 is the customer, and there is neither facility nor device
    customers = words[1:, 6].tolist() if linked else [int(row[q.CUSTOMER])] * (len(words) - 1)
    seen = [
        _event(record, int(words[0, 1]) + i, int(status[i]), customers[i], linked, zone)
        for i, record in enumerate(_RECORD.iter_unpack(words[1:].tobytes()))
        if record[0] <= t_ms and not record[7] & FLAG_SETTLES
    ]
    facts = [*_labelled(sorted(seen, key=lambda fact: fact.at_ms)), _request(row)]
    if grain not in _OWN:
        return facts
    wanted = int(row[RESTRICTIONS[grain].word])
    return [fact for fact in facts if wanted and _OWN[grain](fact) == wanted]


_OWN: Final[dict[str, Callable[[Fact], int]]] = {"facility": lambda fact: fact.facility, "loan": lambda fact: fact.loan}


def _labelled(facts: Sequence[Fact]) -> list[Fact]:
    """The facts in their order, each called what the newest label about it says."""
    newest = {(fact.customer, fact.about): fact.code for fact in facts if fact.about}
    return [replace(fact, label=newest.get((fact.customer, fact.key), 0)) for fact in facts]


def _event(record: Sequence[float], seq: int, status: int, customer: int, linked: bool, zone: Zone) -> Fact:
    at_ms, key, amount, value, kind, _, channel, flags, code, lat, lon, facility, device, party = record
    at_ms, flags = int(at_ms), int(flags)
    place = (int(lat), int(lon), flags >> 4) if flags & FLAG_PLACE else None
    concerns = int(party) if flags & FLAG_LOAN else 0
    return Fact(
        seq, int(key), at_ms, int(kind), status, int(channel), int(code), 0 if linked else int(facility),
        0 if linked else int(device), 0 if concerns else int(party), customer,
        int(key) if kind == DRAWDOWN else concerns, concerns if kind == LABEL else 0, 0, int(amount), value, place,
        *_local(at_ms + zone.offset_at(at_ms)),
    )  # fmt: skip


def _request(row: RequestWords) -> Fact:
    """The request as the kernel places it: a drawdown, as if it had just been booked."""
    words = [int(word) for word in row]
    place = (words[q.LAT_E6], words[q.LON_E6], words[q.ACCURACY_CLASS]) if words[q.HAS_PLACE] else None
    return Fact(
        REQUEST_SEQ, 0, words[q.T_MS], DRAWDOWN, BOOKED, words[q.CHANNEL], words[q.CODE], words[q.FACILITY],
        words[q.DEVICE], words[q.COUNTERPARTY], words[q.CUSTOMER], words[q.LOAN], 0, 0, words[q.AMOUNT], NAN, place,
        *_local(words[q.T_MS] + words[q.UTC_OFFSET_MS]),
    )  # fmt: skip


def _local(local_ms: int) -> tuple[int, int, int]:
    """Day number, hour and day of the week."""
    day = local_ms // DAY_MS
    return day, local_ms % DAY_MS // HOUR_MS, (day + 3) % 7


TEXT_CODES: Final[dict[str, Callable[[Fact], int]]] = {
    "kind": lambda fact: fact.kind,
    "status": lambda fact: fact.status,
    "channel": lambda fact: fact.channel,
    "category": lambda fact: fact.code,
    "purpose": lambda fact: fact.code,
    "facility": lambda fact: fact.facility,
    "device": lambda fact: fact.device,
    "counterparty": lambda fact: fact.party,
    "customer": lambda fact: fact.customer,
    "loan": lambda fact: fact.loan,
    "label": lambda fact: fact.label,
}
_TEXT_KEYS: Final = (
    "counterparty", "device", "facility", "channel", "category", "purpose", "customer", "loan", "label",
)  # fmt: skip
GROUP_KEYS: Final[dict[str, Callable[[Fact], int]]] = {
    **{name: TEXT_CODES[name] for name in _TEXT_KEYS},
    "local_day": lambda fact: fact.day,
    "local_hour": lambda fact: fact.hour,
    "local_dow": lambda fact: fact.dow,
    "city": lambda fact: fact.city,
    "first_digit": lambda fact: int(str(fact.amount_minor)[0]),
}


class Judge:
    """Applies conditions and numbers to facts, given one request: its row, and the inputs by name (NaN is null)."""

    def __init__(self, row: RequestWords, numbers: Mapping[str, float]) -> None:
        self._row = [int(word) for word in row]
        self._numbers = numbers
        self.request = _request(row)
        self.scale = self._row[q.SCALE]

    # --- conditions ---

    def truth(self, tree: Tree, fact: Fact) -> Truth:
        """Whether a condition holds for a fact; None when it is unknown."""
        match tree:
            case Not(operand=operand):
                inner = self.truth(operand, fact)
                return None if inner is None else not inner
            case And(operands=operands):
                return _all([self.truth(operand, fact) for operand in operands])
            case Or(operands=operands):
                return _any([self.truth(operand, fact) for operand in operands])
            case Compare(op=op, left=left, right=right):
                return self._compare(op, left, right, fact)
            case In(item=item, container=Literals(values=values)):
                return _any([self._compare("==", item, _literal(value, item), fact) for value in values])
            case Call(function="is_null", arguments=(argument,)):
                return self._is_null(argument, fact)
            case Call(function="at_least", arguments=(count, *conditions)):
                return self._at_least(round(self.number(count, fact)), conditions, fact)
            case Name(spec=spec) if spec.name in FLAGS:
                return self.flag(spec.name, fact)
        value = self.number(tree, fact)
        return None if math.isnan(value) else value != 0

    def _at_least(self, count: int, conditions: Sequence[Tree], fact: Fact) -> Truth:
        known = [self.truth(condition, fact) for condition in conditions]
        if known.count(True) >= count:
            return True
        return False if len(known) - known.count(False) < count else None

    def _compare(self, op: str, left: Tree, right: Tree, fact: Fact) -> Truth:
        for side, other in ((left, right), (right, left)):
            if isinstance(side, Name) and (side.spec.name in TEXTS or side.spec.name in _REQUEST_TEXTS):
                return self._same_text(side.spec.name, other, fact)
        a, b = self.number(left, fact), self.number(right, fact)
        if math.isnan(a) or math.isnan(b):
            return None
        return {"<": a < b, "<=": a <= b, ">": a > b, ">=": a >= b, "==": a == b}[op]

    def _same_text(self, name: str, other: Tree, fact: Fact) -> Truth:
        mine = self._code(name, fact)
        if isinstance(other, String):
            theirs = code_of(TEXTS[_REQUEST_TEXTS.get(name, name)], other.value)
        else:
            assert isinstance(other, Name), "the checker lets nothing else through"
            theirs = self._code(other.spec.name, fact)
        return None if mine == 0 or theirs == 0 else mine == theirs

    def _code(self, name: str, fact: Fact) -> int:
        if name in TEXT_CODES:
            return TEXT_CODES[name](fact)
        return self._row[TEXTS[_REQUEST_TEXTS[name]].request_word]

    def _is_null(self, tree: Tree, fact: Fact) -> bool:
        if isinstance(tree, Name) and (tree.spec.name in TEXTS or tree.spec.name in _REQUEST_TEXTS):
            return self._code(tree.spec.name, fact) == 0
        return math.isnan(self.number(tree, fact))

    def flag(self, name: str, fact: Fact) -> Truth:
        """Whether a flag of an event holds; None when it is unknown."""
        me = self.request
        if name == "same_city":
            return None if fact.city == 0 or me.city == 0 else fact.city == me.city
        return {
            "settled": fact.status <= 2, "booked": fact.status == 1, "approved": fact.status == 2,
            "failed": fact.status >= 3, "declined": fact.status == 3, "failed_tech": fact.status == 4,
            "cancelled": fact.status == 5, "after_grant": fact.at_ms >= self._row[q.GRANTED_MS],
            "weekend": fact.dow >= 5, "has_place": fact.place is not None, "same_hour": fact.hour == me.hour,
            "same_dow": fact.dow == me.dow,
        }[name]  # fmt: skip

    # --- numbers ---

    def number(self, tree: Tree, fact: Fact) -> float:
        """The value of a number for a fact; NaN is null. A condition is 1, 0 or NaN."""
        match tree:
            case Number(value=value):
                return value
            case Name(spec=spec) if spec.name in MEASURES:
                return self.measure(spec.name, fact)
            case Name(spec=spec) if spec.name not in FLAGS:
                return self._numbers[spec.name]
            case Negative(operand=operand):
                return -self.number(operand, fact)
            case Arithmetic(op=op, left=left, right=right):
                return _arithmetic(op, self.number(left, fact), self.number(right, fact))
            case IfElse(condition=condition, then=then, otherwise=otherwise):
                holds = self.truth(condition, fact)
                return NAN if holds is None else self.number(then if holds else otherwise, fact)
            case Call(function=function, arguments=arguments) if function not in ("is_null", "at_least"):
                return _called(function, [self.number(argument, fact) for argument in arguments])
        holds = self.truth(tree, fact)
        return NAN if holds is None else float(holds)

    def measure(self, name: str, fact: Fact) -> float:
        """The measure of an event a segment or a row names; NaN where it has none."""
        at_ms, place = fact.at_ms, fact.place
        match name:
            case "amount":
                return fact.amount_minor / self.scale
            case "age_s":
                return (self._row[q.T_MS] - at_ms) / 1_000
            case "since_grant_s":
                return (at_ms - self._row[q.GRANTED_MS]) / 1_000
            case "last_digit":
                return _last_digit(fact.amount_minor // self.scale)
            case "lat" | "lon":
                return NAN if place is None else place[name == "lon"] / 1e6
            case "accuracy_class":
                return NAN if place is None or not place[2] else float(place[2])
        return {"value": fact.value, "local_hour": float(fact.hour), "local_dow": float(fact.dow)}[name]


_REQUEST_TEXTS: Final = {text.request_name: name for name, text in TEXTS.items() if text.request_name}


def _literal(value: float | str, item: Tree) -> Tree:
    return String(value, item.place) if isinstance(value, str) else Number(value, item.place)


def _all(truths: Sequence[Truth]) -> Truth:
    return False if False in truths else None if None in truths else True


def _any(truths: Sequence[Truth]) -> Truth:
    return True if True in truths else None if None in truths else False


def _last_digit(whole: int) -> float:
    """The last yuan digit that is not zero."""
    digits = str(whole).rstrip("0")
    return float(digits[-1]) if whole > 0 else NAN


def _arithmetic(op: str, a: float, b: float) -> float:
    if op == "/":
        return NAN if b == 0 or math.isnan(b) else a / b
    return a + b if op == "+" else a - b if op == "-" else a * b


def _called(function: str, values: Sequence[float]) -> float:
    if function == "coalesce":
        return next((value for value in values if not math.isnan(value)), NAN)
    if any(map(math.isnan, values)):
        return NAN
    first = values[0]
    match function:
        case "min":
            return min(values)
        case "max":
            return max(values)
        case "sum":
            return sum(values)
        case "mean":
            return sum(values) / len(values)
        case "clip":
            return min(max(first, values[1]), values[2])
        case "sqrt":
            return math.sqrt(first) if first >= 0 else NAN
        case "log":
            return math.log(first) if first > 0 else NAN
        case "exp":
            return math.exp(first) if first < 709 else NAN
        case "round":
            return float(np.rint(first))
        case "floor":
            return float(math.floor(first))
        case "ceil":
            return float(math.ceil(first))
    assert function == "abs", function
    return abs(first)
