"""The stack a team would otherwise assemble, as one FastAPI application (see `stack.py` for what it is compared with).

    python benchmarks/peers/stack_app.py PORT REDIS_PORT MODEL_FOLDER [pipelined|per-feature] [RULES]

FastAPI with pydantic models in and out, uvicorn with uvloop and httptools, one worker; histories in Redis sorted sets
read with redis-py (`stack_store`), features in pandas (`stack_features`), `lightgbm.Booster.predict` (`stack_score`),
rule-engine (`stack_rules`). Bodies are those of this service's API, so that both get the same bytes.
"""

from __future__ import annotations

import sys
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo

import uvicorn
from fastapi import FastAPI, HTTPException, Request, Response
from pydantic import BaseModel, Field

from stack_features import Histories, Values, features, line_values
from stack_rules import Outcome, Rule, decide, facts_of, load_rules
from stack_score import StackScorecard
from stack_store import StackStore, Variant

ZONE: Final = ZoneInfo("Asia/Shanghai")


class Geo(BaseModel):
    """A place."""

    lat: float
    lon: float
    accuracy_m: float | None = None


class Draw(BaseModel):
    """A request to draw."""

    request_id: str = Field(min_length=1, max_length=128)
    customer_id: str = Field(min_length=1, max_length=128)
    facility_id: str = Field(min_length=1, max_length=128)
    amount: Decimal = Field(gt=0, decimal_places=2)
    currency: str
    occurred_at: datetime | None = None
    channel: str | None = None
    device_id: str | None = None
    counterparty_id: str | None = None
    purpose: str | None = None
    geo: Geo | None = None
    term_months: int | None = None
    deadline_ms: int | None = None


class ReasonOut(BaseModel):
    """One cause."""

    code: str
    source: str


class ScoreOut(BaseModel):
    """A score."""

    points: int
    pd: float
    grade: str


class Decided(BaseModel):
    """The answer."""

    decision_id: str
    request_id: str
    customer_id: str
    facility_id: str
    decision: str
    approved_amount: float
    currency: str
    hold: str | None
    reasons: list[ReasonOut]
    scores: dict[str, ScoreOut]
    decided_at: datetime
    features: dict[str, float | None] | None = None


class EventIn(BaseModel):
    """An event."""

    event_id: str
    customer_id: str
    facility_id: str | None = None
    kind: str
    status: str = "booked"
    amount: Decimal | None = None
    currency: str | None = None
    occurred_at: datetime
    device_id: str | None = None
    counterparty_id: str | None = None
    value: float | None = None
    decision_id: str | None = None


class EventsIn(BaseModel):
    """Many events."""

    events: list[EventIn]


class Line(BaseModel):
    """A line's snapshot."""

    customer_id: str
    currency: str
    limit: Decimal
    outstanding: Decimal
    as_of: datetime
    status: str
    granted_at: datetime
    expires_at: datetime | None = None
    reviewed_at: datetime | None = None
    days_past_due: int | None = None


@dataclass(slots=True)
class Parts:
    """What a decision is made with."""

    store: StackStore
    scorecard: StackScorecard
    rules: list[Rule]


@dataclass(frozen=True, slots=True)
class Judged:
    """An outcome with what it rests on."""

    outcome: Outcome
    reasons: list[tuple[str, str]]
    score: tuple[float, float, int, str]
    values: Values


def ms_of(instant: datetime) -> int:
    """An instant as ms UTC, exactly."""
    return round(instant.timestamp() * 1000)


def cents(amount: Decimal | None) -> int:
    """Money as whole cents."""
    return 0 if amount is None else int(amount * 100)


def judge(parts: Parts, draw: Draw, line: dict[str, Any], histories: Histories, t_ms: int) -> Judged:
    """The decision itself: features, score, rules."""
    amount = cents(draw.amount)
    outstanding, reserved = histories.position(line, draw.facility_id)
    of_line = line_values(line, outstanding, reserved, t_ms)
    values = features(histories, of_line, amount / 100, draw.device_id, t_ms)
    row = parts.scorecard.row(values)
    score = parts.scorecard.score(row)
    request = {"request_amount": amount / 100, "request_local_hour": datetime.fromtimestamp(t_ms / 1000, ZONE).hour}
    scored = {"line_status": line["status"], "score_points": float(score[2]), "score_grade": score[3]}
    outcome = decide(parts.rules, facts_of(values, of_line, request, scored), amount)
    reasons = list(outcome.reasons)
    if outcome.blame_score:
        reasons += [(code, "scorecard:behaviour") for code in parts.scorecard.reasons(row)]
    return Judged(outcome, reasons, score, values)


def shown(values: Values) -> dict[str, float | None]:
    """Values for JSON."""
    return {name: None if value != value else float(value) for name, value in values.items()}


