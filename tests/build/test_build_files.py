"""What features build reads, writes and refuses, and that dividing the work changes nothing."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pytest
from pyarrow import csv, parquet

from decision_service.api.instants import format_instant
from decision_service.api.parse import Clock
from decision_service.build import Build, Built, build
from decision_service.build import run as run_module
from decision_service.build.history import Keeping, trimmed
from decision_service.build.table import read_spec
from decision_service.core.errors import InvalidInput, PolicyRejected
from decision_service.core.event import Event, header, read_header
from decision_service.core.limits import DAY_MS
from decision_service.core.retention import trim

T_MS = 1_750_000_000_000
CLOCK = Clock(1_790_000_000_000, 0, 0)
FEATURES = """
segments:
  paid: kind == "purchase"
  paid_here: kind == "purchase" and counterparty == request.counterparty_id
features:
  pay_cnt: {agg: count, of: paid, windows: [7d], null: Z, unit: n, en: a, zh: a}
  pay_amt: {agg: sum, of: paid, windows: [7d], null: Z, unit: money, en: b, zh: b}
  pay_here: {agg: count, of: paid_here, windows: [7d], null: Z, unit: n, en: c, zh: c}
  pay_people: {agg: distinct, by: customer, of: paid, grain: payee, windows: [7d], null: Z, unit: n, en: d, zh: d}
derived:
  pay_share: {expr: pay_here_7d / pay_cnt_7d, null: D, unit: ratio, en: e, zh: e}
