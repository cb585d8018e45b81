"""The commands of a decision, as the bytes that go to the server: read (of the customer and of entity logs), commit,
and append to entity logs.

They are built here rather than packed argument by argument: all but the ids, lengths and payloads of a command
is the same for one customer, so it is put together once and kept (a decision uses it twice).

    *7 CRLF  $7 CRLF EVALSHA CRLF $40 CRLF <sha> CRLF  $1 CRLF 3 CRLF  <keys>  <arguments>
             └──────── Script.by_sha ────────────────┘
    each key and argument:  $<bytes> CRLF <payload> CRLF

A script the server forgot goes again with `by_source` in the place of `by_sha`; nothing else changes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from decision_service.core.facility import Attribute, Facility
from decision_service.core.limits import RECORD_BYTES
from decision_service.store import Commit, Origin, keys, scripts
from decision_service.store.changes import SERVICE, beside
from decision_service.store.records import encode_attribute, encode_facility

_CUSTOMERS_KEPT_MAX: Final = 4_096  # customers whose beginnings of commands are kept, about 2 kB each
_ENTITIES_KEPT_MAX: Final = 8_192  # entities whose reads are kept, about 300 bytes each
_COMMIT_WORDS: Final = 16  # EVALSHA, its digest, the number of keys, five keys and the eight first arguments
_COMMIT: Final = (
    b"*%d\r\n%b"  # number of words; the beginning, up to the keys
    b"$%d\r\n%b\r\n$%d\r\n%b\r\n"  # expected version, the version that this makes
    b"$%d\r\n%b\r\n"  # log that replaces the stored one
    b"$%d\r\n%b\r\n"  # records
    b"$%d\r\n%b\r\n"  # frame
    b"$%d\r\n%b\r\n$%d\r\n%b\r\n"  # id of the waiting links, and they
    b"%b%b%b"  # how many arguments only the outbox entry has, and they; those for the meta hash
)


def _bulk(payload: bytes) -> bytes:
    return b"$%d\r\n%b\r\n" % (len(payload), payload)


@lru_cache(maxsize=256)
def _count(number: int) -> bytes:
    return _bulk(b"%d" % number)


_GET: Final = _bulk(b"GET")
_GETRANGE: Final = _bulk(b"GETRANGE")
_ENTITY_READ: Final = b"*2\r\n" + _GET  # and the key behind it
_UNCHANGED: Final[list[bytes]] = []


@dataclass(frozen=True, slots=True)
class Place:
    """Where one customer lies, and how each command on that customer begins. `..._decision` stop right before
    the decision id."""

    key: bytes  # one of the keys, to find the slot by
    decision_start: bytes  # what the ids of this customer's decisions begin with
    read: bytes
    read_decision: bytes
    commit: bytes
    commit_decision: bytes
    whole: bytes  # the customer by plain commands: meta, log, version
    ends_start: bytes  # the same of a log that is held, up to the offset of the last record held
    ends_rest: bytes
    frame: bytes  # the read of a frame

    def decision(self, decision_id: str) -> bytes:
        """The id as bytes. ValueError if it names another partition, which is a mistake in the calling code and
        would make the keys of one script lie apart."""
        wire = decision_id.encode()
        if len(wire) != keys.DECISION_ID_CHARS or not wire.startswith(self.decision_start):
            raise ValueError(f"{decision_id!r} is not the id of a decision of the customer's partition")
        return wire


@lru_cache(maxsize=_CUSTOMERS_KEPT_MAX)
def place_of(customer_id: str, partitions: int) -> Place:
    """The place of a customer."""
    partition = keys.partition_of(customer_id, partitions)
    meta = keys.meta_key(partition, customer_id)
    log = _bulk(keys.log_key(partition, customer_id))
    everything = b"*2\r\n%b%b" % (_bulk(b"HGETALL"), _bulk(meta))
    version = b"*3\r\n%b%b%b" % (_bulk(b"HGET"), _bulk(meta), _bulk(keys.VERSION_FIELD))
    both = _bulk(meta) + log
    marker = _bulk(keys.marker_key(partition))
    three = both + marker
    five = both + _bulk(keys.outbox_key(partition)) + _bulk(keys.waiting_key(partition)) + marker
    stem = keys.decision_key(partition, "")
    frame = b"$%d\r\n%b" % (len(stem) + keys.DECISION_ID_CHARS, stem)
    read, commit = scripts.READ.by_sha, scripts.COMMIT.by_sha
    return Place(
        meta,
        b"d%03x" % partition,
        b"*6\r\n%b$1\r\n3\r\n%b" % (read, three),
        b"*7\r\n%b$1\r\n4\r\n%b%b" % (read, three, frame),
        b"%b$1\r\n5\r\n%b" % (commit, five),
        b"%b$1\r\n6\r\n%b%b" % (commit, five, frame),
        b"%b*2\r\n%b%b%b" % (everything, _GET, log, version),
        b"%b*4\r\n%b%b" % (everything, _GETRANGE, log),
        b"$2\r\n-1\r\n*4\r\n%b%b$1\r\n0\r\n$2\r\n63\r\n%b" % (_GETRANGE, log, version),
        b"*2\r\n%b%b" % (_GET, frame),
    )


def read_command(place: Place, decision_id: str | None) -> bytes:
    """`scripts/read.lua` on a customer."""
    if decision_id is None:
        return place.read
    return b"%b%b\r\n" % (place.read_decision, place.decision(decision_id))


def plain_read(place: Place, decision_id: str | None, held_bytes: int) -> tuple[bytes, int]:
    """The customer by plain commands, and how many they are; of a log that is held only the ends."""
    frame = b"" if decision_id is None else b"%b%b\r\n" % (place.frame, place.decision(decision_id))
    count = 3 if decision_id is None else 4
    if not held_bytes:
        return place.whole + frame, count
    offset = b"%d" % (held_bytes - RECORD_BYTES)
    return b"%b$%d\r\n%b\r\n%b%b" % (place.ends_start, len(offset), offset, place.ends_rest, frame), count + 1


def commit_command(place: Place, commit: Commit, epoch: bytes) -> bytes:
    """`scripts/commit.lua` on a customer. `epoch` is what must stand in the partition's marker if the customer is
    unknown."""
    _, version, records, trimmed, facilities, attributes, decision, events, (links_id, links), origin = commit
    words, start, frame = _COMMIT_WORDS, place.commit, b""
    if decision is not None:
        decision_id, frame = decision
        words, start = words + 1, b"%b%b\r\n" % (place.commit_decision, place.decision(decision_id))
    changed = _meta(facilities, attributes) if facilities or attributes else _UNCHANGED
    told = _told(trimmed, origin, events) if trimmed or events or origin != SERVICE else _UNCHANGED
    expected, made = b"%d" % version if version else b"0:" + epoch, b"%d" % (version + 1)
    trimmed = trimmed or b""
    return _COMMIT % (
        words + len(told) + len(changed), start, len(expected), expected, len(made), made, len(trimmed), trimmed,
        len(records), records, len(frame), frame, len(links_id), links_id, len(links), links,
        _count(len(told)), b"".join(told), b"".join(changed),
    )  # fmt: skip


@lru_cache(maxsize=_ENTITIES_KEPT_MAX)
def entity_read(name: bytes, partitions: int) -> tuple[bytes, bytes]:
    """Key of an entity's log, and the command that reads it."""
    key = keys.entity_key(name, partitions)
    return key, _ENTITY_READ + _bulk(key)


