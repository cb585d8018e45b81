"""Held customers: states as this worker last read them, so that of a customer only what changed is read and decoded.

A read asks for the meta hash, the end of the log from the last record held on, its header, and the version once more,
in this order on one connection, without a script (which copies and hashes every byte of a log three times):

    meta  ·  GETRANGE <last record held> to the end  ·  GETRANGE <header>  ·  version  ·  frame

Every change of a customer moves the version, and no version comes twice, so if it is the same at the beginning and the
end, all between is one state; and the log is the one held and what stands behind it, by the same two looks as an
entity's (`held_logs.py`). A frame that is read last is never missed: one that is not there yet belongs to a commit that
moves the version read. Whatever else is found (the customer is unknown, changes meanwhile, an error) is read by
`scripts/read.lua`, whole and at once.

Where the meta hash is the one held but for the version, so are facilities and attributes. Everything is let go as
entity logs are.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from decision_service.core.errors import StoreDamaged
from decision_service.core.event import EMPTY_LOG, HEADER_MAGIC
from decision_service.core.facility import Attribute, Facility
from decision_service.core.limits import RECORD_BYTES
from decision_service.core.state import CustomerState
from decision_service.store import keys
from decision_service.store.held_logs import continued
from decision_service.store.records import decode_attribute, decode_facility
from decision_service.store.replies import ErrorReply

HELD_BYTES_MAX: Final = 32 * 1_048_576
STATE_BYTES: Final = 2_048  # beside its log, roughly

_FACILITY_START: Final = len(keys.FACILITY_FIELD)
_ATTRIBUTE_START: Final = len(keys.ATTRIBUTE_FIELD)
_FACILITY_BYTE: Final = keys.FACILITY_FIELD[0]
_ATTRIBUTE_BYTE: Final = keys.ATTRIBUTE_FIELD[0]


class Held(NamedTuple):
    """A customer as read: the meta hash as it was told, and what it says."""

    meta: list[bytes]
    log: bytes
    version: int
    facilities: Mapping[str, Facility]
    attributes: Mapping[str, Attribute]

    def state(self, decision: bytes | None) -> CustomerState:
        """The state, beside a decision."""
        return CustomerState(self.version, self.log, self.facilities, self.attributes, decision)

    def moved(self, meta: list[bytes], log: bytes) -> Held:
        """The customer under another version, which is all that is new in the meta hash: its first value."""
        return Held(meta, log, int(meta[1]), self.facilities, self.attributes)


class HeldCustomers:
    """The customers by id, least lately read first. `generation` moves with everything that is let go."""

    def __init__(self, bytes_max: int = HELD_BYTES_MAX) -> None:
        self.generation = 0
        self._bytes_max = bytes_max
        self._held: dict[str, Held] = {}
        self._bytes = 0

    def get(self, customer_id: str) -> Held | None:
        """The customer as last read."""
        return self._held.get(customer_id)

    def keep(self, customer_id: str, read: Held, generation: int) -> None:
        """Hold what was just read, having been asked for in a generation."""
        before = self._held.pop(customer_id, None)
        if before is not None:
            self._bytes -= len(before.log) + STATE_BYTES
        if generation != self.generation:
            return
        self._held[customer_id] = read
        self._bytes += len(read.log) + STATE_BYTES
        while self._bytes > self._bytes_max:
            oldest = next(iter(self._held))
            self._bytes -= len(self._held.pop(oldest).log) + STATE_BYTES

    def forget_all(self) -> None:
        """Let go of everything: the store may be of another history than what is held."""
        self.generation += 1
        self._held.clear()
        self._bytes = 0


def read_anew(before: Held | None, replies: list[Any]) -> Held | None:
    """The customer by the replies to what is asked for, `before` being what was held; None if they are not of one
    state, or of none. StoreDamaged for what is not as this service writes it."""
    meta, log = replies[0], replies[1]
    if type(meta) is not list or not meta:
        return None
    if before is not None:
        log = continued(before.log, log, replies[2])
        if log is None or replies[3] != _version_in(meta):
            return None
        if meta == before.meta:
            return before if log is before.log else None
        if meta[2:] == before.meta[2:] and meta[0] == before.meta[0] == keys.VERSION_FIELD and meta[1].isdigit():
            return before.moved(meta, log)
    elif type(log) is ErrorReply or replies[2] != _version_in(meta):
        return None
    return decoded(meta, log)


def _version_in(meta: list[bytes]) -> bytes | None:
    if meta[0] == keys.VERSION_FIELD:
        return meta[1]
    names = meta[::2]
    return meta[2 * names.index(keys.VERSION_FIELD) + 1] if keys.VERSION_FIELD in names else None


def decoded(meta: list[bytes], log: bytes | None) -> Held:
    """A customer from the meta hash and the log. StoreDamaged."""
    version = 0
    facilities: dict[str, Facility] = {}
    attributes: dict[str, Attribute] = {}
    pairs = iter(meta)
    try:
        for name, value in zip(pairs, pairs, strict=True):
            sort = name[0]
            if sort == _FACILITY_BYTE:
                facilities[name[_FACILITY_START:].decode()] = decode_facility(value)
            elif sort == _ATTRIBUTE_BYTE:
                attributes[name[_ATTRIBUTE_START:].decode()] = decode_attribute(value)
            elif name == keys.VERSION_FIELD:
                version = int(value)
    except (ValueError, TypeError):
        raise StoreDamaged("a facility or an attribute of this customer cannot be read") from None
    if log is None:
        return Held(meta, EMPTY_LOG, version, facilities, attributes)
    if len(log) % RECORD_BYTES or log[:8] != HEADER_MAGIC:
        raise StoreDamaged("the event log of this customer is torn or none of ours")
    return Held(meta, log, version, facilities, attributes)