"""
NAMES = ("pay_cnt_7d", "pay_amt_7d", "pay_here_7d", "pay_people_7d", "pay_share", "facility.limit")


@pytest.fixture
def rules(tmp_path: Path) -> Path:
    """A rules directory that only declares features."""
    (tmp_path / "rules" / "features").mkdir(parents=True)
    (tmp_path / "rules" / "features" / "pay.yaml").write_text(FEATURES, encoding="utf-8")
    return tmp_path / "rules"


def write(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    """A file of rows, by the suffix of its name."""
    names = dict.fromkeys(name for row in rows for name in row)
    table = pa.table({name: [row.get(name) for row in rows] for name in names})
    if path.suffix == ".csv":
        csv.write_csv(table, path)
    else:
        parquet.write_table(table, path, row_group_size=100)
    return path


def bought(customer: str, event_id: str, at_ms: int, **more: Any) -> dict[str, Any]:
    """A purchase of 1.50."""
    return {
        "customer_id": customer, "event_id": event_id, "kind": "purchase", "occurred_at": format_instant(at_ms),
        "amount": "1.50", "counterparty_id": "m-1",
    } | more  # fmt: skip


def run(
    rules: Path, events: Path, questions: Path, names: Sequence[str] = NAMES, **how: Any
) -> tuple[Built, list[dict[str, Any]]]:
    """The report and the rows of a build."""
    out = events.with_name("out.parquet")
    plan = Build(
        events, questions, out, read_spec(rules, names, "UTC"), CLOCK, Keeping(400 * DAY_MS, 4_096, 256), 1_024,
        2 * DAY_MS, **{"workers": 1} | how,
    )  # fmt: skip
    return build(plan), parquet.read_table(out).to_pylist()


def test_rows_come_in_the_order_asked_with_their_own_columns(rules: Path, tmp_path: Path) -> None:
    """Every column of the questions is passed through, and a question that says less sees less."""
    events = write(tmp_path / "e.csv", [bought("c-1", "a", T_MS), bought("c-2", "b", T_MS - 10)])
    questions = write(
        tmp_path / "q.csv",
        [
            {"customer_id": "c-2", "at": T_MS, "counterparty_id": "m-1", "note": "x"},
            {"customer_id": "c-1", "at": T_MS - 1, "counterparty_id": "m-1", "note": "y"},
            {"customer_id": "c-3", "at": T_MS, "note": "z"},
        ],
    )
    built, rows = run(rules, events, questions)
    assert built.bad == {}
    assert [row["note"] for row in rows] == ["x", "y", "z"]
    assert [[row[name] for name in NAMES] for row in rows] == [
        [1.0, 1.5, 1.0, 2.0, 1.0, 0.0], [0.0, 0.0, 0.0, 1.0, None, 0.0], [0.0, 0.0, 0.0, None, None, 0.0]
    ]  # fmt: skip


@pytest.mark.fault("D10")
def test_a_question_sees_what_was_recorded_and_had_occurred(rules: Path, tmp_path: Path) -> None:
    """Neither an event that was recorded later counts nor one that occurs later; the same millisecond counts."""
    late = bought("c-1", "late", T_MS - 5 * DAY_MS, recorded_at=format_instant(T_MS + 1))
    early = bought("c-1", "early", T_MS + 1, recorded_at=format_instant(T_MS - 1))
    same = bought("c-1", "same", T_MS, recorded_at=format_instant(T_MS))
    events = write(tmp_path / "e.csv", [late, early, same])
    questions = write(tmp_path / "q.csv", [{"customer_id": "c-1", "at": T_MS + i} for i in (-1, 0, 1)])
    _, rows = run(rules, events, questions, ["pay_cnt_7d"])
    assert [row["pay_cnt_7d"] for row in rows] == [0.0, 1.0, 3.0]


def test_an_events_own_decision_sees_what_was_recorded_before_it(rules: Path, tmp_path: Path) -> None:
    """Not the event itself, not what came after it, though all of it happened in one millisecond."""
    events = write(tmp_path / "e.csv", [bought("c-1", f"e-{i}", T_MS) for i in range(4)])
    questions = write(tmp_path / "q.csv", [{"event_id": f"e-{i}"} for i in (2, 0, 3, 1)])
    _, rows = run(rules, events, questions, ["pay_cnt_7d", "pay_here_7d", "request.amount"])
    assert [[row["pay_cnt_7d"], row["pay_here_7d"], row["request.amount"]] for row in rows] == [
        [2.0, 2.0, 1.5], [0.0, 0.0, 1.5], [3.0, 3.0, 1.5], [1.0, 1.0, 1.5]
    ]  # fmt: skip


@pytest.mark.fault("D11")
def test_events_count_once(rules: Path, tmp_path: Path) -> None:
    """An event that comes again with equal content is repeated, with other content refused; another customer may use
    the same id, and then a question must say whose event it means."""
    first, other = bought("c-1", "a", T_MS), bought("c-1", "a", T_MS, amount="2.00")
    events = write(tmp_path / "e.csv", [first, first, other, bought("c-2", "a", T_MS)])
    questions = write(tmp_path / "q.csv", [{"customer_id": "c-1", "at": T_MS + 9}, {"event_id": "a"}])
    built, rows = run(rules, events, questions, ["pay_cnt_7d"])
    assert [row["pay_cnt_7d"] for row in rows] == [1.0]
    assert built.repeated == 1
    assert [(bad.row, bad.column) for bad in built.bad["events"]] == [(3, "event_id")]
    assert [(bad.row, bad.reason) for bad in built.bad["questions"]] == [
        (2, "is an event of several customers: say whose")
    ]


def test_bad_questions_are_left_out_and_named(rules: Path, tmp_path: Path) -> None:
    """Every bad row is told with its number, column and reason; the good ones are answered."""
    events = write(tmp_path / "e.csv", [bought("c-1", "a", T_MS)])
    asked: list[dict[str, Any]] = [
        {"customer_id": "c-1", "at": str(T_MS)}, {"customer_id": "c-1", "at": "yesterday"}, {"customer_id": "c-1"},
        {"at": str(T_MS)}, {"event_id": "nobody's"}, {"customer_id": "c-1", "at": str(T_MS), "amount": "1.234"},
        {"customer_id": "c-1", "at": str(T_MS), "ip": "here"}, {"customer_id": "c-1", "at": str(T_MS), "lat": "3"},
        {"customer_id": "c-1", "at": str(T_MS), "channel": "fax"}, {"customer_id": "c-2", "event_id": "a"},
    ]  # fmt: skip
    built, rows = run(rules, events, write(tmp_path / "q.csv", asked))
    assert len(rows) == 1
    assert [(bad.row, bad.column) for bad in built.bad["questions"]] == [
        (2, "at"), (3, "at"), (4, "customer_id"), (5, "event_id"), (6, "amount"), (7, "ip"), (8, "lat"), (9, "channel"),
        (10, "event_id"),
    ]  # fmt: skip


def test_facilities_and_attributes_are_those_known_by_then(rules: Path, tmp_path: Path) -> None:
    """A snapshot counts from when it was recorded; one that nobody has reported by then cannot be asked for."""
    line = {
        "facility_id": "f-1", "customer_id": "c-1", "product": "p", "currency": "CNY", "limit": "100.00",
        "outstanding": "0", "as_of": T_MS, "apr": "0.18", "status": "active", "granted_at": T_MS - DAY_MS,
    }  # fmt: skip
    newer = line | {"limit": "250.00", "as_of": T_MS + 10, "recorded_at": T_MS + 20}
    facilities = write(tmp_path / "f.csv", [line | {"recorded_at": T_MS}, newer])
    events = write(tmp_path / "e.csv", [bought("c-1", "a", T_MS)])
    asked = [{"customer_id": "c-1", "at": T_MS + i} for i in (-1, 5, 15, 20)]
    questions = write(tmp_path / "q.csv", [*asked, asked[0] | {"facility_id": "f-1"}])
    built, rows = run(rules, events, questions, ["facility.limit", "customer.facilities"], facilities=facilities)
    assert [row["facility.limit"] for row in rows] == [0.0, 100.0, 100.0, 250.0]
    assert [row["customer.facilities"] for row in rows] == [1.0] * 4
    assert [(bad.row, bad.column) for bad in built.bad["questions"]] == [(5, "facility_id")]


def test_money_is_of_the_currency_that_a_row_says(rules: Path, tmp_path: Path) -> None:
    """An amount is CNY or says what else, so none is taken for a hundred times itself on a line in yen; an event that
    moves nothing is of no currency."""
    line = {
        "facility_id": "f-1", "customer_id": "c-1", "product": "p", "currency": "JPY", "limit": "9000",
        "outstanding": "0", "apr": "0.1", "status": "active", "as_of": T_MS, "granted_at": T_MS - DAY_MS,
    }  # fmt: skip
    paid = bought("c-1", "yen", T_MS, amount="700", currency="JPY")
    login = {"customer_id": "c-1", "event_id": "login", "kind": "login", "occurred_at": format_instant(T_MS)}
    asked = {"customer_id": "c-1", "at": T_MS + 1}
    questions = [
        asked | {"amount": "1000", "currency": "JPY"}, asked | {"amount": "1000"}, asked, {"event_id": "yen"},
        {"event_id": "login"}, {"event_id": "yen", "amount": "900"},
    ]  # fmt: skip
    built, rows = run(
        rules, write(tmp_path / "e.csv", [paid, login]), write(tmp_path / "q.csv", questions),
        ["request.amount", "facility.limit"], facilities=write(tmp_path / "f.csv", [line]),
    )  # fmt: skip
    assert [row["request.amount"] for row in rows] == [1_000.0, 0.0, 700.0, 0.0]
    assert {row["facility.limit"] for row in rows} == {9_000.0}
    assert [(bad.row, bad.column) for bad in built.bad["questions"]] == [(2, "currency"), (6, "currency")]


def random_files(tmp_path: Path, seed: int) -> tuple[Path, Path]:
    """A few hundred events and questions of every sort."""
    rng = np.random.default_rng(seed)
    when = T_MS + rng.integers(0, 20 * DAY_MS, 400)
    events = [
        bought(
            f"c-{int(rng.integers(30))}", f"e-{i}", int(at), counterparty_id=f"m-{int(rng.integers(4))}",
            recorded_at=format_instant(int(at + rng.integers(0, DAY_MS))),
        )
        for i, at in enumerate(when)
    ]  # fmt: skip
    asked = [
        {"event_id": f"e-{int(rng.integers(400))}", "customer_id": None, "at": None}
        if rng.random() < 0.5
        else {
            "event_id": None,
            "customer_id": f"c-{int(rng.integers(32))}",
            "at": int(T_MS + rng.integers(0, 20 * DAY_MS)),
        }
        for _ in range(300)
    ]
    return write(tmp_path / "e.parquet", events), write(tmp_path / "q.parquet", asked)


def test_however_the_work_is_divided_the_table_is_the_same(
    rules: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many small partitions, small groups of rows and several processes give the very table that one process gives."""
    events, questions = random_files(tmp_path, 3)
    whole, rows = run(rules, events, questions)
    monkeypatch.setattr(run_module, "_GROUP_BYTES", 1)
    monkeypatch.setattr(run_module, "_EVENT_BYTES", 1 << 20)
    divided, same = run(rules, events, questions, workers=2, memory_bytes=1)
    assert (whole.partitions, divided.partitions > 5, divided.workers) == (1, True, 2)
    assert same == rows
    assert len(rows) == 300


