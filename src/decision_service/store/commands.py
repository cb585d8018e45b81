"""The two commands of a decision, read and commit, as the bytes that go to the server.

They are built here rather than packed argument by argument: all but the ids, lengths and payloads of a command
is the same for one customer, so it is put together once and kept (a decision uses it twice).

    *7 CRLF  $7 CRLF EVALSHA CRLF $40 CRLF <sha> CRLF  $1 CRLF 3 CRLF  <keys>  <arguments>
             └──────── Script.by_sha ────────────────┘
    each key and argument:  $<bytes> CRLF <payload> CRLF

A script the server forgot goes again with `by_source` in the place of `by_sha`; nothing else changes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from decision_service.core.event import EMPTY_LOG
from decision_service.core.facility import Attribute, Facility
from decision_service.store import Commit, keys, scripts
from decision_service.store.records import encode_attribute, encode_facility

_CUSTOMERS_KEPT_MAX: Final = 4_096  # customers whose beginnings of commands are kept, about 1 kB each
_COMMIT_WORDS: Final = 12  # EVALSHA, its digest, the number of keys, three keys and the six first arguments
_COMMIT_ARGUMENTS: Final = (
    b"$%d\r\n%b\r\n"  # expected version
    b"$%d\r\n%b\r\n"  # log that replaces the stored one
    b"$%d\r\n%b\r\n"  # records
    b"%b"  # header of an empty log
    b"$%d\r\n%b\r\n"  # frame
    b"$%d\r\n%b\r\n%b"  # how many arguments for the meta hash, and they
)


def _bulk(payload: bytes) -> bytes:
    return b"$%d\r\n%b\r\n" % (len(payload), payload)


def _bulks(payloads: Iterable[bytes]) -> bytes:
    return b"".join([b"$%d\r\n%b\r\n" % (len(payload), payload) for payload in payloads])


_EMPTY_LOG: Final = _bulk(EMPTY_LOG)


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
    both = _bulk(meta) + _bulk(keys.log_key(partition, customer_id))
    three = both + _bulk(keys.outbox_key(partition))
    stem = keys.decision_key(partition, "")
    frame = b"$%d\r\n%b" % (len(stem) + keys.DECISION_ID_CHARS, stem)
    read, commit = scripts.READ.by_sha, scripts.COMMIT.by_sha
    return Place(
        meta,
        b"d%03x" % partition,
        b"*5\r\n%b$1\r\n2\r\n%b" % (read, both),
        b"*6\r\n%b$1\r\n3\r\n%b%b" % (read, both, frame),
        b"%b$1\r\n3\r\n%b" % (commit, three),
        b"%b$1\r\n4\r\n%b%b" % (commit, three, frame),
    )


def read_command(place: Place, decision_id: str | None) -> bytes:
    """`scripts/read.lua` on a customer."""
    if decision_id is None:
        return place.read
    return b"%b%b\r\n" % (place.read_decision, place.decision(decision_id))


def commit_command(place: Place, commit: Commit) -> bytes:
    """`scripts/commit.lua` on a customer."""
    words, frame = _COMMIT_WORDS, b""
    start: tuple[bytes, ...] = (place.commit,)
    if commit.decision is not None:
        decision_id, frame = commit.decision
        start = (place.commit_decision, place.decision(decision_id), b"\r\n")
        words += 1
    changed: Sequence[bytes] = ()
    if commit.facilities or commit.attributes:
        changed = _meta(commit.facilities, commit.attributes)
    outbox: list[bytes] = []
    for entry in commit.outbox:
        outbox.append(b"%d" % (2 * len(entry)))
        for name_value in entry.items():
            outbox += name_value
    version, trimmed, records = b"%d" % commit.expected_version, commit.trimmed_log or b"", commit.records
    count = b"%d" % len(changed)
    arguments = _COMMIT_ARGUMENTS % (
        len(version), version, len(trimmed), trimmed, len(records), records, _EMPTY_LOG,
        len(frame), frame, len(count), count, _bulks(changed) if changed else b"",
    )  # fmt: skip
    return b"".join((b"*%d\r\n" % (words + len(changed) + len(outbox)), *start, arguments, _bulks(outbox)))


def _meta(facilities: Mapping[str, Facility], attributes: Mapping[str, Attribute]) -> list[bytes]:
    """Fields and values to put into the meta hash, in turn."""
    changed: list[bytes] = []
    for facility_id, facility in facilities.items():
        changed += (keys.FACILITY_FIELD + facility_id.encode(), encode_facility(facility))
    for name, attribute in attributes.items():
        changed += (keys.ATTRIBUTE_FIELD + name.encode(), encode_attribute(attribute))
    return changed
