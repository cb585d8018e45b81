"""Observation points: what may be known at each, who is left out for what, and what counts as bad after it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from decision_service.core.errors import PolicyRejected
from decision_service.core.event import DRAWDOWN, KINDS
from decision_service.core.limits import DAY_MS
from decision_service.core.scorecards.manifest import Target
from decision_service.portfolio import Portfolio, PortfolioPlan, generate
from decision_service.train import NothingToLearn
from decision_service.train.config import TrainConfig, read_train_config
from decision_service.train.evaluate import calibration_error, quality
from decision_service.train.observe import Observed, observe
from decision_service.train.portfolio_files import write_portfolio
from decision_service.train.recorded import read_recorded
from decision_service.train.run import read_sample
from decision_service.train.sample_design import SampleDesign

UNTIL = "2026-11-01T00:00:00+08:00"
UNTIL_MS = 1_793_462_400_000
DESIGN = SampleDesign(
    grain="customer", observe_every_d=30, observations=6, out_of_time=2, from_ms=0, history_min_d=0,
    target=Target(60, bad_dpd=15), good_dpd_max=None, bad_of="customer", days_past_due_max=0, days_on_book_min=60,
    active_within_d=None, statuses=("active", "frozen"), seed=1,
)  # fmt: skip
PEOPLE = 160
HEAD = "scorecard: behaviour\nversion: 1.0.0\nfeatures_from: rules\n"
SAMPLE = "sample: {observations: 4, out_of_time: 1, performance_d: 60, bad_dpd: 15}\n"
FEATURES = "model: {trees: 5}\nfeatures:\n" + "".join(
    f"  - {{name: {name}, reason: RC30}}\n" for name in ("use", "ok_cnt_30d", "ok_amt_90d", "facility.limit")
)


def silent(_text: str) -> None:
    """Say nothing."""


@pytest.fixture(scope="module")
def portfolio() -> Portfolio:
    """Enough customers for every exclusion, over 300 days."""
    return generate(PortfolioPlan(customers=PEOPLE, now_ms=UNTIL_MS, seed=8, days=300, per_pattern=0))


@pytest.fixture(scope="module")
def files(portfolio: Portfolio, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The portfolio as files."""
    directory = tmp_path_factory.mktemp("files")
    write_portfolio(portfolio, DESIGN, directory)
    return directory


def observed(files: Path, design: SampleDesign) -> Observed:
    """The observations of a design."""
    recorded = read_recorded(files / "events.parquet", files / "facilities.parquet", UNTIL_MS, silent)
    return observe(recorded, UNTIL_MS, design)


def config_of(files: Path, root: Path, source: str = "", sample: str = SAMPLE, features: str = FEATURES) -> TrainConfig:
    """A checked training file over the files."""
    (root / "rules").exists() or (root / "rules").symlink_to(Path(__file__).parent / "rules")
    path = root / "train.yaml"
    named = f"events: {{events: {files}/events.parquet, facilities: {files}/facilities.parquet, until: {UNTIL}}}\n"
    path.write_text(HEAD + (source or named) + sample + features)
    return read_train_config(path)


def test_bad_is_enough_days_past_due_inside_the_window_and_nothing_else(portfolio: Portfolio, files: Path) -> None:
    """The label equals a plain loop over the events of the performance window."""
    bads = 0
    for row in observed(files, DESIGN).observations:
        expected = False
        for event in portfolio[int(row["customer"])].table:
            late = event["kind"] == KINDS["overdue"] and event["value"] >= 15
            after = row["at_ms"] < event["at_ms"] <= row["at_ms"] + 60 * DAY_MS
            expected = expected or bool(late and after)
        assert row["bad"] == expected
        bads += expected
    assert bads > 5


def test_only_performing_customers_with_enough_history_are_observed(portfolio: Portfolio, files: Path) -> None:
    """Nobody in arrears, nobody younger than the design says, nobody outside the time it covers."""
    rows = observed(files, DESIGN).observations
    assert len(rows) > 300
    for row in rows:
        line = portfolio[int(row["customer"])].line
        assert line.facility_at(int(row["at_ms"])).days_past_due == 0
        assert row["at_ms"] - line.granted_at_ms >= 60 * DAY_MS
        assert row["at_ms"] <= UNTIL_MS - 60 * DAY_MS
        assert (row["period"] < 2) == (row["at_ms"] > UNTIL_MS - (60 + 2 * 30) * DAY_MS)


