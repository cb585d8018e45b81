"""Changes: what a commit did to its customer, as the one entry that it leaves in the outbox of its partition.

    commit ──commit.lua──▶ entry ──unpack──▶ Change ──apply(state before)──▶ state after

Whoever has every entry of a customer from the first can rebuild each state that the customer ever was in, to the byte:
every commit leaves one entry, the commit with nothing in it too, and nothing else changes a customer.

    field       holds                                                                          when
    kind        "decision", or "change" of a commit without one                                always
    id          the decision's id                                                              of a decision
    customer    the customer's id                                                              always
    version     the version that the commit made, decimal                                      always
    records     the packed events that were appended (`core/event.py`), 64 bytes each          always, perhaps empty
    header      header of the log that was trimmed first, 64 bytes                             if it was trimmed
    origin      who committed, of ORIGINS                                                      if not the service
    events      bodies of the posted events, canonical JSON, a line each                       of posted events
    f:<id>      a facility as it is stored (`records.py`)                                      of a new snapshot
    a:<name>    an attribute as it is stored                                                   of a new value

A log is only ever trimmed from the front, so the header says all: as many records are gone as `base_seq` moved up.
The order is that of the table, the same in every entry of a sort: a stream stores the names of fields that are those of
the entry before only once.

Entries of versions of this service from before there was `version` say less. Of a decision there is its id and nothing
of the change (`unpack` gives version 0, which no commit makes, and no customer); of events, snapshots and imports what
was sent and not what was committed, so they are OldEntry.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Final, NamedTuple, get_args

from decision_service.core.event import HEADER_MAGIC, read_header
from decision_service.core.facility import Attribute, Facility
from decision_service.core.limits import RECORD_BYTES
from decision_service.core.state import CustomerState
from decision_service.store import Commit, Origin, keys
from decision_service.store.records import decode_attribute, decode_facility, encode_attribute, encode_facility

ORIGINS: Final[tuple[Origin, ...]] = get_args(Origin)
SERVICE: Final[Origin] = "service"

KIND: Final = b"kind"
ID: Final = b"id"
CUSTOMER: Final = b"customer"
VERSION: Final = b"version"
RECORDS: Final = b"records"
HEADER: Final = b"header"
ORIGIN: Final = b"origin"
EVENTS: Final = b"events"

DECISION: Final = b"decision"
CHANGE: Final = b"change"
OLD_KINDS: Final = (b"event", b"facility", b"imported")
_NAMES: Final = frozenset({KIND, ID, CUSTOMER, VERSION, RECORDS, HEADER, ORIGIN, EVENTS})


class OldEntry(ValueError):
    """An entry of an older version of this service, which does not tell what was committed."""


class Change(NamedTuple):
    """What one commit did. `version` is the one it made, 0 where an old entry does not tell; `records` are the packed
    events it appended, after the log was trimmed to `header` if there is one."""

    customer_id: str
    version: int
    records: bytes = b""
    header: bytes = b""
    facilities: Mapping[str, Facility] = MappingProxyType({})
    attributes: Mapping[str, Attribute] = MappingProxyType({})
    decision_id: str = ""
    events: Sequence[bytes] = ()
    origin: Origin = SERVICE


def change_of(commit: Commit) -> Change:
    """What a commit does if it is accepted."""
    return Change(
        commit.customer_id, commit.expected_version + 1, commit.records, (commit.trimmed_log or b"")[:RECORD_BYTES],
        commit.facilities, commit.attributes, "" if commit.decision is None else commit.decision[0],
        tuple(commit.events), commit.origin,
    )  # fmt: skip


def pack(change: Change) -> dict[bytes, bytes]:
    """The fields of the entry. ValueError for what no entry can hold."""
    fields = {KIND: DECISION, ID: change.decision_id.encode()} if change.decision_id else {KIND: CHANGE}
    fields |= {CUSTOMER: change.customer_id.encode(), VERSION: b"%d" % change.version, RECORDS: change.records}
    fields |= beside(change.header, change.origin, change.events)
    for facility_id, facility in change.facilities.items():
        fields[keys.FACILITY_FIELD + facility_id.encode()] = encode_facility(facility)
    for name, attribute in change.attributes.items():
        fields[keys.ATTRIBUTE_FIELD + name.encode()] = encode_attribute(attribute)
    return fields


def beside(header: bytes, origin: Origin, events: Iterable[bytes]) -> dict[bytes, bytes]:
    """Those fields that most entries lack. ValueError for an event's body that is no line."""
    fields = {}
    if header:
        fields[HEADER] = header
    if origin != SERVICE:
        fields[ORIGIN] = origin.encode()
    if events:
        bodies = tuple(events)
        if any(not body or b"\n" in body for body in bodies):
            raise ValueError("events: the body of an event is one line of canonical JSON")
        fields[EVENTS] = b"\n".join(bodies)
    return fields


