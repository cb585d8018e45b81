"""An event: an immutable fact about a customer; and the packed log that holds all events of one customer.

The log is one byte string: a 64-byte header, then one 64-byte record an event in recorded order, little-endian.
`np.frombuffer(log, np.int64).reshape(-1, 8)` reads it without parsing: row 0 is the header, row i+1 event i.

    header  word 0   "DSLOG\\0\\0" and the format version (1) in the last byte
            word 1   base_seq: sequence number of the first record kept (retention trims, never renumbers)
            word 2   trimmed_through_ms: latest occurred_at among trimmed records, or TRIMMED_NOTHING
            word 3   0 on a customer's log; on an entity's log 1 + the index of its grain (`core.links`)
            word 4-7 zero

    record  word 0   i8  occurred_at_ms         ms UTC
            word 1   u8  key                    64-bit digest of the event id (see `event_key`, `drawdown_key`)
            word 2   i8  amount_minor           minor units; 0 where the event has none
            word 3   f8  value                  kind-specific number, NaN where absent; with FLAG_DECIDED the
                                                instant of our decision in ms UTC (a double holds it exactly)
            word 4   u1  kind | u1 status | u1 channel | u1 flags | u4 code
            word 5   i4  lat_e6 | i4 lon_e6     1e-6 degrees; only if FLAG_PLACE
            word 6   u4  facility | u4 device   32-bit digests, 0 where absent; on an entity's log
                     u8  customer               64-bit digest
            word 7   u8  counterparty           64-bit digest, 0 where absent; on a record with FLAG_SETTLES or
                                                FLAG_LOAN the key of the drawdown that it settles or concerns

    flags   bit 0 FLAG_PLACE · bit 1 FLAG_SETTLES (a drawdown event that settles an earlier drawdown) · bit 2
            FLAG_LOAN (a repayment, due ... of one loan) · bit 3 FLAG_DECIDED (a drawdown this service decided) ·
            bits 4-7 accuracy class of the place (0 = unknown)

`code` is the digest of the category (purpose of a drawdown, merchant category of a purchase, name of a label ...).
The amount of a drawdown this service approved is what it approved; of one it held, what was asked for.

Digests are BLAKE2b, keyed by what they digest, so that equal texts of two sorts never meet. Within one customer's log
(at most 4,096 records) a collision of two 64-bit keys has a probability below 1e-12.

Invariants: records are only ever appended (or trimmed from the front); kind, status and channel codes never change
their meaning; a key occurs once.
"""

from __future__ import annotations

import struct
from bisect import bisect_left
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from typing import Final

import numpy as np
import numpy.typing as npt

from decision_service.core.limits import RECORD_BYTES

FORMAT_VERSION: Final = 1
HEADER_MAGIC: Final = b"DSLOG\0\0" + bytes([FORMAT_VERSION])
TRIMMED_NOTHING: Final = -(2**62)

FLAG_PLACE: Final = 1
FLAG_SETTLES: Final = 2
FLAG_LOAN: Final = 4
FLAG_DECIDED: Final = 8

RECORD: Final = np.dtype(
    [
        ("occurred_at_ms", "<i8"), ("key", "<u8"), ("amount_minor", "<i8"), ("value", "<f8"),
        ("kind", "u1"), ("status", "u1"), ("channel", "u1"), ("flags", "u1"), ("code", "<u4"),
        ("lat_e6", "<i4"), ("lon_e6", "<i4"), ("facility", "<u4"), ("device", "<u4"), ("counterparty", "<u8"),
    ]
)  # fmt: skip
assert RECORD.itemsize == RECORD_BYTES