def test_every_exclusion_is_counted_and_nothing_is_lost(portfolio: Portfolio, files: Path) -> None:
    """The waterfall begins with all that were possible and ends with those that are left, step by step."""
    design = replace(DESIGN, good_dpd_max=4, active_within_d=20, history_min_d=150, from_ms=UNTIL_MS - 200 * DAY_MS)
    found = observed(files, design)
    steps = dict(found.waterfall)
    assert next(iter(steps.values())) == PEOPLE * 6
    assert sum(steps.values()) == len(found.observations)
    for why in (
        "earlier than `from`", "no snapshot of the facility was known", "less than 150 days of recorded history",
        "younger than 60 days", "over 0 days past due", "inactive for 20 days",
        "indeterminate: later than 4 days past due, but not bad",
    ):  # fmt: skip
        assert steps[why] < 0, why
    for row in found.observations:
        table = portfolio[int(row["customer"])].table
        window = table[(table["at_ms"] > row["at_ms"]) & (table["at_ms"] <= row["at_ms"] + 60 * DAY_MS)]
        worst = window["value"][window["kind"] == KINDS["overdue"]].max(initial=0)
        assert worst < 5 or worst >= 15
        active = np.isin(table["kind"], (DRAWDOWN, KINDS["repayment"])) & (table["status"] == 1)
        age = row["at_ms"] - table["at_ms"]
        assert (active & (age >= 0) & (age < 20 * DAY_MS)).any()


def test_a_row_knows_nothing_of_what_came_later(portfolio: Portfolio, files: Path, tmp_path: Path) -> None:
    """Counts and sums equal those of the events up to the instant, taken by hand."""
    sample = read_sample(config_of(files, tmp_path), (), silent)
    checked = 0
    for i in range(0, len(sample), 5):
        history, at_ms = portfolio[int(sample.customer[i])], int(sample.observed_at_ms[i])
        age = at_ms - history.table["at_ms"]
        drawn = (history.table["kind"] == DRAWDOWN) & (history.table["status"] == 1) & (age >= 0)
        assert sample.rows[i, 1] == (drawn & (age < 30 * DAY_MS)).sum()
        assert sample.rows[i, 2] == history.table["amount"][drawn & (age < 90 * DAY_MS)].sum() / 100
        assert sample.rows[i, 3] == history.line.facility_at(at_ms).limit_minor / 100
        assert 0.0 <= sample.rows[i, 0] <= 1.0
        checked += sample.rows[i, 1] > 0
    assert checked > 20


def test_another_future_changes_outcomes_and_no_feature(files: Path, tmp_path: Path) -> None:
    """What was recorded after the last observation is dealt out anew: rows stay as they are, to the last bit."""
    sample = read_sample(config_of(files, tmp_path), (), silent)
    events = parquet.read_table(files / "events.parquet")
    future = events.column("occurred_at").to_numpy() > sample.observed_at_ms.max()
    order = np.arange(len(future))
    order[future] = np.random.default_rng(2).permutation(order[future])
    dealt: dict[str, Any] = {name: events.column(name).take(pa.array(order)) for name in events.column_names}
    for name in ("occurred_at", "event_id"):
        dealt[name] = events.column(name)
    parquet.write_table(pa.table(dealt), tmp_path / "events.parquet")
    (tmp_path / "facilities.parquet").write_bytes((files / "facilities.parquet").read_bytes())
    other = read_sample(config_of(tmp_path, tmp_path), (), silent)
    np.testing.assert_array_equal(other.rows, sample.rows)
    assert (other.bad != sample.bad).any()


def test_files_of_a_portfolio_make_the_sample_that_the_portfolio_makes(tmp_path: Path) -> None:
    """Generated or read: the same rows, outcomes and customers."""
    source = f"portfolio: {{customers: 120, seed: 4, days: 240, until: {UNTIL}}}\n"
    generated = config_of(tmp_path, tmp_path, source)
    assert generated.sample is not None
    write_portfolio(generate(PortfolioPlan(120, UNTIL_MS, 4, 240, 0)), generated.sample, tmp_path)
    first, second = (read_sample(c, (), silent) for c in (generated, config_of(tmp_path, tmp_path)))
    for name in ("rows", "bad", "customer", "observed_at_ms", "out_of_time"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))
    assert len(first) > 50


