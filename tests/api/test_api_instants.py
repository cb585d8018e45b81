"""Instants and deadlines at their edges: beyond a tolerance refused by name, within it taken, defaulted if missing."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from api_fakes import DRAWDOWN, EVENT, NOW_MS, office

from decision_service.api.instants import format_instant, parse_instant
from decision_service.core.limits import (
    CLOCK_AHEAD_MAX_MS,
    DAY_MS,
    DEADLINE_MS_DEFAULT,
    DEADLINE_MS_MAX,
    DEADLINE_MS_MIN,
    HOUR_MS,
    MINUTE_MS,
    REQUEST_AGE_MAX_MS,
)


def asked(directory: Any, path: str, body: dict[str, Any]) -> tuple[httpx.Response, list[int], list[Any]]:
    """One call; the budgets and requests that reached the service."""

    async def go() -> tuple[httpx.Response, list[int], list[Any]]:
        async with office(directory) as opened:
            reply = await opened.client.post(path, json=body)
            return reply, opened.decisions.budgets_ms, opened.decisions.asked

    return asyncio.run(go())


@pytest.mark.fault("D13")
@pytest.mark.parametrize(
    ("off_ms", "status"),
    [
        (0, 200), (CLOCK_AHEAD_MAX_MS, 200), (CLOCK_AHEAD_MAX_MS + 1, 422), (HOUR_MS, 422), (DAY_MS, 422),
        (-5 * MINUTE_MS, 200), (-REQUEST_AGE_MAX_MS, 200), (-REQUEST_AGE_MAX_MS - 1, 422),
    ],
)  # fmt: skip
def test_a_drawdown_may_be_dated_ahead_and_back_within_bounds(tmp_path: Any, off_ms: int, status: int) -> None:
    """Five minutes ahead is a clock, a day ahead is a mistake; so is one dated further back than is decided on."""
    body = {**DRAWDOWN, "occurred_at": format_instant(NOW_MS + off_ms)}
    reply, _, requests = asked(tmp_path, "/v1/decisions", body)
    assert reply.status_code == status, reply.text
    if status == 422:
        assert (reply.json()["field"], requests) == ("occurred_at", [])
    else:
        assert requests[0].occurred_at_ms == NOW_MS + off_ms


@pytest.mark.fault("D13")
@pytest.mark.parametrize(("off_ms", "told"), [(0, "accepted"), (HOUR_MS, "rejected"), (-365 * DAY_MS, "accepted")])
def test_an_event_dated_ahead_is_rejected_alone(tmp_path: Any, off_ms: int, told: str) -> None:
    """Of two events the good one is taken."""
    dated = {**EVENT, "occurred_at": format_instant(NOW_MS + off_ms)}
    reply, _, _ = asked(tmp_path, "/v1/events", {"events": [dated, {**EVENT, "event_id": "e-2"}]})
    assert [one["status"] for one in reply.json()["events"]] == [told, "accepted"]


@pytest.mark.fault("D16")
@pytest.mark.parametrize(
    ("deadline", "status", "budget_ms"),
    [
        ({}, 200, DEADLINE_MS_DEFAULT),
        ({"deadline_ms": None}, 200, DEADLINE_MS_DEFAULT),
        ({"deadline_ms": DEADLINE_MS_MIN}, 200, DEADLINE_MS_MIN),
        ({"deadline_ms": DEADLINE_MS_MAX}, 200, DEADLINE_MS_MAX),
        ({"deadline_ms": DEADLINE_MS_MIN - 1}, 422, None),
        ({"deadline_ms": DEADLINE_MS_MAX + 1}, 422, None),
        ({"deadline_ms": -1}, 422, None),
        ({"deadline_ms": 2**63}, 422, None),
        ({"deadline_ms": "20"}, 422, None),
        ({"deadline_ms": 20.5}, 422, None),
        ({"deadline_ms": True}, 422, None),
    ],
)
def test_a_deadline_is_defaulted_taken_or_refused(
    tmp_path: Any, deadline: dict[str, Any], status: int, budget_ms: int | None
) -> None:
    """Without one the default holds; what is no number of milliseconds within bounds is named."""
    reply, budgets_ms, _ = asked(tmp_path, "/v1/decisions", {**DRAWDOWN, **deadline})
    assert reply.status_code == status, reply.text
    assert budgets_ms == ([] if budget_ms is None else [budget_ms])
    if status == 422:
        assert reply.json()["field"] == "deadline_ms"


@pytest.mark.fault("D15")
def test_every_instant_of_the_calendar_is_read_once() -> None:
    """Leap days, ends of months and years, offsets of summer and winter; a leap second is the next second."""
    day = datetime(2023, 12, 30, tzinfo=UTC)
    while day < datetime(2029, 3, 2, tzinfo=UTC):
        for second in (timedelta(), timedelta(hours=23, minutes=59, seconds=59, milliseconds=999)):
            instant = day + second
            ms = round(instant.timestamp() * 1_000)
            assert parse_instant(format_instant(ms)) == ms
        day += timedelta(days=1)
    assert parse_instant("2016-12-31T23:59:60Z") == parse_instant("2017-01-01T00:00:00Z")
    assert parse_instant("2026-03-29T02:30:00+01:00") == parse_instant("2026-03-29T03:30:00+02:00")
    for wrong in ("2027-02-29T00:00:00Z", "2026-13-01T00:00:00Z", "2026-11-31T00:00:00Z", "2026-11-21T24:00:00Z"):
        with pytest.raises(ValueError, match="calendar"):
            parse_instant(wrong)