KINDS: Final[dict[str, int]] = {
    "drawdown": 1, "repayment": 2, "due": 3, "overdue": 4, "purchase": 5, "transfer_in": 6, "transfer_out": 7,
    "inquiry": 8, "contact_change": 9, "credential_change": 10, "login": 11, "income": 12, "collateral": 13,
    "limit_change": 14, "rate_change": 15, "label": 16, "touch": 17, "other": 18,
}  # fmt: skip
STATUSES: Final[dict[str, int]] = {"booked": 1, "approved": 2, "held": 3, "failed": 4, "cancelled": 5}
CHANNELS: Final[dict[str, int]] = {
    "app": 1, "web": 2, "h5": 3, "mini_program": 4, "pos": 5, "atm": 6, "branch": 7, "phone": 8, "api": 9, "other": 10,
}  # fmt: skip
DRAWDOWN: Final = KINDS["drawdown"]
REPAYMENT: Final = KINDS["repayment"]
LIMIT_CHANGE: Final = KINDS["limit_change"]
LABEL: Final = KINDS["label"]
BOOKED, APPROVED, HELD, FAILED, CANCELLED = (STATUSES[s] for s in STATUSES)
KIND_NAMES: Final = {code: name for name, code in KINDS.items()}
STATUS_NAMES: Final = {code: name for name, code in STATUSES.items()}
CHANNEL_NAMES: Final = {code: name for name, code in CHANNELS.items()}

# Upper bounds in metres of the accuracy classes 1..15; a fix is stored with the class that contains it, so the
# accuracy read back is never better than the one reported. Class 15 holds everything beyond 10 km.
ACCURACY_M: Final = (5, 10, 20, 30, 50, 75, 100, 150, 250, 500, 1_000, 2_500, 5_000, 10_000, 40_000)
GPS_GRADE_CLASS_MAX: Final = 7  # at most 100 m: good enough to call a journey impossible