def test_a_feature_that_depends_on_the_request_is_refused(files: Path, tmp_path: Path) -> None:
    """A scorecard of grain customer must say the same whatever is asked for; the message points at the line."""
    features = FEATURES + "  - {name: asked_share, reason: RC30}\n"
    with pytest.raises(PolicyRejected) as refused:
        read_sample(config_of(files, tmp_path, features=features), (), silent)
    assert "feature 'asked_share' depends on the request" in refused.value.message
    assert "train.yaml:12" in refused.value.message


# --- outcomes by hand -----------------------------------------------------------------------------------------------

DAY0 = UNTIL_MS - 300 * DAY_MS


def day(number: float) -> int:
    """An instant."""
    return DAY0 + round(number * DAY_MS)


def by_hand(root: Path, events: Iterator[dict[str, Any]] | list[dict[str, Any]]) -> Path:
    """Two customers, the second with two facilities, and these events."""
    lines = [
        {"facility_id": f, "customer_id": c, "product": "p", "currency": "CNY", "limit": 10_000.0, "outstanding": 0.0,
         "as_of": day(0), "apr": 0.18, "status": "active", "granted_at": day(0), "days_past_due": 0}
        for f, c in (("f1", "c1"), ("f2", "c2"), ("f3", "c2"))
    ]  # fmt: skip
    parquet.write_table(pa.Table.from_pylist(lines), root / "facilities.parquet")
    schema = pa.schema([
        *((name, pa.string()) for name in ("customer_id", "facility_id", "event_id", "kind", "status", "category",
                                           "decision_id", "about_event_id")),
        ("occurred_at", pa.int64()), ("amount", pa.float64()), ("value", pa.float64()),
    ])  # fmt: skip
    rows = [{"status": "booked", "event_id": f"e{i}", **event} for i, event in enumerate(events)]
    parquet.write_table(pa.Table.from_pylist(rows, schema=schema), root / "events.parquet")
    return root


def draw(customer: str, facility: str, at: float, name: str, status: str = "booked") -> dict[str, Any]:
    """A drawdown of 100."""
    return {"customer_id": customer, "facility_id": facility, "event_id": name, "kind": "drawdown", "status": status,
            "occurred_at": day(at), "amount": 100.0}  # fmt: skip


def told(kind: str, customer: str, at: float, **more: Any) -> dict[str, Any]:
    """An overdue notice or a label."""
    return {"customer_id": customer, "kind": kind, "occurred_at": day(at), **more}


LOANS = replace(
    DESIGN, grain="loan", bad_of="loan", target=Target(60, label="lost"), days_on_book_min=0, observations=9,
)  # fmt: skip
EVENTS = [
    draw("c1", "f1", 10, "a"), draw("c1", "f1", 20, "b"), draw("c1", "f1", 25, "x", "failed"),
    draw("c2", "f2", 30, "c"), draw("c2", "f3", 40, "d"), draw("c2", "f3", 299, "late"),
    told("label", "c1", 50, category="lost", value=1.0, about_event_id="a"),
    told("label", "c1", 90, category="lost", value=1.0, about_event_id="b"),  # 70 days after: too late
    told("label", "c2", 60, category="other", value=1.0, about_event_id="c"),
    told("overdue", "c2", 70, value=31.0, facility_id="f3", amount=10.0),
    told("overdue", "c1", 15, value=90.0, amount=10.0, status="cancelled"),
    told("overdue", "c1", 15, value=90.0, amount=10.0, status="failed"),
]  # fmt: skip


def outcomes(files: Path, design: SampleDesign) -> list[tuple[int, float, int]]:
    """`(facility, day, bad)` of every observation."""
    rows = observed(files, design).observations
    return [(int(r["facility"]), (int(r["at_ms"]) - DAY0) / DAY_MS, int(r["bad"])) for r in rows]


