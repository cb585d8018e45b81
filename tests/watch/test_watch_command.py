"""`models watch` over a store that a service filled, against a recount of everything by hand."""

from __future__ import annotations

import asyncio
import json
import time
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from counted import counted
from sklearn.metrics import roc_auc_score, roc_curve
from watched_service import Asked, asked, population

from decision_service.api.instants import format_instant
from decision_service.cli import main
from decision_service.core.event import BOOKED, CANCELLED, EMPTY_LOG, KINDS, Event, code_key, drawdown_key
from decision_service.core.limits import DAY_MS, PARTITIONS
from decision_service.core.scorecards.manifest import Target
from decision_service.decision_log import answer_in
from decision_service.store import Commit, Store
from decision_service.store.keys import decision_id_of
from decision_service.store.open import open_store
from decision_service.watch.outcomes import Outcome, outcomes_in

NOW_MS = time.time_ns() // 1_000_000  # an outbox is read by the store's own clock
ZONE = ZoneInfo("Asia/Shanghai")
T = 5.0


class Happened(NamedTuple):
    """An event of a customer, so many days after their request."""

    day: float
    kind: str
    value: float
    status: int = BOOKED
    code: int = 0


def watch(url: str, models: Path, capsys: pytest.CaptureFixture[str], *options: str) -> tuple[int, Any]:
    """Exit status and JSON of the command."""
    status = main(["models", "watch", "--redis-url", url, "--models", str(models), "--json", *options])
    return status, json.loads(capsys.readouterr().out)


def fates(seed: int, people: int) -> list[list[Happened]]:
    """What becomes of people: overdue early, late, too little, too late, cancelled, labelled, or nothing."""
    random = np.random.default_rng(seed)
    sorts: list[list[Happened]] = [
        [], [], [Happened(89.9, "overdue", 30.0)], [Happened(20, "overdue", 29.0)], [Happened(90.1, "overdue", 60.0)],
        [Happened(10, "overdue", 45.0, CANCELLED)], [Happened(5, "overdue", 5.0), Happened(40, "overdue", 31.0)],
        [Happened(-1, "overdue", 90.0)], [Happened(0, "overdue", 90.0)],
        [Happened(30, "label", float("nan"), BOOKED, code_key("fraud"))],
    ]  # fmt: skip
    return [sorts[i] for i in random.integers(0, len(sorts), people)]


async def live(store: Store, requests: list[Asked], events: list[list[Happened]]) -> None:
    """Append what happened to each customer's log."""
    for i, (one, some) in enumerate(zip(requests, events, strict=True)):
        if not some:
            continue
        state = await store.read(one.customer_id, None, T)
        records = b"".join(
            Event(
                key=1_000 * i + k + 1, kind=KINDS[e.kind], status=e.status, value=e.value, code=e.code,
                occurred_at_ms=one.at_ms + round(e.day * DAY_MS),
            ).pack()
            for k, e in enumerate(some)
        )  # fmt: skip
        await store.commit(Commit(one.customer_id, state.version, records), T)


def fate(events: list[Happened], age_d: float, label: str | None = None) -> str:
    """What became of a request that old, by definition."""
    bad = any(
        0 < e.day <= 90 and e.day <= age_d and e.status == BOOKED
        and (e.kind == "label" and label == "fraud" if label else e.kind == "overdue" and e.value >= 30)
        for e in events
    )  # fmt: skip
    return ("bad" if bad else "good") if age_d >= 90 else ("early_bad" if bad else "immature")


async def answers_of(store: Store, requests: list[Asked]) -> list[dict[str, Any]]:
    """The stored answers, one by one."""
    found = []
    for one in requests:
        frame = await store.read_decision(decision_id_of(one.customer_id, one.request_id, PARTITIONS), T)
        assert frame is not None
        found.append(json.loads(answer_in(frame)))
    return found


