"""Restoring: what is lost is written again, by the same conditional commit that writes a decision.

A *lost* answer becomes a frame under its decision id and, of an approved drawdown, a record in the customer's log:
approved, not yet settled, reserved from the instant of the repair for the usual time. The frame says that it is a
reconstruction (tag `reconstructed`, no policy, no trace) and knows no fingerprint, so a retry of the request gets an
answer with the outcome and the amount that were acknowledged, whatever else it says. The record has the decision's own
key: it is there once however often it is repaired, and settlements that name the decision find it.

Of an answer that is *different*, the store's stays. If more was acknowledged than the store knows of, the difference
is appended under a key of its own: exposure may be overstated until it times out, never understated.

What is not known (device, payee, features, reasons) is not made up; entity logs are not touched.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final, Literal

import orjson

from decision_service.answer import answer_bytes
from decision_service.core.decision import Decision, Trace
from decision_service.core.errors import InvalidInput, OutcomeUnknown, VersionMoved
from decision_service.core.event import (
    APPROVED,
    DRAWDOWN,
    HELD,
    Event,
    drawdown_key,
    facility_key,
    holds_key,
)
from decision_service.core.limits import COMMIT_ATTEMPTS_MAX
from decision_service.core.money import SCALES
from decision_service.core.reasons import Reason
from decision_service.core.request import DRAWDOWN_SCENE, DecisionRequest
from decision_service.core.state import CustomerState
from decision_service.decision_log import encode
from decision_service.decision_records import exposure_key
from decision_service.reconcile.acknowledged import Acknowledged
from decision_service.reconcile.findings import REPAIRED
from decision_service.recording import Retention
from decision_service.store import Commit, Store

STORE_TIMEOUT_S: Final = 10.0
RECONSTRUCTED: Final = "reconstructed"  # the tag of a frame that was written here
SOURCE: Final = "reconcile:reconstructed"
UNKNOWN_CONTENT: Final = b""  # fingerprint of a frame whose request nobody knows
_FACILITY_UNKNOWN: Final = "give its facility_id: the customer has none, or several"


class _Unable(Exception):
    """Why nothing can be restored."""


@dataclass(frozen=True, slots=True)
class _Line:
    """What was drawn on."""

    facility_id: str
    currency: str


class Restoring:
    """Writes into a store. `now_ms` dates the repair."""

    def __init__(self, store: Store, retention: Retention, now_ms: int) -> None:
        self._store = store
        self._retention = retention
        self._now_ms = now_ms

    async def lost(self, row: Acknowledged) -> str:
        """Write a lost answer again; `done`, or why not. StoreUnavailable."""
        return await self._committed(row.customer_id, row.decision_id, lambda state: self._reconstruction(row, state))

    async def exceeding(self, row: Acknowledged, stored_minor: int, line: tuple[str, str]) -> str:
        """Append what was acknowledged beyond `stored_minor` on a facility and its currency; `done`, or why not."""
        facility_id, currency = line
        beyond = row.minor(row.approved, currency) - stored_minor

        def planned(state: CustomerState) -> Commit | None:
            key = exposure_key(row.decision_id)
            if holds_key(state.log, key):
                return None
            return self._commit(row, state, self._record(row, key, beyond, facility_id, approved=True))

        return await self._committed(row.customer_id, None, planned)

    async def record_of(self, frame_answer: dict[str, Any], t_ms: int) -> str:
        """Append the record that a stored drawdown lacks in its customer's log; `done`."""
        scale = SCALES[frame_answer["currency"]]
        approved = round(frame_answer["approved_amount"] * scale)
        row = Acknowledged(
            0, frame_answer["decision_id"], frame_answer["request_id"], frame_answer["customer_id"],
            frame_answer["decision"], Decimal(0), decided_at_ms=t_ms,
        )  # fmt: skip
        key = drawdown_key(row.decision_id)

        def planned(state: CustomerState) -> Commit | None:
            if holds_key(state.log, key):
                return None
            return self._commit(
                row, state, self._record(row, key, approved, frame_answer["facility_id"], approved=True)
            )

        return await self._committed(row.customer_id, None, planned)

    async def _committed(
        self, customer_id: str, decision_id: str | None, planned: Callable[[CustomerState], Commit | None]
    ) -> str:
        """Read, plan, commit until the commit is acknowledged or there is nothing (left) to write. A commit whose reply
        was lost shows in the next read."""
        for _ in range(COMMIT_ATTEMPTS_MAX):
            state = await self._store.read(customer_id, decision_id, STORE_TIMEOUT_S)
            try:
                commit = planned(state)
                if commit is not None:
                    await self._store.commit(commit, STORE_TIMEOUT_S)
            except (_Unable, InvalidInput) as error:
                return str(error)
            except (VersionMoved, OutcomeUnknown):
                continue
            return REPAIRED
        return "the customer is being changed by too many callers at once: run again"

    def _reconstruction(self, row: Acknowledged, state: CustomerState) -> Commit | None:
        if state.decision is not None:
            return None
        approved = row.scene == DRAWDOWN_SCENE and row.approved > 0
        line = _line_of(row, state, needed=approved)
        approved_minor = row.minor(row.approved, line.currency) if line.currency else 0
        records, key = b"", drawdown_key(row.decision_id)
        if not holds_key(state.log, key):
            if approved:
                records = self._record(row, key, approved_minor, line.facility_id, approved=True)
            elif row.scene == DRAWDOWN_SCENE and row.amount is not None and line.currency:
                asked = row.minor(row.amount, line.currency)
                records = self._record(row, key, asked, line.facility_id, approved=False)
        frame = self._frame(row, line, approved_minor)
        return self._commit(row, state, records, (row.decision_id, frame))

    def _record(self, row: Acknowledged, key: int, amount_minor: int, facility_id: str, *, approved: bool) -> bytes:
        return Event(
            key=key, kind=DRAWDOWN, status=APPROVED if approved else HELD,
            occurred_at_ms=self._now_ms if row.decided_at_ms is None else row.decided_at_ms,
            amount_minor=amount_minor, facility=facility_key(facility_id) if facility_id else 0,
            decided_at_ms=self._now_ms,
        ).pack()  # fmt: skip

    def _commit(
        self, row: Acknowledged, state: CustomerState, records: bytes, decision: tuple[str, bytes] | None = None
    ) -> Commit:
        return Commit(
            row.customer_id, state.version, records=records,
            trimmed_log=self._retention.trimmed(state.log, records) if records else None, decision=decision,
            origin="reconcile",
        )  # fmt: skip

    def _frame(self, row: Acknowledged, line: _Line, approved_minor: int) -> bytes:
        held: Literal["review"] | None = "review" if row.decision == "hold" else None
        decision = Decision(
            decision_id=row.decision_id, request_id=row.request_id, customer_id=row.customer_id,
            facility_id=line.facility_id, decision=row.decision,  # type: ignore[arg-type]  # it is one of OUTCOMES
            approved_minor=approved_minor, currency=line.currency or "CNY",
            hold=held, hold_expires_at_ms=None, reprice=None, limit_change=None, alerts=(), offers=(),
            tags=(RECONSTRUCTED,), reasons=(Reason("RC90", SOURCE),) if held else (), scores={}, policy_id="",
            policy_label="", rung="static", missing=(),
            decided_at_ms=self._now_ms if row.decided_at_ms is None else row.decided_at_ms, scene=row.scene,
        )  # fmt: skip
        body = {
            "request_id": row.request_id, "customer_id": row.customer_id, "facility_id": line.facility_id,
            "amount": None if row.amount is None else float(row.amount),
        }  # fmt: skip
        request = DecisionRequest(
            request_id=row.request_id, customer_id=row.customer_id, facility_id=line.facility_id, amount_minor=0,
            currency=line.currency, occurred_at_ms=None, channel=None, device_id=None, counterparty_id=None,
            purpose=None, geo=None, term_months=None, facility=None, fingerprint=UNKNOWN_CONTENT,
            body=orjson.dumps(body), scene=row.scene,
        )  # fmt: skip
        trace = Trace(b"", (), b"", (), -1, 0)
        return encode(decision, trace, request, answer_bytes(decision, 0), {"reconstructed_at_ms": self._now_ms})


def _line_of(row: Acknowledged, state: CustomerState, *, needed: bool) -> _Line:
    """The facility a row is about, and its currency. _Unable if it is needed and cannot be told."""
    facility_id = row.facility_id
    if not facility_id and len(state.facilities) == 1:
        facility_id = next(iter(state.facilities))
    known = state.facilities.get(facility_id)
    currency = row.currency or (known.currency if known is not None else "")
    if needed and not facility_id:
        raise _Unable(_FACILITY_UNKNOWN)
    if needed and not currency:
        raise _Unable("give its currency: the store does not know the facility")
    if known is not None and currency != known.currency:
        raise _Unable(f"the facility is in {known.currency}, the row says {currency}")
    return _Line(facility_id, currency)
