"""Labels, delays, loans and entity logs, each pinned on a history small enough to read."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_runner import SLOTS, catalogue_of, row_of
from link_cases import T as WORLD_T
from link_cases import world_of
from oracle import Case, D, H

from decision_service.core import inputs as q
from decision_service.core.event import EMPTY_LOG, KINDS, Event, code_key, words_of
from decision_service.core.features.plans import FeaturePlans, compile_plans
from decision_service.core.links import entity_header, link_record
from decision_service.core.source import Findings
from decision_service.core.zone import zone_named

T = 1_790_000_000_000
ME, YOU, LINE, PAYEE, DEVICE = 41, 42, 7, 2**63 + 5, 9
FRAUD, FINE = code_key("fraud"), code_key("fine")
ZONE = zone_named("Asia/Shanghai")
SEGMENTS = (
    'segments: {paid: kind == "drawdown", fraud: kind == "drawdown" and label == "fraud",'
    ' unlabelled: kind == "drawdown" and is_null(label), known: not is_null(counterparty),'
    ' failed_draw: kind == "drawdown" and failed, repaid: kind == "repayment"}\n'
)


def plans_of(*rows: str) -> FeaturePlans:
    """Plans for rows of the form `name: ...`."""
    findings = Findings()
    body = "".join(f"  {row.rstrip('}')}, unit: n, en: x, zh: x}}\n" for row in rows)
    catalogue = catalogue_of(SEGMENTS + "features:\n" + body, findings)
    assert findings.diagnostics == []
    return compile_plans(catalogue, [spec.name for spec in catalogue.specs], SLOTS, len(SLOTS), ZONE)


def draw(key: int, at: int, *, status: int = 1, party: int = PAYEE, facility: int = LINE) -> Event:
    """A drawdown of 100 yuan."""
    return Event(key, KINDS["drawdown"], status, at, 10_000, facility=facility, counterparty=party)


def label(key: int, about: int, at: int, code: int = FRAUD) -> Event:
    """A label about the event with the key `about`."""
    return Event(key, KINDS["label"], 1, at, code=code, settles=about)


def values(
    plans: FeaturePlans, own: bytes = EMPTY_LOG, *, loan: int = 0, t: int = T, **links: bytes | None
) -> dict[str, float | None]:
    """Every feature for a request of ME on LINE to PAYEE from DEVICE."""
    case = Case([], t, 20_000, facility=LINE, device=DEVICE, party=PAYEE, granted=T - 900 * D)
    row = row_of(case)
    row[q.CUSTOMER], row[q.LOAN], row[q.IP] = ME, loan, 77
    numbers = np.full(len(SLOTS) + len(plans.names), np.nan)
    logs = {grain: None if log is None else words_of(log) for grain, log in links.items()}
    plans.compute(words_of(own), logs, row, numbers)
    found = numbers[len(SLOTS) :].tolist()
    return {name: None if value != value else value for name, value in zip(plans.names, found, strict=True)}


def log(*events: Event) -> bytes:
    """A customer's log."""
    return EMPTY_LOG + b"".join(event.pack() for event in events)


def payee_log(*events: tuple[int, Event]) -> bytes:
    """The log of a payee: `(customer, event)` each."""
    return entity_header("payee") + b"".join(link_record(event.pack(), customer) for customer, event in events)


FRAUDS = "f: {agg: count, of: fraud, window: 30d, null: Z}"


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ([label(90, 1, T - H)], 1),
        ([label(90, 1, T)], 1),
        ([label(90, 1, T + 1)], 0),
        ([label(90, 1, T - 2 * H), label(91, 1, T - H, FINE)], 0),
        ([label(90, 1, T - H), label(91, 1, T - 2 * H, FINE)], 1),
        ([label(90, 1, T - H), label(91, 1, T - H, FINE)], 0),
        ([label(90, 1, T - H), label(91, 1, T + 1, FINE)], 1),
        ([label(90, 2, T - H)], 0),
        ([Event(90, KINDS["label"], 1, T - H, code=FRAUD, counterparty=1)], 0),
    ],
)
def test_the_newest_label_known_at_t_says_what_an_event_is(labels: list[Event], expected: int) -> None:
    """Later beats earlier, of one millisecond the last recorded, after t is not known, and 2 is not 1."""
    assert values(plans_of(FRAUDS), log(draw(1, T - 5 * D), *labels))["f"] == expected


