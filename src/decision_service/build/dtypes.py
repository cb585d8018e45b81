"""What is spilled to disk between the passes, as packed NumPy records. Digests are 64 bits, 0 where absent; instants ms
UTC, ABSENT where absent; money in minor units."""

from __future__ import annotations

from typing import Final

import numpy as np

from decision_service.core.inputs import REQUEST_WORDS
from decision_service.core.money import EXPONENTS

CURRENCIES: Final = tuple(EXPONENTS)
CURRENCY_INDEX: Final = {code: i for i, code in enumerate(CURRENCIES)}
SCALES_BY_INDEX: Final = np.array([10**decimals for decimals in EXPONENTS.values()], np.int64)

_LINKS: Final = [("device_link", "<u8"), ("payee_link", "<u8"), ("ip_link", "<u8")]  # by LINK_GRAINS

EVENT: Final = np.dtype(
    [
        ("owner", "<u8"),  # customer, or entity
        ("recorded_at_ms", "<i8"),
        ("row", "<i8"),  # of the events' file: breaks ties of recorded_at
        ("event", "<u8"),  # key of the event id
        ("currency", "<i8"),
        ("about_decision", "<i8"),  # 1 if word 7 is the key of a decision's drawdown
        *_LINKS,
        ("words", "<i8", (8,)),  # the packed record
    ]
)
ENTITY_EVENT: Final = np.dtype([("owner", "<u8"), ("recorded_at_ms", "<i8"), ("row", "<i8"), ("words", "<i8", (8,))])
SNAPSHOT: Final = np.dtype(
    [
        ("owner", "<u8"), ("facility", "<i8"), ("as_of_ms", "<i8"), ("recorded_at_ms", "<i8"), ("row", "<i8"),
        ("limit", "<i8"), ("outstanding", "<i8"), ("currency", "<i8"), ("closed", "<i8"), ("apr_bps", "<i8"),
        ("granted_at_ms", "<i8"), ("expires_at_ms", "<i8"), ("reviewed_at_ms", "<i8"), ("next_due_at_ms", "<i8"),
        ("next_due", "<i8"), ("days_past_due", "<i8"),
    ]
)  # fmt: skip
VALUE: Final = np.dtype(
    [
        ("owner", "<u8"), ("slot", "<i8"), ("as_of_ms", "<i8"), ("recorded_at_ms", "<i8"), ("row", "<i8"),
        ("value", "<f8"),
    ]
)  # fmt: skip
QUESTION: Final = np.dtype(
    [
        ("row", "<i8"), ("owner", "<u8"), ("event", "<u8"), ("at_ms", "<i8"), ("facility", "<u4"), ("amount", "<i8"),
        ("currency", "<i8"), ("device", "<u4"), ("party", "<u8"), ("code", "<u4"), ("channel", "u1"),
        ("placed", "u1"), ("lat_e6", "<i4"), ("lon_e6", "<i4"), ("accuracy", "u1"), ("term_months", "<f8"),
        ("loan", "<u8"), *_LINKS,
    ]
)  # fmt: skip
OWNER: Final = np.dtype([("event", "<u8"), ("owner", "<u8")])  # whose event it is


def work(numbers: int) -> np.dtype[np.void]:
    """A question on its way through the passes: its bounds, request row and the numbers known so far."""
    return np.dtype(
        [
            ("row", "<i8"), ("owner", "<u8"), ("recorded_at_ms", "<i8"), ("before_row", "<i8"), *_LINKS,
            ("words", "<i8", (REQUEST_WORDS,)), ("numbers", "<f8", (numbers,)),
        ]
    )  # fmt: skip


def answer(features: int) -> np.dtype[np.void]:
    """The features of a question."""
    return np.dtype([("row", "<i8"), ("values", "<f8", (features,))])
