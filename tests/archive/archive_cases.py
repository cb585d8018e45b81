"""Entries, frames and rows that the tests of the archive share: real frames, made as the service makes them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import orjson

from decision_service.answer import answer_bytes
from decision_service.archive.chain import GENESIS, chained
from decision_service.archive.rows import read_entry, row_of
from decision_service.archive.schema import Row
from decision_service.core.decision import Decision, LimitChange, Reprice, Score, Trace
from decision_service.core.event import Event
from decision_service.core.facility import Attribute, Facility
from decision_service.core.reasons import Reason
from decision_service.core.request import DecisionRequest
from decision_service.decision_log import encode
from decision_service.store.changes import Change, pack
from decision_service.store.keys import decision_id_of

NOON_MS = 1_795_348_800_000  # 2026-11-22T12:00:00Z
PARTITION = 0x0A3
FACILITY = Facility("f-1", "c-1", "revolver", "CNY", 500_000, 120_000, NOON_MS, 1_800, "active", 1_700_000_000_000)
RECORD = Event(key=7, kind=1, status=1, occurred_at_ms=NOON_MS, amount_minor=499_000).pack()


def decision_id(n: int = 1) -> str:
    """The id of the n-th decision, in PARTITION."""
    return f"d{PARTITION:03x}{decision_id_of('c-1', f'r-{n}', 256)[4:]}"


def frame(n: int = 1, numbers: bytes = bytes(16), **changes: Any) -> bytes:
    """The frame of the n-th decision: a draw of 4,990.00 that is capped, repriced and held for a step-up."""
    decision = Decision(
        decision_id(n), f"r-{n}", "c-1", "f-1", "hold", 100_001, "CNY", "step_up", NOON_MS + 600_000,
        Reprice(1_800, 2_050), LimitChange("draw_cap", 499_000, 100_001), (), (), (),
        (Reason("RC10", "rule:odd_hour"), Reason("RC11", "rule:burst")), {"behaviour": Score(612, 0.0135, "C", "1")},
        "9f2c51d07a3b", "2026.11.1", "full", (), NOON_MS,
    )._replace(**changes)  # fmt: skip
    body = orjson.dumps({
        "request_id": f"r-{n}", "customer_id": "c-1", "amount": 4990.00, "occurred_at": "2026-11-22T19:59:59.500+08:00",
    })  # fmt: skip
    request = DecisionRequest(
        f"r-{n}", "c-1", "f-1", 499_000, "CNY", None, None, None, None, None, None, None, None, b"f" * 16, body
    )
    trace = Trace(numbers, ("c-1", None), b"\1\0\3\4\2", ("m:C/0.5",), 41, 6)
    return encode(decision, trace, request, answer_bytes(decision, 1_800), {"features": 12})


def change(n: int = 1, **changes: Any) -> Change:
    """The change that the n-th decision made."""
    return Change(
        "c-1", 7, records=RECORD, facilities={"f-1": FACILITY}, attributes={"score": Attribute(2.5, NOON_MS)},
        decision_id=decision_id(n),
    )._replace(**changes)  # fmt: skip


def at(n: int) -> bytes:
    """The id of the n-th entry."""
    return b"%d-%d" % (NOON_MS + n // 3, n % 3)


def rules_fired(policy_id: str, scene: str, verdicts: bytes) -> list[str]:
    """Rules by number, of any policy."""
    return [f"{policy_id}/{scene}/{i}" for i, verdict in enumerate(verdicts) if verdict in (1, 3, 4)]


def decided_row(n: int = 1) -> Row:
    """The row of the n-th decision, not yet chained."""
    return row_of(PARTITION, read_entry(at(n), pack(change(n))), frame(n), rules_fired)


def chained_rows(count: int, position: int = 0, previous: bytes = GENESIS, day: int = 0) -> list[Row]:
    """Rows that follow one of this position and hash, `day` days later than the first ones."""
    rows = [decided_row(n) for n in range(position + 1, position + count + 1)]
    return chained([row._replace(at_ms=row.at_ms + day * 86_400_000) for row in rows], position, previous)


def other_facility() -> Facility:
    """A second line of the same customer."""
    return replace(FACILITY, facility_id="f-2", expires_at_ms=NOON_MS + 1)