_RECORD = struct.Struct("<qQqdBBBBIiiIIQ")
_HEADER = struct.Struct("<8sqqq32x")
assert _RECORD.size == _HEADER.size == RECORD_BYTES
_ROW: Final = np.dtype((np.int64, (RECORD_BYTES // 8,)))
_NAN: Final = float("nan")
_KEY_OFFSET: Final = 8  # of the key in its record

Words = npt.NDArray[np.int64]  # a log as (1 + n, 8) words, header first


@dataclass(frozen=True, slots=True)
class Geo:
    """A place in 1e-6 degrees with the accuracy class of its fix (0 = unknown)."""

    lat_e6: int
    lon_e6: int
    accuracy_class: int


@dataclass(frozen=True, slots=True)
class Event:
    """An event before it is packed. `key` is `event_key(event_id)`, or `drawdown_key` of our own drawdowns."""

    key: int
    kind: int
    status: int
    occurred_at_ms: int
    amount_minor: int = 0
    value: float = _NAN
    channel: int = 0
    facility: int = 0
    device: int = 0
    counterparty: int = 0
    code: int = 0
    geo: Geo | None = None
    settles: int = 0  # key of the drawdown that this event settles (or, of another kind, concerns); 0 for none
    decided_at_ms: int = 0  # of a drawdown this service decided; takes the place of `value`

    def pack(self) -> bytes:
        """The 64-byte record."""
        geo = self.geo
        reference = FLAG_SETTLES if self.kind == DRAWDOWN else FLAG_LOAN
        decided = self.decided_at_ms
        flags = (
            (reference if self.settles else 0)
            | (FLAG_DECIDED if decided else 0)
            | (0 if geo is None else FLAG_PLACE | geo.accuracy_class << 4)
        )
        return _RECORD.pack(
            self.occurred_at_ms, self.key, self.amount_minor, float(decided) if decided else self.value,
            self.kind, self.status, self.channel, flags, self.code,
            0 if geo is None else geo.lat_e6, 0 if geo is None else geo.lon_e6,
            self.facility, self.device, self.settles or self.counterparty,
        )  # fmt: skip


def unpack(record: bytes) -> Event:
    """The inverse of `Event.pack`."""
    (at, key, amount, value, kind, status, channel, flags, code, lat, lon, facility, device, party) = _RECORD.unpack(
        record
    )
    settles = bool(flags & (FLAG_SETTLES | FLAG_LOAN))
    decided = bool(flags & FLAG_DECIDED)
    return Event(
        key, kind, status, at, amount, _NAN if decided else value, channel, facility, device,
        0 if settles else party, code, Geo(lat, lon, flags >> 4) if flags & FLAG_PLACE else None,
        party if settles else 0, int(value) if decided else 0,
    )  # fmt: skip


def header(base_seq: int = 0, trimmed_through_ms: int = TRIMMED_NOTHING, grain: int = 0) -> bytes:
    """The 64 bytes in front of the first record; `grain` is word 3."""
    return _HEADER.pack(HEADER_MAGIC, base_seq, trimmed_through_ms, grain)


EMPTY_LOG: Final = header()


def read_header(log: bytes) -> tuple[int, int]:
    """`(base_seq, trimmed_through_ms)`. Raises ValueError for a log of another format or a torn one."""
    if len(log) % RECORD_BYTES or log[:8] != HEADER_MAGIC:
        raise ValueError(f"not an event log of format {FORMAT_VERSION}: {len(log)} bytes, magic {log[:8]!r}")
    _, base_seq, trimmed_through_ms, _ = _HEADER.unpack_from(log)
    return base_seq, trimmed_through_ms


def grain_of(log: bytes) -> int:
    """Word 3 of the header: 0 on a customer's log."""
    grain: int = _HEADER.unpack_from(log)[3]
    return grain


def words_of(log: bytes) -> Words:
    """The log as (1 + n, 8) int64 words, read-only, no copy."""
    return np.frombuffer(log, _ROW)


def accuracy_class(accuracy_m: float | None) -> int:
    """The class that contains an accuracy in metres; 0 if it is unknown."""
    if accuracy_m is None:
        return 0
    return min(bisect_left(ACCURACY_M, accuracy_m) + 1, len(ACCURACY_M))


def _digest(text: str, size: int, sort: bytes) -> int:
    number = int.from_bytes(blake2b(text.encode(), digest_size=size, person=sort).digest(), "little")
    return number or 1  # 0 means absent


def event_key(event_id: str) -> int:
    """64-bit key of an event id."""
    return _digest(event_id, 8, b"event")


@lru_cache(maxsize=4_096)
def counterparty_key(counterparty_id: str) -> int:
    """64-bit key of a counterparty (payee)."""
    return _digest(counterparty_id, 8, b"party")


@lru_cache(maxsize=4_096)
def device_key(device_id: str) -> int:
    """32-bit key of a device."""
    return _digest(device_id, 4, b"device")


@lru_cache(maxsize=65_536)
def facility_key(facility_id: str) -> int:
    """32-bit key of a facility."""
    return _digest(facility_id, 4, b"facility")


@lru_cache(maxsize=4_096)
def code_key(category: str) -> int:
    """32-bit key of a category, purpose or label name."""
    return _digest(category, 4, b"code")


def decision_digest(customer_id: str, request_id: str) -> bytes:
    """16 bytes that identify the decision on one request of one customer, the same in every worker and every retry.

    NUL cannot occur in an id, so the two cannot be shifted into each other.
    """
    return blake2b(f"{customer_id}\0{request_id}".encode(), digest_size=16, person=b"decision").digest()


def holds_key(log: bytes, key: int) -> bool:
    """Whether a record of the log has this key. A search of bytes, several times faster than comparing a column."""
    wanted = key.to_bytes(8, "little")
    at = log.find(wanted, RECORD_BYTES)
    while at >= 0 and at % RECORD_BYTES != _KEY_OFFSET:
        at = log.find(wanted, at + 1)
    return at >= 0


def drawdown_key(decision_id: str) -> int:
    """Key of the drawdown record of a decision: the last 16 hex digits of its id. Raises ValueError if malformed."""
    return int(decision_id[-16:], 16) or 1