@pytest.mark.parametrize("seed", range(3))
def test_trimming_is_retentions(seed: int) -> None:
    """After every event the log has forgotten exactly what `core.retention.trim` forgets."""
    rng = np.random.default_rng(seed)
    times = np.cumsum(rng.integers(0, 10, 300)) + rng.integers(-30, 30, 300)
    retention_ms, most, slack = 400, 40, 10
    base, through = np.zeros(300, np.int64), np.zeros(300, np.int64)
    trimmed(times, np.array([0]), np.array([300]), retention_ms, most, slack, base, through)
    log = header()
    for i, at in enumerate(times.tolist()):
        log = trim(log, 1, at, retention_ms, most, slack) or log
        log += Event(key=i + 1, kind=5, status=1, occurred_at_ms=at).pack()
        assert (int(base[i]), int(through[i])) == read_header(log)


def test_unknown_features_are_refused_with_the_nearest_name(rules: Path) -> None:
    """A misspelt feature is a diagnostic, not an empty column."""
    with pytest.raises(PolicyRejected, match="pay_cnt_7d"):
        read_spec(rules, ["pay_cnt_7"], "UTC")


def test_a_questions_column_of_a_features_name_is_refused(rules: Path, tmp_path: Path) -> None:
    """The table would have the name twice."""
    events = write(tmp_path / "e.csv", [bought("c-1", "a", T_MS)])
    questions = write(tmp_path / "q.csv", [{"customer_id": "c-1", "at": T_MS, "pay_cnt_7d": 3}])
    with pytest.raises(InvalidInput, match="pay_cnt_7d"):
        run(rules, events, questions, ["pay_cnt_7d"])