async def past_lived(url: str, rules: Path, models: Path, folder: Path, people: int) -> tuple[Any, ...]:
    """People who drew within nine months, what became of them, and the stored answers."""
    store = open_store(url)
    ages = np.random.default_rng(21).uniform(1, 270, people)
    requests = asked(population(20, people), "w", [NOW_MS - round(age * DAY_MS) for age in ages])
    events = fates(22, people)
    async with counted(store, rules, models, folder, NOW_MS) as worker:
        await worker.decide(requests, NOW_MS)
    await live(store, requests, events)
    answers = await answers_of(store, requests)
    await store.close()
    return requests, events, answers


@pytest.mark.parametrize(("label", "options"), [
    (None, ()), ("fraud", ("--label", "fraud", "--performance-days", "90")),
])  # fmt: skip
def test_watch_outcomes_are_those_of_a_recount_by_hand(
    tmp_path: Path, valkey: str, rules: Path, models: Path, capsys: pytest.CaptureFixture[str],
    label: str | None, options: tuple[str, ...],
) -> None:  # fmt: skip
    """250 people over nine months, ten sorts of fate: counts, AUC, KS, calibration and vintages of the matured."""
    requests, events, answers = asyncio.run(past_lived(valkey, rules, models, tmp_path / "meters", 250))
    status, told = watch(valkey, models, capsys, "--until", format_instant(NOW_MS + 1), *options)
    assert status in (0, 1)
    (one,) = told["watched"]
    became = [fate(e, (NOW_MS + 1 - r.at_ms) / DAY_MS, label) for e, r in zip(events, requests, strict=True)]
    assert {k: v for k, v in one["outcomes"].items() if v} == {k: became.count(k) for k in sorted(set(became))}
    matured = [i for i, what in enumerate(became) if what in ("good", "bad")]
    pd = np.array([answers[i]["scores"]["behaviour"]["pd"] for i in matured])
    bad = np.array([became[i] == "bad" for i in matured])
    fpr, tpr, _ = roc_curve(bad, pd)
    found = one["quality"]
    assert (found["rows"], found["bads"]) == (len(matured), int(bad.sum()))
    assert found["auc"] == pytest.approx(roc_auc_score(bad, pd), abs=1e-12)
    assert found["ks"] == pytest.approx(float(np.max(tpr - fpr)), abs=1e-12)
    assert found["pd_mean"] == pytest.approx(float(pd.mean()), abs=1e-12)
    middle = np.array([(np.sum(pd < one) + np.sum(pd <= one)) / 2 for one in pd])
    groups = np.minimum((10 * middle / len(pd)).astype(int), 9)
    tenths = [np.flatnonzero(groups == i) for i in range(10) if (groups == i).any()]
    error_by_hand = sum(len(g) * abs(pd[g].mean() - bad[g].mean()) for g in tenths) / len(pd)
    assert found["calibration_error"] == pytest.approx(error_by_hand, abs=1e-12)
    months = [datetime.fromtimestamp(r.at_ms / 1_000, ZONE).strftime("%Y-%m") for r in requests]
    for vintage in one["vintages"]:
        here = [what for what, month in zip(became, months, strict=True) if month == vintage["month"]]
        assert vintage["decisions"] == len(here)
        assert vintage["matured"] == here.count("good") + here.count("bad")
        assert vintage["early"] == here.count("immature") + here.count("early_bad")
        assert vintage["early_bads"] == here.count("early_bad")


async def decided(url: str, rules: Path, models: Path, folder: Path, people: Any, prefix: str, at_ms: int) -> None:
    """These people draw at an instant."""
    store = open_store(url)
    async with counted(store, rules, models, folder, at_ms) as worker:
        await worker.decide(asked(people, prefix, [at_ms] * len(people)), at_ms)
    await store.close()


async def published(url: str) -> Any:
    """What is kept for the gauges."""
    store = open_store(url)
    kept = await store.read_watches(T)
    await store.close()
    return {name: json.loads(document) for name, document in kept.items()}


