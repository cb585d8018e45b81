"""Keys: where everything lies in Redis, and how a decision got its id.

`{p0042}` is the partition tag. A customer belongs to one partition for ever (CRC-32 of the id modulo the
number of partitions, which a store keeps from its first start). Redis Cluster hashes only what stands between
the first braces, so every key of a partition shares one slot and one script may touch several of them. The
tag comes before anything a caller wrote: ids are arbitrary UTF-8 without NUL (braces, newlines, a leading
brace) and cannot move a key.

    per customer                              type    holds
    ds:{p0042}:m:<customer_id>                hash    "v" version · "f:<facility_id>" · "a:<attribute name>"
    ds:{p0042}:l:<customer_id>                string  the packed event log (`core/event.py`), header first
    ds:{p0042}:d:<decision_id>                string  the decision frame; no expiry before the archive has it
    ds:{p0042}:s:<decision_id>                string  what shadows scored (`scorecards/shadows.py`); expires alike
    ds:{p0042}:sp:<decision_id>               string  what the shadow policy said (`shadow_policy/record.py`); alike

    per partition
    ds:{p0042}:out                            stream  outbox: what commits did (`changes.py`), shadows, erasures; never
                                                      capped, trimmed only by the archive (`outbox.py`)
    ds:{p0042}:head                           hash    how far the outbox is archived: "fence" · "position" · "hash" ·
                                                      "last" (id of the last entry) · "path"
    ds:{p0042}:lease                          string  "<fence> <owner>": who archives it; lapses
    ds:{p0042}:n                              string  marker: the store's epoch (`epoch.py`); who is unknown where it
                                                      stands is new
    ds:{p0042}:f                              string  fence, always empty: written to see that writes go through
    ds:{p0042}:w                              hash    links that wait to be appended to entity logs, by id; each
                                                      goes once it is appended, so it is all but empty
    ds:{p0042}:e:<d|p|i>:<32 hex digits>      string  log of a device, payee or network (`core/links.py`); partition
                                                      of the *entity*; forgotten when nothing is added for long
    ds:{p0042}:o:<facility_id>                string  owner of a facility; partition of the *facility* id

    per store
    ds:{meta}                                 hash    "partitions", fixed at the first start · "epoch" · "beat" ·
                                                      "marked" · "after:<epoch>" (`epoch.py`)
    ds:{lists}:version · ds:{lists}:entries   string  counter · hash, field "<list name> NUL <value>"
    ds:{lists}:out                            stream  outbox of the lists: what was put on and taken off
    ds:{reload}                               string  counter of requested reloads
    ds:{reload}:published                     string  number of the newest published policy
    ds:{reload}:heads · ds:{reload}:bundles   hash    by number, what is told of a published policy · its files
    ds:{reload}:serial                        string  highest serial of a published policy; never falls
    ds:{reload}:shadow                        string  number of what is published to be in shadow; absent if nothing is
    ds:{reload}:shadow:head · :bundle         string  its head and its files · :last, the highest number there was
    ds:{reload}:out                           stream  outbox of the policies: what was published
    ds:{access}:out                           stream  outbox of the accesses: who read personal data; each of these
                                                      three has its own `:head` and `:lease`
    ds:{policies}:<policy_id>                 string  description of a policy, or the id it shares but for lists
    ds:{policies}:source:<name>               hash    a part of a policy, in pieces (`pieces.py`), until it is archived
    ds:{policies}:refused:<digest>            string  which worker's guard refused this content, and why
    ds:{imports}:<import_id>                  hash    by slice of an imported file, what became of its rows
    ds:{watch}:t:<series>:<day>               hash    counts of a series of decisions on a day (`watch/tally.py`);
                                                      forgotten when it is older than they are kept
    ds:{watch}:days                           zset    "<series> NUL <day>" by day (since 1970-01-01)
    ds:{watch}:last                           hash    by `<scorecard>/<version>`, what `models watch` last found of it
    ds:{workers}:status · ds:{workers}:seen   hash    by worker id · sorted set, ids by seen_at_ms

A decision id is `d`, three hex digits of the partition, 32 hex digits of `decision_digest(customer_id,
request_id)`. It follows from the request alone, so one key answers both "the decision with this id" and "the
decision on this request", and a retry after a lost answer asks for the very key that the lost commit would
have written.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final
from zlib import crc32

from redis.crc import key_slot

from decision_service.core.event import decision_digest
from decision_service.core.limits import PARTITIONS_MAX
from decision_service.core.links import LINK_GRAINS

VERSION_FIELD: Final = b"v"
FACILITY_FIELD: Final = b"f:"
ATTRIBUTE_FIELD: Final = b"a:"

META: Final = b"ds:{meta}"
LISTS_VERSION: Final = b"ds:{lists}:version"
LISTS_ENTRIES: Final = b"ds:{lists}:entries"
RELOAD: Final = b"ds:{reload}"
PUBLISHED: Final = b"ds:{reload}:published"
PUBLISHED_HEADS: Final = b"ds:{reload}:heads"
PUBLISHED_BUNDLES: Final = b"ds:{reload}:bundles"
PUBLISHED_SERIAL: Final = b"ds:{reload}:serial"
SHADOW: Final = b"ds:{reload}:shadow"
SHADOW_HEAD: Final = b"ds:{reload}:shadow:head"
SHADOW_BUNDLE: Final = b"ds:{reload}:shadow:bundle"
SHADOW_LAST: Final = b"ds:{reload}:shadow:last"
WATCH_DAYS: Final = b"ds:{watch}:days"
WATCH_LAST: Final = b"ds:{watch}:last"
WORKERS_STATUS: Final = b"ds:{workers}:status"
WORKERS_SEEN: Final = b"ds:{workers}:seen"

POLICY: Final = -1  # places of outboxes that are of no partition
LISTS: Final = -2
ACCESS: Final = -3
_PLACES: Final = {POLICY: b"ds:{reload}:", LISTS: b"ds:{lists}:", ACCESS: b"ds:{access}:"}

DECISION_ID_CHARS: Final = 36
_INITIALS: Final = tuple(grain[0].encode() for grain in LINK_GRAINS)
_DECISION_ID: Final = re.compile(r"d([0-9a-f]{3})[0-9a-f]{32}", re.ASCII)
assert len(set(_INITIALS)) == len(LINK_GRAINS)
assert PARTITIONS_MAX <= 16**3, "a partition must fit the three hex digits of a decision id"


def partition_of(text: str, partitions: int) -> int:
    """The partition an id belongs to, 0 to `partitions` - 1."""
    return crc32(text.encode()) % partitions


def decision_id_of(customer_id: str, request_id: str, partitions: int) -> str:
    """The id of the decision on one request of one customer: the same in every worker and on every retry."""
    return f"d{partition_of(customer_id, partitions):03x}{decision_digest(customer_id, request_id).hex()}"


def decision_id_in(partition: int, digest: bytes) -> str:
    """The id of the decision with this digest on a customer of a partition."""
    return f"d{partition:03x}{digest.hex()}"


def partition_of_decision(decision_id: str) -> int | None:
    """The partition a decision id names, or None if it is no decision id."""
    found = _DECISION_ID.fullmatch(decision_id)
    return int(found[1], 16) if found else None


def partition_of_kept(decision_id: str) -> int:
    """The partition a decision id names. ValueError if it is no decision id."""
    partition = partition_of_decision(decision_id)
    if partition is None:
        raise ValueError(f"{decision_id!r} is not the id of a decision")
    return partition


def digest_in_decision_id(decision_id: str) -> bytes | None:
    """The 16 bytes of a decision id that tell it from others of its partition, or None if it is no decision id."""
    return bytes.fromhex(decision_id[-32:]) if _DECISION_ID.fullmatch(decision_id) else None


@lru_cache(maxsize=PARTITIONS_MAX)
def partition_prefix(partition: int) -> bytes:
    """What every key of a partition begins with."""
    return b"ds:{p%04d}:" % partition


def meta_key(partition: int, customer_id: str) -> bytes:
    """Hash of a customer's version, facilities and attributes."""
    return partition_prefix(partition) + b"m:" + customer_id.encode()


