"""The generated portfolio: reproducible, consistent with itself, and alive."""

from __future__ import annotations

import json
from collections import Counter

import numpy as np
import pytest

from decision_service.core.event import (
    BOOKED,
    DRAWDOWN,
    KINDS,
    LIMIT_CHANGE,
    RECORD,
    REPAYMENT,
    event_key,
    read_header,
    unpack,
    words_of,
)
from decision_service.core.ledger import position_of
from decision_service.core.limits import DAY_MS, HOUR_MS, MINUTE_MS, RECORD_BYTES
from decision_service.portfolio import CustomerHistory, Portfolio, PortfolioPlan, generate
from decision_service.portfolio.history import api_facility
from decision_service.portfolio.patterns import PATTERNS

NOW_MS = 1_795_320_000_000  # 2026-11-22T12:00:00+08:00
PLAN = PortfolioPlan(customers=240, now_ms=NOW_MS, seed=3, days=330, per_pattern=2)


@pytest.fixture(scope="module")
def portfolio() -> Portfolio:
    """240 customers, each pattern lived by two."""
    return generate(PLAN)


def records(history: CustomerHistory) -> np.ndarray:
    """The packed log as records."""
    return np.frombuffer(history.log[RECORD_BYTES:], RECORD)


def test_the_same_plan_gives_the_same_bytes(portfolio: Portfolio) -> None:
    """Logs, facilities and labels are a function of the plan."""
    again = generate(PLAN)
    for a, b in zip(portfolio, again, strict=True):
        assert (a.log, a.facility, a.label, a.pattern) == (b.log, b.facility, b.label, b.pattern)


def test_another_seed_gives_another_portfolio(portfolio: Portfolio) -> None:
    """The seed matters."""
    other = generate(PortfolioPlan(customers=240, now_ms=NOW_MS, seed=4, days=330, per_pattern=2))
    assert [history.log for history in portfolio] != [history.log for history in other]


def test_logs_are_valid_ordered_and_end_at_the_instant(portfolio: Portfolio) -> None:
    """Each log reads as a log, in order of time, with a key once, nothing after the instant or before the grant."""
    for history in portfolio:
        log = records(history)
        assert read_header(history.log)[0] == 0
        assert np.all(np.diff(log["occurred_at_ms"]) >= 0)
        assert len(np.unique(log["key"])) == len(log)
        if len(log):
            assert log["occurred_at_ms"][-1] <= NOW_MS
            assert log["occurred_at_ms"][0] >= history.facility.granted_at_ms


def test_events_in_api_form_are_the_packed_records(portfolio: Portfolio) -> None:
    """What the API would be told is what the log holds, event by event, and it is plain JSON."""
    history = portfolio.of_pattern("takeover")[0]
    events = list(history.events)
    assert len(events) == len(history.events) == len(records(history))
    for i, event in enumerate(json.loads(json.dumps(events))):
        packed = unpack(history.log[RECORD_BYTES * (1 + i) : RECORD_BYTES * (2 + i)])
        assert packed.key == event_key(event["event_id"])
        assert packed.kind == KINDS[event["kind"]]
        assert packed.amount_minor == round(float(event.get("amount", "0")) * 100)
        assert ("geo" in event) == (packed.geo is not None)
    assert history.events[-1] == events[-1]
    assert history.events[:3] == events[:3]


def test_a_snapshot_and_the_log_agree_on_what_is_outstanding(portfolio: Portfolio) -> None:
    """Core banking's figure of an earlier day, moved on by the ledger, is its figure of the instant."""
    ordinary = [history for history in portfolio if not history.pattern and history.facility.as_of_ms > 0]
    moved = 0
    for history in ordinary:
        earlier = history.line.facility_at(NOW_MS - 40 * DAY_MS)
        if earlier.as_of_ms <= earlier.granted_at_ms:
            continue
        words = words_of(history.log)
        then = position_of(earlier, words, NOW_MS, 48 * HOUR_MS)
        now = position_of(history.facility, words, NOW_MS, 48 * HOUR_MS)
        assert then.outstanding_minor == now.outstanding_minor
        moved += then.outstanding_minor != earlier.outstanding_minor
    assert moved > 50


def test_nobody_draws_beyond_the_limit(portfolio: Portfolio) -> None:
    """Requests above what is available are held, so the closing balance never exceeds the limit."""
    for history in portfolio:
        assert np.all(history.line.outstanding_fen <= history.line.limit_fen)
        assert np.all(history.line.outstanding_fen >= 0)