def test_a_label_may_be_recorded_before_its_event() -> None:
    """Recorded order decides nothing but ties."""
    assert values(plans_of(FRAUDS), log(label(90, 1, T - H), draw(1, T - 5 * D)))["f"] == 1


def test_a_label_in_an_entitys_log_is_about_its_own_customers_event() -> None:
    """Two customers use the same event id; only the labelled one's event is fraud."""
    plans = plans_of(
        "f: {agg: count, of: fraud, window: 30d, null: Z, grain: payee}",
        "u: {agg: count, of: unlabelled, window: 30d, null: Z, grain: payee}",
    )
    seen = payee_log((ME, draw(1, T - 5 * D)), (YOU, draw(1, T - 4 * D)), (YOU, label(90, 1, T - H)))
    assert values(plans, payee=seen) == {"f": 1, "u": 1}


def test_many_labels_are_found_by_hash() -> None:
    """Two thousand draws, every second one labelled, some twice."""
    draws = [draw(k, T - 5 * D + k) for k in range(1, 2_001)]
    marks = [label(10_000 + k, k, T - 2 * H) for k in range(2, 2_001, 2)]
    undone = [label(20_000 + k, k, T - H, FINE) for k in range(4, 2_001, 4)]
    assert values(plans_of(FRAUDS), log(*draws, *undone, *marks))["f"] == 500


@pytest.mark.parametrize("delay", [1, 7 * D])
def test_delay_shifts_the_window_to_the_millisecond(delay: int) -> None:
    """The window is (t - d - W, t - d]."""
    text = "1ms" if delay == 1 else "7d"
    plans = plans_of(f"c: {{agg: count, of: paid, window: 1d, null: Z, delay: {text}}}")
    at = {T - delay + 1: 0, T - delay: 1, T - delay - D + 1: 1, T - delay - D: 0}
    assert {instant: values(plans, log(draw(1, instant)))["c"] for instant in at} == at


@given(st.integers(0, 10**9), st.sampled_from(["count", "distinct", "gap_max", "last_age", "sum", "burst"]))
@settings(max_examples=60, deadline=None)
def test_a_delayed_row_is_the_row_of_that_long_ago(seed: int, agg: str) -> None:
    """What nothing was told about since is the same a week later with a delay of a week; no delay is a delay of 0."""
    more = {"distinct": ", by: local_day", "burst": ", width: 1h"}.get(agg, "")
    row = f"agg: {agg}, of: paid, windows: [1d, 7d, 30d]{more}, null: Z"
    plain, late, none = (plans_of(f"x: {{{row}{delay}}}") for delay in ("", ", delay: 7d", ", delay: 0s"))
    events = [r.event for r in world_of(seed, 40) if not r.event.settles]
    seen = log(*(replace(event, key=key) for key, event in enumerate(events, 1)))
    now = values(plain, seen, t=WORLD_T - 7 * D)
    assert values(late, seen, t=WORLD_T) == now
    assert values(none, seen, t=WORLD_T - 7 * D) == now


def test_a_delayed_row_knows_what_became_of_events_since() -> None:
    """The status and the label of an old event are those known at t, not those of t - d."""
    plans = plans_of(
        "x: {agg: count, of: failed_draw, window: 30d, null: Z, delay: 7d}",
        "f: {agg: count, of: fraud, window: 30d, null: Z, delay: 7d}",
        "age: {agg: last_age, of: paid, window: 30d, null: N1, delay: 7d}",
    )
    failed = Event(50, KINDS["drawdown"], 4, T - H, settles=1)
    got = values(plans, log(draw(1, T - 8 * D, status=2), draw(2, T - 2 * D), failed, label(90, 1, T - H)))
    assert got == {"x": 1, "f": 1, "age": 86_400}