def log_key(partition: int, customer_id: str) -> bytes:
    """The customer's packed event log."""
    return partition_prefix(partition) + b"l:" + customer_id.encode()


def decision_key(partition: int, decision_id: str) -> bytes:
    """The frame of a decision."""
    return partition_prefix(partition) + b"d:" + decision_id.encode()


def customer_decision_key(partition: int, decision_id: str) -> bytes:
    """The frame of a decision on a customer of `partition`. ValueError if the id names another partition, which
    is a mistake in the calling code and would make the keys of one script lie apart."""
    if len(decision_id) != DECISION_ID_CHARS or not decision_id.startswith(_decision_start(partition)):
        raise ValueError(f"{decision_id!r} is not the id of a decision of partition {partition}")
    return partition_prefix(partition) + b"d:" + decision_id.encode()


def shadow_key(partition: int, decision_id: str) -> bytes:
    """What shadow scorecards said of a decision."""
    return partition_prefix(partition) + b"s:" + decision_id.encode()


def shadow_policy_key(partition: int, decision_id: str) -> bytes:
    """What the shadow policy said of a decision."""
    return partition_prefix(partition) + b"sp:" + decision_id.encode()


def of_decision(partition: int, decision_id: str) -> tuple[bytes, bytes, bytes]:
    """All that is kept under the id of a decision on a customer of `partition`: frame, and what was said in shadow.
    ValueError as `customer_decision_key`."""
    return (
        customer_decision_key(partition, decision_id),
        shadow_key(partition, decision_id),
        shadow_policy_key(partition, decision_id),
    )