def append_command(
    names: Sequence[bytes], partitions: int, records_max: int, kept_ms: int, logs: Sequence[bytes]
) -> bytes:
    """`scripts/link.lua` on the logs of some entities; `logs` are the `log_arguments` of each."""
    begin = b"*%d\r\n%b" % (5 + 5 * len(names), scripts.LINK.by_sha)
    wires = [entity_read(name, partitions)[1][len(_ENTITY_READ) :] for name in names]
    return b"".join((begin, _count(len(names)), *wires, _count(records_max), _count(kept_ms), *logs))


def log_arguments(empty: bytes, records: bytes, held: bytes | None) -> bytes:
    """What is to be appended to one log: its header if it is empty, the records, and what is held of it."""
    if held is None:
        return b"$64\r\n%b\r\n$%d\r\n%b\r\n$0\r\n\r\n$0\r\n\r\n" % (empty, len(records), records)
    offset = b"%d" % (len(held) - RECORD_BYTES)
    return b"$64\r\n%b\r\n$%d\r\n%b\r\n$128\r\n%b%b\r\n$%d\r\n%b\r\n" % (
        empty, len(records), records, held[:RECORD_BYTES], held[-RECORD_BYTES:], len(offset), offset,
    )  # fmt: skip


@lru_cache(maxsize=_ENTITIES_KEPT_MAX)
def ends_read(name: bytes, partitions: int) -> tuple[bytes, bytes, bytes]:
    """Key of an entity's log; and what reads its end and then its header, as a beginning, up to the offset where the
    end begins, and the rest."""
    key = keys.entity_key(name, partitions)
    wire = _bulk(key)
    start = b"*4\r\n%b%b" % (_GETRANGE, wire)
    return key, start, b"$2\r\n-1\r\n%b$1\r\n0\r\n$2\r\n63\r\n" % start


def _told(trimmed: bytes | None, origin: Origin, events: Sequence[bytes]) -> list[bytes]:
    """Fields and values that only the outbox entry has, in turn, each as it is sent."""
    fields = beside((trimmed or b"")[:RECORD_BYTES], origin, events)
    return [_bulk(word) for field in fields.items() for word in field]


def _meta(facilities: Mapping[str, Facility], attributes: Mapping[str, Attribute]) -> list[bytes]:
    """Fields and values to put into the meta hash, in turn, each as it is sent."""
    changed: list[bytes] = []
    for facility_id, facility in facilities.items():
        changed += (_bulk(keys.FACILITY_FIELD + facility_id.encode()), _bulk(encode_facility(facility)))
    for name, attribute in attributes.items():
        changed += (_bulk(keys.ATTRIBUTE_FIELD + name.encode()), _bulk(encode_attribute(attribute)))
    return changed
