"""What a decision hands to the feature kernel besides the log: one int64 row about the request and its facility.

Index constants (`T_MS`, `AMOUNT` ...) name the columns. Absent ids are 0; absent instants are ABSENT. Money in minor
units, instants in ms UTC; 64-bit keys keep their bits (read them as uint64). The row is the same online and offline,
which is how training rows come out of the code that serves.
"""

from __future__ import annotations

from struct import Struct
from typing import Final

import numpy as np
import numpy.typing as npt

from decision_service.core.event import CHANNELS, code_key, counterparty_key, device_key, facility_key
from decision_service.core.facility import Facility, Position
from decision_service.core.links import customer_key, ip_key
from decision_service.core.money import SCALES
from decision_service.core.request import DecisionRequest

ABSENT: Final = -(2**62)

(
    T_MS,  # the decision instant
    AMOUNT,  # requested amount x
    SCALE,  # minor units in one major unit
    FACILITY,  # 32-bit key
    DEVICE,  # 32-bit key
    COUNTERPARTY,  # 64-bit key
    CODE,  # 32-bit key of the purpose
    CHANNEL,  # channel code
    HAS_PLACE,  # 1 if LAT_E6, LON_E6 hold
    LAT_E6,
    LON_E6,
    ACCURACY_CLASS,
    GRANTED_MS,
    LIMIT,
    OUTSTANDING,  # U, derived
    RESERVED,  # Res, derived
    AVAILABLE,  # AV, derived
    NEXT_DUE_MS,
    UTC_OFFSET_MS,  # of the business time zone at T_MS
    CUSTOMER,  # 64-bit key
    LOAN,  # 64-bit key of the drawdown of the loan that the question is about
    IP,  # 64-bit key of the network of the request's address
) = range(22)
REQUEST_WORDS: Final = 24

_FILLED: Final = Struct(f"{IP + 1}q")

RequestWords = npt.NDArray[np.int64]


def _signed(key: int) -> int:
    return key - (1 << 64) if key >= 1 << 63 else key


def fill_request_words(
    row: RequestWords,
    request: DecisionRequest,
    facility: Facility,
    position: Position,
    t_ms: int,
    utc_offset_ms: int,
) -> None:
    """Write the row for one request in place; `row` is int64[REQUEST_WORDS], contiguous."""
    geo = request.geo
    _FILLED.pack_into(
        row,  # type: ignore[arg-type]  # an array is a buffer
        0,
        t_ms,
        request.amount_minor,
        SCALES[request.currency],
        facility_key(request.facility_id) if request.facility_id else 0,
        device_key(request.device_id) if request.device_id else 0,
        _signed(counterparty_key(request.counterparty_id)) if request.counterparty_id else 0,
        code_key(request.purpose) if request.purpose else 0,
        CHANNELS[request.channel] if request.channel else 0,
        0 if geo is None else 1,
        0 if geo is None else geo.lat_e6,
        0 if geo is None else geo.lon_e6,
        0 if geo is None else geo.accuracy_class,
        facility.granted_at_ms,
        facility.limit_minor,
        position.outstanding_minor,
        position.reserved_minor,
        position.available_minor,
        ABSENT if facility.next_due_at_ms is None else facility.next_due_at_ms,
        utc_offset_ms,
        _signed(customer_key(request.customer_id)),
        _signed(request.loan),
        _signed(ip_key(request.ip)) if request.ip else 0,
    )