@lru_cache(maxsize=PARTITIONS_MAX)
def _decision_start(partition: int) -> str:
    return f"d{partition:03x}"


def place_prefix(place: int) -> bytes:
    """What the outbox of a place, its head and its lease begin with: a partition's, or one of the others'."""
    return partition_prefix(place) if place >= 0 else _PLACES[place]


def outbox_key(place: int) -> bytes:
    """The outbox stream of a place."""
    return place_prefix(place) + b"out"


def head_key(place: int) -> bytes:
    """How far the outbox of a place is archived."""
    return place_prefix(place) + b"head"


def lease_key(place: int) -> bytes:
    """Who archives the outbox of a place."""
    return place_prefix(place) + b"lease"


def waiting_key(partition: int) -> bytes:
    """The links of a partition's customers that wait to be appended to entity logs."""
    return partition_prefix(partition) + b"w"


def marker_key(partition: int) -> bytes:
    """What tells that the partition lost nothing: the store's epoch."""
    return partition_prefix(partition) + b"n"


def fence_key(key: bytes) -> bytes:
    """The fence of the partition, or of whatever tag, that a key of ours has."""
    return key[: key.index(b"}") + 1] + b":f"


def partition_of_entity(name: bytes, partitions: int) -> int:
    """The partition an entity's log belongs to, by its `core.links.log_name`."""
    return crc32(name) % partitions


def entity_key(name: bytes, partitions: int) -> bytes:
    """The log of an entity, by its `core.links.log_name`."""
    prefix = partition_prefix(partition_of_entity(name, partitions))
    return b"%be:%b:%b" % (prefix, _INITIALS[name[0]], name[1:].hex().encode())


def owner_key(facility_id: str, partitions: int) -> bytes:
    """Who owns a facility; in the partition of the facility id, for the customer is what it tells."""
    return partition_prefix(partition_of(facility_id, partitions)) + b"o:" + facility_id.encode()


def policy_key(policy_id: str) -> bytes:
    """The description of a policy."""
    return b"ds:{policies}:" + policy_id.encode()


def source_key(name: str) -> bytes:
    """A part of a policy."""
    return b"ds:{policies}:source:" + name.encode()


def import_key(import_id: str) -> bytes:
    """What is done of an imported file."""
    return b"ds:{imports}:" + import_id.encode()


def tally_key(series: str, day: int) -> bytes:
    """The counts of a series on a day."""
    return b"ds:{watch}:t:%b:%d" % (series.encode(), day)


def slot_of(key: bytes) -> int:
    """The cluster slot of one of our keys."""
    return _slot_of_tag(key[: key.index(b"}") + 1])


@lru_cache(maxsize=2 * PARTITIONS_MAX)
def _slot_of_tag(tag: bytes) -> int:
    return int(key_slot(tag))