def test_share_is_of_those_in_both() -> None:
    """One of four draws is fraud; with the request five are asked about; nothing to share is null."""
    plans = plans_of(
        "s: {agg: share, of: fraud, among: paid, windows: [1d, 30d], null: D}",
        "w: {agg: share, of: unlabelled, among: paid, window: 30d, incl: true, null: D}",
        "n: {agg: share, of: fraud, among: paid, window: 30d, null: [D, N5]}",
        "d: {agg: share, of: fraud, among: paid, window: 1d, delay: 5d, null: D}",
    )
    draws = [draw(k, T - 5 * D + k) for k in range(4)]
    got = values(plans, log(*draws, label(90, 2, T - H)))
    assert got == {"s_1d": None, "s_30d": 0.25, "w": 0.8, "n": None, "d": 0}


def test_a_repayment_has_no_payee() -> None:
    """Word 7 of a record that concerns a loan is that loan and nobody's name."""
    repaid = Event(60, KINDS["repayment"], 1, T - H, 500, facility=LINE, settles=1)
    plans = plans_of(
        "k: {agg: count, of: known, window: 30d, null: Z}",
        "p: {agg: distinct, of: repaid, by: counterparty, window: 30d, null: Z}",
    )
    assert values(plans, log(repaid)) == {"k": 0, "p": 0}


def test_facility_and_loan_see_their_own_events() -> None:
    """A repayment belongs to the draw it names; another line's draw does not count; no loan is null, not zero."""
    plans = plans_of(
        "fac: {agg: count, of: paid, window: 30d, null: Z, grain: facility}",
        "back: {agg: sum, of: repaid, window: 30d, null: Z, grain: loan}",
        "own: {agg: count, of: paid, window: 30d, null: Z, grain: loan}",
        "part: {agg: share, of: repaid, among: paid, window: 30d, null: D, grain: loan}",
    )
    repaid = [Event(60 + k, KINDS["repayment"], 1, T - H, 500, facility=LINE, settles=k) for k in (1, 1 + 2**63)]
    seen = log(draw(1, T - D), draw(1 + 2**63, T - D), draw(3, T - D, facility=8), *repaid)
    assert values(plans, seen, loan=1) == {"fac": 2, "back": 5, "own": 1, "part": 0}
    assert values(plans, seen, loan=1 - 2**63) == {"fac": 2, "back": 5, "own": 1, "part": 0}
    assert values(plans, seen) == {"fac": 2, "back": None, "own": None, "part": None}


def test_an_unread_log_is_null_and_an_empty_one_is_zero() -> None:
    """Late or unreachable is unknown; never seen is a true zero; a request that names nobody is unknown too."""
    plans = plans_of(
        "c: {agg: distinct, by: customer, of: paid, window: 1d, null: Z, grain: payee}",
        "d: {agg: count, of: paid, window: 1d, null: Z, grain: device}",
        "own: {agg: count, of: paid, window: 1d, null: Z}",
    )
    assert values(plans, payee=EMPTY_LOG, device=None) == {"d": None, "c": 0, "own": 0}
    both = payee_log((ME, draw(1, T - H)), (YOU, draw(1, T - H)), (YOU, draw(2, T - H)))
    assert values(plans, log(draw(1, T - H)), payee=both) == {"d": None, "c": 2, "own": 1}


def test_a_request_counts_as_its_customers_in_an_entitys_window() -> None:
    """With `incl` the asking customer is one of the payee's customers, once."""
    plans = plans_of("c: {agg: distinct, by: customer, of: paid, window: 1d, incl: true, null: '-', grain: payee}")
    assert values(plans, payee=payee_log((YOU, draw(1, T - H))))["c"] == 2
    assert values(plans, payee=payee_log((ME, draw(1, T - H))))["c"] == 1


def test_a_bounded_log_says_that_it_is() -> None:
    """A window that reaches past what an entity's log still holds is flagged, whatever the line's age."""
    plans = plans_of(
        "cut: {agg: truncated, windows: [1d, 7d], null: '-', grain: payee}",
        "cov: {agg: coverage, windows: [1d, 7d], null: '-', grain: payee}",
    )
    got = values(plans, payee=entity_header("payee", 5, T - 2 * D))
    assert got == {"cut_1d": 0, "cut_7d": 1, "cov_1d": 1, "cov_7d": pytest.approx(2 / 7)}