def unpack(fields: Mapping[bytes, bytes]) -> Change:
    """The change that an entry tells of; of an old decision's only its id, under version 0. OldEntry, ValueError naming
    the field."""
    kind = fields.get(KIND, b"")
    if kind in OLD_KINDS:
        raise OldEntry(f"kind: {kind.decode()} is of an older version, which does not tell what was committed")
    if kind not in (DECISION, CHANGE):
        raise ValueError("kind: this entry is no change of a customer")
    decision_id = _decision_id(fields, kind)
    if kind == DECISION and not fields.keys() & {VERSION, CUSTOMER}:
        return Change("", 0, decision_id=decision_id)
    customer_id = _text(fields.get(CUSTOMER, b""), "customer")
    version = fields.get(VERSION, b"")
    if not version.isdigit() or version[:1] == b"0":
        raise ValueError("version: not the number of a version")
    if RECORDS not in fields or len(fields[RECORDS]) % RECORD_BYTES:
        raise ValueError("records: not whole records of 64 bytes")
    facilities, attributes = _snapshots(fields)
    return Change(
        customer_id, int(version), fields[RECORDS], _header(fields), facilities, attributes, decision_id,
        _events(fields), _origin(fields),
    )  # fmt: skip


def _decision_id(fields: Mapping[bytes, bytes], kind: bytes) -> str:
    if kind == CHANGE:
        if ID in fields:
            raise ValueError("id: a change without a decision has none")
        return ""
    decision_id = _text(fields.get(ID, b""), "id")
    if keys.partition_of_decision(decision_id) is None:
        raise ValueError("id: not the id of a decision")
    return decision_id


def _text(value: bytes, field: str) -> str:
    try:
        text = value.decode()
    except ValueError:
        raise ValueError(f"{field}: not UTF-8") from None
    if not text:
        raise ValueError(f"{field}: missing")
    return text


def _header(fields: Mapping[bytes, bytes]) -> bytes:
    header = fields.get(HEADER, b"")
    if header and (len(header) != RECORD_BYTES or header[: len(HEADER_MAGIC)] != HEADER_MAGIC):
        raise ValueError("header: not the header of an event log")
    return header


def _events(fields: Mapping[bytes, bytes]) -> tuple[bytes, ...]:
    bodies = tuple(fields[EVENTS].split(b"\n")) if EVENTS in fields else ()
    if b"" in bodies:
        raise ValueError("events: a line is empty")
    return bodies


def _origin(fields: Mapping[bytes, bytes]) -> Origin:
    origin = fields.get(ORIGIN, SERVICE.encode()).decode(errors="replace")
    if origin not in ORIGINS:
        raise ValueError(f"origin: expected one of {', '.join(ORIGINS)}")
    return origin


def _snapshots(fields: Mapping[bytes, bytes]) -> tuple[dict[str, Facility], dict[str, Attribute]]:
    facilities: dict[str, Facility] = {}
    attributes: dict[str, Attribute] = {}
    for field, value in fields.items():
        if field in _NAMES:
            continue
        sort, name = field[:2], field[2:]
        try:
            if sort == keys.FACILITY_FIELD:
                facilities[name.decode()] = decode_facility(value)
            elif sort == keys.ATTRIBUTE_FIELD:
                attributes[name.decode()] = decode_attribute(value)
            else:
                raise ValueError("no such field")
        except (ValueError, TypeError):
            sorts = {keys.FACILITY_FIELD: "f:, a facility,", keys.ATTRIBUTE_FIELD: "a:, an attribute,"}
            raise ValueError(f"{sorts.get(sort, 'a field of another version')} cannot be read") from None
    return facilities, attributes


def apply(state: CustomerState, change: Change) -> CustomerState:
    """The state after a change of this one. ValueError if it is not the next change of this state."""
    if change.version != state.version + 1:
        raise ValueError(f"version: the state has {state.version}, and the change made {change.version}")
    log = state.log if not change.header else _trimmed(state.log, change.header)
    return CustomerState(
        change.version, log + change.records,
        {**state.facilities, **change.facilities}, {**state.attributes, **change.attributes},
    )  # fmt: skip


def _trimmed(log: bytes, header: bytes) -> bytes:
    before_seq, _ = read_header(log)
    base_seq, _ = read_header(header)
    gone = base_seq - before_seq
    if not 0 <= gone < len(log) // RECORD_BYTES:
        raise ValueError(f"header: it begins at {base_seq}, and the log has {before_seq} and what follows")
    return header + log[(gone + 1) * RECORD_BYTES :]