def test_a_loan_is_bad_by_what_is_told_of_it_in_its_own_window(tmp_path: Path) -> None:
    """Booked drawdowns only; a label of another loan, another name or another time is not its own."""
    files = by_hand(tmp_path, EVENTS)
    assert outcomes(files, LOANS) == [(0, 10.0, 1), (0, 20.0, 0), (1, 30.0, 0), (2, 40.0, 0)]
    assert dict(observed(files, LOANS).waterfall)["outside the periods of observation"] == -1


def test_a_loan_may_be_bad_of_its_facility_or_customer(tmp_path: Path) -> None:
    """31 days past due on one facility: its loans, or all of the customer's."""
    files = by_hand(tmp_path, EVENTS)
    late = replace(LOANS, target=Target(60, bad_dpd=30))
    assert [bad for *_, bad in outcomes(files, replace(late, bad_of="facility"))] == [0, 0, 0, 1]
    assert [bad for *_, bad in outcomes(files, replace(late, bad_of="customer"))] == [0, 0, 1, 1]
    assert [bad for *_, bad in outcomes(files, late)] == [0, 0, 0, 0]


def test_a_loan_is_asked_about_with_its_own_request_and_what_was_recorded_before_it(tmp_path: Path) -> None:
    """The draw itself is not yet in its own history, its amount is in its request."""
    files = by_hand(tmp_path, EVENTS)
    features = "model: {trees: 5}\nfeatures: [{name: ok_cnt_30d, reason: RC30}, {name: asked_share, reason: RC30}]\n"
    sample = "sample: {grain: loan, label: lost, performance_d: 60, observations: 9, out_of_time: 1}\n"
    rows = read_sample(config_of(files, tmp_path, sample=sample, features=features), (), silent).rows
    np.testing.assert_array_equal(rows, [[0.0, 0.01], [1.0, 0.01], [0.0, 0.01], [1.0, 0.01]])


def test_outcomes_that_nobody_knows_are_not_good(tmp_path: Path) -> None:
    """Events that end long before `until` make no sample; a few days of silence do."""
    source = "events: {{events: events.parquet, facilities: facilities.parquet, until: {}}}\n"
    files = by_hand(tmp_path, EVENTS)
    with pytest.raises(NothingToLearn, match=r"newest event is of 2026-10-30T16:00:00\+00:00, 32 days before `until`"):
        read_sample(config_of(files, tmp_path, source.format("2026-12-02T00:00:00+08:00")), (), silent)
    quiet = config_of(files, tmp_path, source.format("2026-11-06T00:00:00+08:00"))
    assert len(read_sample(quiet, (), silent)) == 12


def test_nobody_left_is_no_sample(tmp_path: Path) -> None:
    """Everybody is younger than the design asks for."""
    files = by_hand(tmp_path, EVENTS)
    with pytest.raises(NothingToLearn, match="nobody is left"):
        read_sample(config_of(files, tmp_path, sample=SAMPLE.replace("{", "{days_on_book_min: 3000, ")), (), silent)


def test_quality_of_a_perfect_and_of_a_useless_score() -> None:
    """A perfect order has AUC and KS 1; a constant one AUC 0.5 and KS 0."""
    bad = np.array([0, 0, 0, 1, 1], np.int8)
    perfect = quality(np.array([0.1, 0.2, 0.3, 0.8, 0.9]), bad)
    assert (perfect.auc, perfect.ks, perfect.rows, perfect.bads) == (1.0, 1.0, 5, 2)
    useless = quality(np.full(5, 0.4), bad)
    assert (useless.auc, useless.ks) == (0.5, 0.0)


def test_calibration_error_is_the_mean_gap_of_groups() -> None:
    """Predictions that come true have none; those twice as high are off by their own size."""
    bad = np.tile(np.array([1, 0, 0, 0], np.int8), 250)
    assert calibration_error(np.full(1_000, 0.25), bad) == pytest.approx(0.0)
    assert calibration_error(np.full(1_000, 0.50), bad) == pytest.approx(0.25)


def test_a_target_says_whose_outcome_it_is_where_the_grain_does_not(files: Path, tmp_path: Path) -> None:
    """`models watch` reads it from the manifest."""
    assert config_of(files, tmp_path).target == Target(60, bad_dpd=15)
    of_line = SAMPLE.replace("{", "{bad_of: facility, ")
    assert config_of(files, tmp_path, sample=of_line).target == Target(60, bad_dpd=15, of="facility")