def test_a_log_cut_back_ends_at_the_instant_asked_for(portfolio: Portfolio) -> None:
    """`log_until` is a prefix that holds everything up to the instant and nothing later."""
    history = max(portfolio, key=lambda h: len(h.log))
    at_ms = NOW_MS - 100 * DAY_MS
    cut = history.log_until(at_ms)
    assert history.log.startswith(cut)
    kept = (len(cut) // RECORD_BYTES) - 1
    assert int((records(history)["occurred_at_ms"] <= at_ms).sum()) == kept


def test_every_kind_of_event_a_line_lives_through_occurs(portfolio: Portfolio) -> None:
    """Draws of every status, repayments, dues, arrears, raises and the life around them."""
    kinds: Counter[int] = Counter()
    statuses: Counter[int] = Counter()
    for history in portfolio:
        kinds.update(records(history)["kind"].tolist())
        statuses.update(records(history)["status"][records(history)["kind"] == DRAWDOWN].tolist())
    wanted = (
        "drawdown repayment due overdue purchase inquiry contact_change credential_change login income limit_change"
    )
    assert set(kinds) == {KINDS[name] for name in wanted.split()}
    assert len(statuses) == 4
    assert statuses[BOOKED] > 0.8 * statuses.total()


def test_a_raise_states_the_new_limit_and_the_step(portfolio: Portfolio) -> None:
    """The amount of a limit change is the new limit; its value the step in yuan."""
    changed = 0
    for history in portfolio:
        log = records(history)
        for raise_ in log[(log["kind"] == LIMIT_CHANGE) & (log["occurred_at_ms"] < history.facility.as_of_ms)]:
            day = (int(raise_["occurred_at_ms"]) - history.line.day0_ms) // DAY_MS
            after, before = history.line.limit_fen[day], history.line.limit_fen[day - 1]
            assert (int(raise_["amount_minor"]), float(raise_["value"])) == (after, (after - before) / 100)
            changed += 1
    assert changed > 0


def test_arrears_follow_from_missed_due_dates_and_end_with_a_payment(portfolio: Portfolio) -> None:
    """Days past due rise by one a day; where they fall to zero a repayment was made that day."""
    ended = 0
    for history in portfolio:
        dpd, log = history.line.days_past_due, records(history)
        rises = np.diff(dpd)
        assert np.all(rises <= 1)
        paid = (log["occurred_at_ms"][log["kind"] == REPAYMENT] - history.line.day0_ms) // DAY_MS
        for day in np.flatnonzero(rises < 0) + 1:
            assert dpd[day] == 0
            assert day in paid
            ended += 1
    assert ended > 10


def test_the_bad_have_looked_riskier(portfolio: Portfolio) -> None:
    """Use of the line before the instant is higher among those who go bad after it: there is something to learn."""
    large = generate(PortfolioPlan(customers=1_200, now_ms=NOW_MS, seed=9, days=240, per_pattern=0))
    use = {"good": [], "bad": []}
    for history in large:
        if history.facility.days_past_due == 0:
            use[history.label].append(history.facility.outstanding_minor / history.facility.limit_minor)
    assert 10 < len(use["bad"]) < 0.2 * len(large)
    assert np.mean(use["bad"]) > np.mean(use["good"]) + 0.1


def test_every_pattern_is_lived_and_offers_its_next_draw(portfolio: Portfolio) -> None:
    """The first customers live the patterns, each with the drawdown that completes it; the others have none."""
    assert Counter(h.pattern for h in portfolio if h.pattern) == dict.fromkeys(PATTERNS, 2)
    for history in portfolio:
        assert (history.next_draw is None) == (not history.pattern)
        assert (history.label == "fraud") == bool(history.pattern and PATTERNS[history.pattern].fraud)


def _draws(history: CustomerHistory, within_ms: int) -> np.ndarray:
    log = records(history)
    return log[(log["kind"] == DRAWDOWN) & (log["occurred_at_ms"] > NOW_MS - within_ms)]


def test_the_patterns_look_like_what_they_are_called(portfolio: Portfolio) -> None:
    """A burst is dense, odd hours are odd, amounts are equal or sensitive, the silent are silent."""
    of = portfolio.of_pattern
    for history in of("burst"):
        assert len(_draws(history, 10 * MINUTE_MS)) >= 4
    for history in of("odd_hours"):
        hours = (_draws(history, DAY_MS)["occurred_at_ms"] // HOUR_MS + 8) % 24
        assert (((hours >= 2) & (hours < 5)).sum()) >= 3
    for history in of("equal_amounts"):
        assert np.unique(_draws(history, 6 * HOUR_MS)["amount_minor"], return_counts=True)[1].max() >= 3
    for history in of("sensitive_amounts"):
        assert {9_900, 19_900, 49_900} <= set(_draws(history, HOUR_MS)["amount_minor"].tolist())
    for history in of("silent_good"):
        assert len(_draws(history, 100 * DAY_MS)) == 0
        assert history.facility.outstanding_minor == 0
    for history in of("full_draw_after_grant"):
        assert NOW_MS - history.facility.granted_at_ms < HOUR_MS
        assert float(history.next_draw["amount"]) * 100 > 0.95 * history.facility.limit_minor
    for history in of("leaving_good"):
        assert len(_draws(history, 40 * DAY_MS)) == 0
        assert len(_draws(history, 120 * DAY_MS)) > 5
    for history in of("impossible_travel"):
        assert (_draws(history, HOUR_MS)["flags"] & 1).all()
        assert history.next_draw["geo"]["lat"] < 26


def test_a_facility_in_api_form_is_plain_json_with_exact_money(portfolio: Portfolio) -> None:
    """Money is decimal text and instants are RFC 3339."""
    history = portfolio[20]
    body = json.loads(json.dumps(api_facility(history.facility)))
    assert round(float(body["limit"]) * 100) == history.facility.limit_minor
    assert body["customer_id"] == history.customer_id
    assert body["as_of"].endswith("Z")


def test_a_small_portfolio_holds_as_many_patterns_as_customers() -> None:
    """Fewer customers than patterns is no error."""
    tiny = generate(PortfolioPlan(customers=3, now_ms=NOW_MS, days=130))
    assert [history.pattern for history in tiny] == list(PATTERNS)[:3]
