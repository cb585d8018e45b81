"""What goes between a worker and its shadow process: frames over a socket pair, both ways.

    frame      u4 length of the text | u4 length of the logs (little-endian) | text | logs, one behind the other
    to the process, the text marshalled (format 2: no references, which would cost more than they save)
               ("p", policy)               what is in force: before the first decision of it and when it changes
               ("d", [decision, ...])      a piece of decisions; their logs are the frame's
    to the worker, the text JSON and no logs
               {"stands": ...}             what is in shadow, or why nothing is (`standing.Standing`)
               {"done": n}                 so many decisions were dealt with since the last
               {"broken": word, "why": ..} it cannot go on (`meters.BREAKS`), and ends

`marshal` knows only what the interpreter is made of and is written for this interpreter alone; both ends are the same
one, and the process is started by the worker from the same files. Logs stand outside of it, for they are nearly all of
the bytes (13 kB of a customer with 200 events) and go from the state to the kernel without a copy of ours: 9 us to pack
a decision, 4 us for the kernel.
"""

from __future__ import annotations

import marshal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from operator import attrgetter
from struct import Struct
from typing import Any, Final, NamedTuple

from decision_service.core.decision import Decision
from decision_service.core.event import Geo
from decision_service.core.facility import Attribute, Facility
from decision_service.core.links import NO_LINKS, Links
from decision_service.core.policy import Policy
from decision_service.core.request import DecisionRequest
from decision_service.core.state import CustomerState

LENGTHS: Final = Struct("<II")
_FORMAT: Final = 2
POLICY: Final = "p"
DECISIONS: Final = "d"

_FACILITY: Final = attrgetter(*(field.name for field in fields(Facility)))
_GEO: Final = attrgetter(*(field.name for field in fields(Geo)))
_APART: Final = ("geo", "facility", "attributes", "fingerprint", "body")  # the last two no decision looks at
_REQUEST_FIELDS: Final = tuple(field.name for field in fields(DecisionRequest) if field.name not in _APART)
_REQUEST: Final = attrgetter(*_REQUEST_FIELDS)


class Active(NamedTuple):
    """What was answered: the active side of a comparison, in words that need no policy but the ids of its rules."""

    outcome: str
    approved_minor: int
    currency: str
    hold: str | None
    limit_change: tuple[str, int, int] | None
    reprice: tuple[int, int] | None
    reasons: tuple[str, ...]
    verdicts: bytes
    cells: tuple[str, ...]


class Sent(NamedTuple):
    """A decision with everything that it was made of. `now_ms` is the clock it was made by."""

    decision_id: str
    now_ms: int
    request: DecisionRequest
    state: CustomerState
    active: Active


@dataclass(frozen=True, slots=True)
class Told:
    """The policy in force: `id` of its content without lists, ids of its rules by scene in the order of verdicts."""

    id: str
    label: str
    rules: Mapping[str, Sequence[str]]


def pack_policy(policy: Policy) -> list[bytes]:
    """The frame that says what is in force, in parts."""
    rules = {name: [rule.id for rule in scene.rule_set.rules] for name, scene in policy.scenes.items()}
    return _frame((POLICY, (policy.with_lists({}).id, policy.label, rules)), [])


def pack_decisions(decided: Sequence[tuple[DecisionRequest, CustomerState, Decision]]) -> list[bytes]:
    """The frame of a piece of decisions, as they were made, in parts. ValueError for what cannot be packed."""
    logs: list[bytes] = []
    packed = [_packed(*one, logs) for one in decided]
    return _frame((DECISIONS, packed), logs)


def _frame(told: tuple[str, Any], logs: list[bytes]) -> list[bytes]:
    text = marshal.dumps(told, _FORMAT)
    return [LENGTHS.pack(len(text), sum(map(len, logs))), text, *logs]


def log_bytes(state: CustomerState) -> int:
    """How many bytes of logs a state holds."""
    links = state.links
    return len(state.log) + (0 if links is NO_LINKS else sum(len(log) for log in links if log is not None))


def _packed(
    request: DecisionRequest, state: CustomerState, decision: Decision, logs: list[bytes]
) -> tuple[Any, ...]:  # fmt: skip
    geo, sent = request.geo, request.facility
    trace = decision.trace
    assert trace is not None
    limit, price = decision.limit_change, decision.reprice
    logs.append(state.log)
    logs += [log for log in state.links if log is not None]
    return (
        decision.decision_id, decision.decided_at_ms,
        _REQUEST(request), None if geo is None else _GEO(geo), None if sent is None else _FACILITY(sent),
        dict(request.attributes),
        state.version, len(state.log), [_FACILITY(line) for line in state.facilities.values()],
        [(name, one.value, one.as_of_ms) for name, one in state.attributes.items()],
        [None if log is None else len(log) for log in state.links],
        (
            decision.decision, decision.approved_minor, decision.currency, decision.hold,
            None if limit is None else tuple(limit), None if price is None else tuple(price),
            [reason.code for reason in decision.reasons], trace.verdicts, trace.cells,
        ),
    )  # fmt: skip


def unpack(text: bytes, logs: bytes) -> Told | list[Sent]:
    """What a frame to the process says."""
    kind, what = marshal.loads(text)
    if kind == POLICY:
        return Told(*what)
    cut = _Cutting(logs)
    return [_sent(cut, *one) for one in what]


class _Cutting:
    """Takes one log after the other off the frame's."""

    def __init__(self, logs: bytes) -> None:
        self._logs = logs
        self._at = 0

    def next(self, length: int) -> bytes:
        start, self._at = self._at, self._at + length
        return self._logs[start : self._at]


def _sent(
    cut: _Cutting, decision_id: str, now_ms: int, asked: tuple[Any, ...], geo: tuple[int, int, int] | None,
    sent: tuple[Any, ...] | None, said: dict[str, float | str], version: int, log: int,
    facilities: list[tuple[Any, ...]], attributes: list[tuple[str, float | str, int]], links: list[int | None],
    active: tuple[Any, ...],
) -> Sent:  # fmt: skip
    request = DecisionRequest(
        **dict(zip(_REQUEST_FIELDS, asked, strict=True)), geo=None if geo is None else Geo(*geo),
        facility=None if sent is None else Facility(*sent), attributes=said, fingerprint=b"", body=b"",
    )  # fmt: skip
    lines = (Facility(*line) for line in facilities)
    state = CustomerState(
        version, cut.next(log), {line.facility_id: line for line in lines},
        {name: Attribute(value, as_of_ms) for name, value, as_of_ms in attributes}, None,
        Links(*(None if length is None else cut.next(length) for length in links)),
    )  # fmt: skip
    told = Active(*active)
    return Sent(decision_id, now_ms, request, state, told._replace(reasons=tuple(told.reasons)))