def application(redis_port: int, model: Path, variant: Variant, rules: list[Rule]) -> FastAPI:
    """The application."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.state.parts = Parts(StackStore(redis_port, variant), StackScorecard(model), rules)
        yield
        await app.state.parts.store.close()

    app = FastAPI(lifespan=lifespan)

    @app.post("/v1/decisions", response_model=Decided, response_model_exclude_none=True)
    async def post_decision(draw: Draw, request: Request, explain: bool = False) -> Any:
        parts: Parts = request.app.state.parts
        now_ms = time.time_ns() // 1_000_000
        t_ms = now_ms if draw.occurred_at is None else ms_of(draw.occurred_at)
        read = await parts.store.read(draw.request_id, draw.customer_id, draw.facility_id, t_ms)
        if read.earlier is not None:
            if read.earlier == b"pending":
                raise HTTPException(409, "being decided")
            return Response(read.earlier, media_type="application/json")
        if read.line is None:
            await parts.store.release(draw.request_id)
            raise HTTPException(404, "unknown facility")
        judged = judge(parts, draw, read.line, Histories(read.events, t_ms), t_ms)
        answer = answer_of(draw, judged, now_ms)
        held = judged.outcome.decision == "hold"
        event = {
            "id": answer.decision_id, "at": t_ms, "status": "held" if held else "approved",
            "amount": cents(draw.amount) if held else judged.outcome.approved_cents, "facility": draw.facility_id,
            "device": draw.device_id, "payee": draw.counterparty_id, "decided_at": now_ms,
        }  # fmt: skip
        text = answer.model_dump_json(exclude_none=True).encode()
        await parts.store.answered(draw.request_id, text, draw.customer_id, event)
        if explain:
            answer.features = shown(judged.values)
        return answer

    @app.put("/v1/facilities/{facility_id}")
    async def put_facility(facility_id: str, line: Line, request: Request) -> dict[str, str]:
        await request.app.state.parts.store.put_line(facility_id, kept_line(line))
        return {"facility_id": facility_id}

    @app.post("/v1/events")
    async def post_events(body: EventsIn, request: Request) -> dict[str, int]:
        await request.app.state.parts.store.append([stored(event) for event in body.events])
        return {"accepted": len(body.events)}

    @app.get("/readyz")
    async def ready() -> dict[str, str]:
        return {"status": "ready"}

    return app


def answer_of(draw: Draw, judged: Judged, now_ms: int) -> Decided:
    """The answer to a request."""
    _, pd, points, grade = judged.score
    return Decided(
        decision_id=uuid.uuid4().hex, request_id=draw.request_id, customer_id=draw.customer_id,
        facility_id=draw.facility_id, decision=judged.outcome.decision,
        approved_amount=judged.outcome.approved_cents / 100, currency=draw.currency, hold=judged.outcome.hold,
        reasons=[ReasonOut(code=code, source=source) for code, source in judged.reasons],
        scores={"behaviour": ScoreOut(points=points, pd=pd, grade=grade)},
        decided_at=datetime.fromtimestamp(now_ms / 1000, ZONE),
    )  # fmt: skip


def kept_line(line: Line) -> dict[str, Any]:
    """What is kept of a line: money in cents, instants in ms."""
    instants = {
        name: None if (at := getattr(line, name)) is None else ms_of(at)
        for name in ("as_of", "granted_at", "expires_at", "reviewed_at")
    }
    money = {"limit": cents(line.limit), "outstanding": cents(line.outstanding)}
    return {"status": line.status, "days_past_due": line.days_past_due, **money, **instants}


def stored(event: EventIn) -> tuple[str, str, dict[str, Any]]:
    """Customer, kind and what is kept of an event."""
    at = ms_of(event.occurred_at)
    if event.kind == "drawdown" and event.decision_id is not None:
        kept = {"id": event.event_id, "of": event.decision_id, "status": event.status, "at": at}
        return event.customer_id, "settlement", kept
    kept = {
        "id": event.event_id, "at": at, "status": event.status, "amount": cents(event.amount),
        "facility": event.facility_id, "device": event.device_id, "payee": event.counterparty_id, "value": event.value,
    }  # fmt: skip
    return event.customer_id, event.kind, kept


def main() -> None:
    """Serve."""
    port, redis_port, model, variant, *rules = sys.argv[1:]
    assert variant in ("pipelined", "per-feature")
    app = application(int(redis_port), Path(model), variant, load_rules(*map(Path, rules)))  # type: ignore[arg-type]
    uvicorn.run(
        app, host="127.0.0.1", port=int(port), loop="uvloop", http="httptools", access_log=False, log_level="warning"
    )


if __name__ == "__main__":
    main()