def test_sources_of_attributes_have_their_names(tmp_path: Path) -> None:
    """Whether a source told something that is fresh, and how long ago, texts included: as rules and scorecards read."""
    rules = tmp_path / "rules"
    rules.mkdir()
    (rules / "attributes.yaml").write_text(
        "attributes:\n  a: {type: number, unit: n, source: desk, ttl: 1d, meaning: m}\n"
        "  b: {type: string, source: desk, ttl: 2d, meaning: m}\n"
        "  c: {type: flag, source: other, ttl: 1d, meaning: m}\n"
    )
    told = [("a", "5", T_MS), ("b", "x", T_MS + DAY_MS), ("a", "6", T_MS + 9 * DAY_MS)]
    values = [
        {"customer_id": "c-1", "name": name, "value": value, "as_of": at_ms} for name, value, at_ms in told
    ]  # fmt: skip
    at = [T_MS - 1, T_MS + 2_500, T_MS + 2 * DAY_MS, T_MS + 3 * DAY_MS + 1]
    _, rows = run(
        rules, write(tmp_path / "e.csv", [bought("c-1", "a", T_MS)]),
        write(tmp_path / "q.csv", [{"customer_id": "c-1", "at": one} for one in at]),
        ["a", "src_desk_ok", "feat_age_s_desk", "src_other_ok", "feat_age_s_other"],
        attributes=write(tmp_path / "a.csv", values),
    )  # fmt: skip
    assert [[row["a"], row["src_desk_ok"], row["feat_age_s_desk"]] for row in rows] == [
        [None, 0.0, None], [5.0, 1.0, 2.5], [None, 1.0, 86_400.0], [None, 0.0, 172_800.001]
    ]  # fmt: skip
    assert {(row["src_other_ok"], row["feat_age_s_other"]) for row in rows} == {(0.0, None)}


def test_everything_that_a_policy_uses(tmp_path: Path) -> None:
    """The shipped policy's features, scorecards' names and none of its internal operands become columns."""
    shipped = Path(__file__).parents[2]
    events = write(tmp_path / "e.csv", [bought("c-1", "a", T_MS)])
    out = tmp_path / "out.parquet"
    done = subprocess.run(
        [sys.executable, "-m", "decision_service", "features", "build", "--policy", str(shipped / "rules"), "--models",
         str(shipped / "models"), "--events", str(events), "--out", str(out), "--at",
         str(write(tmp_path / "q.csv", [{"customer_id": "c-1", "at": T_MS}])), "--json"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    names = parquet.read_schema(out).names
    assert len(names) > 50
    assert all(name.replace(".", "_").isidentifier() for name in names)


def test_the_command_tells_what_it_did(rules: Path, tmp_path: Path) -> None:
    """A JSON summary on standard output, rows left out on standard error and in a file, status 1 if a question was."""
    events = write(tmp_path / "e.csv", [bought("c-1", "a", T_MS), bought("c-1", "b", T_MS, amount="-1")])
    questions = write(tmp_path / "q.csv", [{"customer_id": "c-1", "at": str(T_MS)}, {"customer_id": "c-1", "at": "x"}])
    done = subprocess.run(
        [
            sys.executable, "-m", "decision_service", "features", "build", "--events", str(events), "--at",
            str(questions), "--out", str(tmp_path / "o.parquet"), "--rules", str(rules), "--names", "pay_cnt_7d",
            "--rejected", str(tmp_path / "bad.jsonl"), "--json",
        ],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    summary = orjson.loads(done.stdout)
    assert (summary["rows"], summary["left_out"]) == (1, {"events": 1, "questions": 1})
    assert "must not be negative" in done.stderr or "greater than zero" in done.stderr
    bad = [orjson.loads(line) for line in (tmp_path / "bad.jsonl").read_bytes().splitlines()]
    assert [(row["file"], row["row"], row["column"]) for row in bad] == [("e.csv", 2, "amount"), ("q.csv", 2, "at")]
