"""Entity logs: what all customers together did with one device, one payee or one network.

An entity log has the layout of a customer's event log (`core.event`): a 64-byte header, then 64-byte records in the
order in which they arrived. Two words differ. Header word 3 names the grain, so that the two sorts of log cannot be
taken for one another; word 6 of a record is the 64-bit key of the customer instead of facility and device.

    grain     one log a ...            identified by
    device    device                   the device id
    payee     counterparty             the counterparty id
    ip        network                  /24 of an IPv4 address, /48 of an IPv6 address

A log is found by its name: the grain and `entity_digest`. Records enter it after the customer's own commit, so it may
trail a little behind; within one entity the order is that of arrival. It is bounded like a customer's log and says in
its header what it has forgotten.

A *link* is a record on its way into an entity's log. The commit that adds a record to a customer's log keeps its links
beside it, and whoever appends them to the entity logs takes them away again (`linker.py`):

    link      byte 0       grain: index into LINK_GRAINS, or ABOUT
              byte 1-16    digest of the entity; with ABOUT that of a decision: the record concerns the drawdown of this
                           decision of the same partition and goes to every entity that its request named
              byte 17-80   the record

`Links` holds the logs that one decision reads. None is not an empty log: None was not read (late, unreachable, or the
request names no such entity), and every feature that needs it is null; an empty log belongs to an entity nobody has
been seen with, whose counts are true zeros.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache
from hashlib import blake2b
from ipaddress import IPv6Address, ip_address, ip_network
from typing import Final, NamedTuple, Protocol

from decision_service.core.event import HEADER_MAGIC, RECORD, TRIMMED_NOTHING, header
from decision_service.core.limits import RECORD_BYTES

LINK_GRAINS: Final = ("device", "payee", "ip")
LINKS_PER_ENTITY_MAX: Final = 1_024  # default of the setting: records an entity's log keeps
ABOUT: Final = 0xFF
NAME_BYTES: Final = 17
LINK_BYTES: Final = NAME_BYTES + RECORD_BYTES
IPV4_PREFIX: Final = 24
IPV6_PREFIX: Final = 48

_NAMED_BY: Final = dict(zip(LINK_GRAINS, ("device_id", "counterparty_id", "ip"), strict=True))
_ABOUT: Final = bytes([ABOUT])
_fields = RECORD.fields
assert _fields is not None
_WORD_6: Final = int(_fields["facility"][1])
_WORD_7: Final = int(_fields["counterparty"][1])


class Links(NamedTuple):
    """The entity logs beside a customer's state, in the order of LINK_GRAINS; None where none was read."""

    device: bytes | None
    payee: bytes | None
    ip: bytes | None


NO_LINKS: Final = Links(None, None, None)
assert Links._fields == LINK_GRAINS


@lru_cache(maxsize=4_096)
def address_of(ip: str) -> str:
    """An IPv4 or IPv6 address in its one usual form. Raises ValueError for what is none."""
    if "%" in ip:
        raise ValueError(f"{ip!r} is an address of one machine's own network")
    return str(ip_address(ip))


@lru_cache(maxsize=4_096)
def network_of(ip: str) -> str:
    """The network of an address, such as `203.0.113.0/24`. Raises ValueError for what is no address."""
    address = ip_address(ip)
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    prefix = IPV4_PREFIX if address.version == 4 else IPV6_PREFIX
    return str(ip_network((address.packed, prefix), strict=False))


@lru_cache(maxsize=4_096)
def entity_digest(grain: str, entity_id: str) -> bytes:
    """16 bytes that name an entity's log. Raises ValueError for a grain that is none, or an ip that is none."""
    if grain not in LINK_GRAINS:
        raise ValueError(f"{grain!r} is not one of {', '.join(LINK_GRAINS)}")
    text = network_of(entity_id) if grain == "ip" else entity_id
    return blake2b(text.encode(), digest_size=16, person=b"link:" + grain.encode()).digest()


@lru_cache(maxsize=4_096)
def ip_key(ip: str) -> int:
    """64-bit key of the network of an address; never 0. Raises ValueError for what is no address."""
    return int.from_bytes(entity_digest("ip", ip)[:8], "little") or 1


@lru_cache(maxsize=65_536)
def customer_key(customer_id: str) -> int:
    """64-bit key of a customer; never 0."""
    return int.from_bytes(blake2b(customer_id.encode(), digest_size=8, person=b"customer").digest(), "little") or 1


@lru_cache(maxsize=8_192)
def log_name(grain: str, entity_id: str) -> bytes:
    """What an entity's log is found by: the index of its grain and its digest. ValueError as `entity_digest`."""
    return bytes([LINK_GRAINS.index(grain)]) + entity_digest(grain, entity_id)


def log_names(device_id: str | None, counterparty_id: str | None, ip: str | None) -> tuple[bytes, ...]:
    """Names of the logs of all entities that a request or an event names. ValueError for an ip that is none."""
    names: tuple[bytes, ...] = () if device_id is None else (log_name("device", device_id),)
    if counterparty_id is not None:
        names += (log_name("payee", counterparty_id),)
    return names if ip is None else (*names, log_name("ip", ip))


class NamesEntities(Protocol):
    """A request, as far as it names entities."""

    @property
    def device_id(self) -> str | None: ...
    @property
    def counterparty_id(self) -> str | None: ...
    @property
    def ip(self) -> str | None: ...


def names_wanted(asked: NamesEntities, grains: Iterable[str]) -> list[bytes]:
    """Names of the logs of these grains that a request can tell."""
    names = []
    for grain in grains:
        entity_id = getattr(asked, _NAMED_BY[grain])
        if entity_id is not None:
            names.append(log_name(grain, entity_id))
    return names


def about_name(decision_digest: bytes) -> bytes:
    """Stands in a link for the entities of a decision's request."""
    return _ABOUT + decision_digest


def pack_links(names: Iterable[bytes], record: bytes, customer: int) -> bytes:
    """The links of one record of a customer's log to each of `names`."""
    entering = link_record(record, customer)
    return b"".join([name + entering for name in names])


def unpack_links(links: bytes) -> Iterator[tuple[bytes, bytes]]:
    """`(name, record)` of each link. ValueError for bytes that are no links."""
    if len(links) % LINK_BYTES:
        raise ValueError(f"links have {LINK_BYTES} bytes each, not {len(links)} together")
    for at in range(0, len(links), LINK_BYTES):
        yield links[at : at + NAME_BYTES], links[at + NAME_BYTES : at + LINK_BYTES]


def link_record(record: bytes, customer: int) -> bytes:
    """A customer's record as it enters an entity log; `customer` is their `customer_key`."""
    if len(record) != RECORD_BYTES:
        raise ValueError(f"a record has {RECORD_BYTES} bytes, not {len(record)}")
    return record[:_WORD_6] + customer.to_bytes(8, "little") + record[_WORD_7:]


def entity_header(grain: str, base_seq: int = 0, trimmed_through_ms: int = TRIMMED_NOTHING) -> bytes:
    """The 64 bytes in front of the first record of an entity's log."""
    return header(base_seq, trimmed_through_ms, 1 + LINK_GRAINS.index(grain))


EMPTY_ENTITY_LOGS: Final = tuple(entity_header(grain) for grain in LINK_GRAINS)


def is_entity_log(log: bytes, grain_index: int) -> bool:
    """Whether these bytes are a log of this grain."""
    return len(log) % RECORD_BYTES == 0 and log[:8] == HEADER_MAGIC and log[24] == grain_index + 1