def test_watch_finds_what_moved_and_ends_with_a_status_that_says_so(
    tmp_path: Path, valkey: str, rules: Path, models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same people as in training: no trigger, status 0. Others: PSI and nulls are reasons to rebuild, status 1; the
    figures stand in the report and, published, in the store."""
    asyncio.run(decided(valkey, rules, models, tmp_path, population(30, 250), "s", NOW_MS))
    status, told = watch(valkey, models, capsys, "--until", format_instant(NOW_MS + 1))
    assert (status, told["triggered"]) == (0, False)
    assert told["watched"][0]["drift"]["score"]["drift"]["verdict"] == "steady"
    moved = population(31, 250, shift=0.8, null_share=0.7)
    asyncio.run(decided(valkey, rules, models, tmp_path, moved, "m", NOW_MS + DAY_MS))
    report = tmp_path / "report.html"
    since = ("--since", format_instant(NOW_MS + 1), "--until", format_instant(NOW_MS + 2 * DAY_MS))
    status, told = watch(valkey, models, capsys, "behaviour/1", *since, "--publish", "--out", str(report))
    (one,) = told["watched"]
    assert status == 1
    assert {f["code"] for f in one["findings"] if f["severity"] == "trigger"} == {"psi", "null_shift"}
    assert one["n"] == 250
    assert sum(day["n"] for day in one["days"]) == 250
    page = report.read_text()
    assert "behaviour/1 as champion: drift" in page
    assert page.count("<svg") >= 2
    kept = asyncio.run(published(valkey))
    assert kept["behaviour/1"]["watched_timestamp_seconds"] == (NOW_MS + 2 * DAY_MS) / 1_000


def test_watch_of_an_empty_store_says_so(valkey: str, models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing to look at is no reason to rebuild."""
    assert main(["models", "watch", "--redis-url", valkey, "--models", str(models)]) == 0
    assert capsys.readouterr().out.startswith("no decision with a score from ")


def test_watch_of_a_name_that_nobody_was_scored_by_is_an_error(
    valkey: str, models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A misspelt name or directory must not look like a scorecard that is well."""
    assert main(["models", "watch", "behavior", "--redis-url", valkey, "--models", str(models)]) == 6
    assert "no decision between the two instants has a score of 'behavior'" in capsys.readouterr().err
    assert main(["models", "watch", "--data-dir", str(tmp_path / "nowhere")]) == 2
    assert "there is no store in" in capsys.readouterr().err
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize(("options", "said"), [
    (("--since", "yesterday"), "since: 'yesterday' is neither a date such as"),
    (("--since", "2026-02-02", "--until", "2026-02-01"), "since: must lie before --until"),
    (("--out", "report.pdf"), "out: report.pdf must end in .html or .md"),
    (("--bad-dpd", "30"), "performance_days: is needed with --bad-dpd and --label"),
])  # fmt: skip
def test_watch_refuses_options_that_mean_nothing(
    options: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before anything is read, naming the option."""
    assert main(["models", "watch", "--redis-url", "redis://127.0.0.1:1", *options]) == 5
    assert said in capsys.readouterr().err


def test_watch_an_empty_log_is_that_of_a_good_customer() -> None:
    """A log without events has no bad ones."""
    known = outcomes_in(EMPTY_LOG, Target(90, 30), by_loan=False)
    assert known.of("d" * 36, NOW_MS, NOW_MS + 90 * DAY_MS) is Outcome.GOOD
    assert known.of("d" * 36, NOW_MS, NOW_MS + 90 * DAY_MS - 1) is Outcome.IMMATURE


def test_watch_a_loan_is_told_by_the_events_that_name_it() -> None:
    """Arrears that name another drawdown, or none, are not the decision's; of the customer all of them count."""
    decision = "d001" + f"{7:032x}"
    at_ms = NOW_MS + DAY_MS

    def bad(key: int, names: int) -> bytes:
        return Event(
            key=key, kind=KINDS["overdue"], status=BOOKED, occurred_at_ms=at_ms, value=45.0, settles=names
        ).pack()

    def outcome(by_loan: bool, *records: bytes) -> Outcome:
        known = outcomes_in(EMPTY_LOG + b"".join(records), Target(90, 30), by_loan)
        return known.of(decision, NOW_MS, NOW_MS + 90 * DAY_MS)

    mine, another, nobodys = bad(1, drawdown_key(decision)), bad(2, 99), bad(3, 0)
    assert outcome(True, another, nobodys) is Outcome.GOOD
    assert outcome(True, another, nobodys, mine) is Outcome.BAD
    assert outcome(False, nobodys) is Outcome.BAD
