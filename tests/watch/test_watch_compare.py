"""Comparing versions: intervals from the literature, swap sets by hand, sides and shares of synthetic decisions."""

from __future__ import annotations

import asyncio
import json
import math
import time
from pathlib import Path

import numpy as np
import pytest
from counted import counted
from scipy.stats import spearmanr
from watched_service import asked, population, write_policy, write_scorecard

from decision_service.api.instants import format_instant
from decision_service.cli import main
from decision_service.core.decision import Score
from decision_service.core.limits import DAY_MS
from decision_service.core.scorecards.manifest import Target
from decision_service.core.scorecards.roles import share_of
from decision_service.core.zone import zone_named
from decision_service.store.open import open_store
from decision_service.watch.comparing import Compared, Pairs, compared, take_pairs
from decision_service.watch.decisions import Decided, Scored
from decision_service.watch.manifests import CardName, Manifests
from decision_service.watch.outcomes import Outcome
from decision_service.watch.quality import (
    calibration_groups,
    mean_difference,
    quality,
    share,
    share_difference,
    two_proportion_p,
)
from decision_service.watch.record import Records
from decision_service.watch.said import said_by
from decision_service.watch.tally import Answered

OLD, NEW, DARK = (CardName("behaviour", version) for version in ("1", "2", "3"))
T0_MS = 1_780_000_000_000
NOW_MS = time.time_ns() // 1_000_000  # an outbox is read by the store's own clock
T = 5.0


def test_shares_have_wilsons_interval() -> None:
    """The examples of R. Newcombe, Statistics in Medicine 17 (1998), 857-872."""
    for count, n, low, high in ((81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611)):
        found = share(count, n)
        assert (found.low, found.high) == (pytest.approx(low, abs=5e-5), pytest.approx(high, abs=5e-5))
    assert math.isnan(share(0, 0).value)


def test_differences_have_newcombes_interval() -> None:
    """Example (a) of R. Newcombe, Statistics in Medicine 17 (1998), 873-890: 56/70 and 48/80."""
    found = share_difference(56, 70, 48, 80)
    assert (found.low, found.high) == (pytest.approx(0.0524, abs=5e-5), pytest.approx(0.3339, abs=5e-5))
    assert two_proportion_p(56, 70, 48, 80) == pytest.approx(0.00807, abs=5e-5)
    assert two_proportion_p(5, 5, 7, 7) == 1.0
    assert math.isnan(two_proportion_p(0, 0, 1, 2))


def test_a_difference_of_means_is_known_from_two_of_each_on() -> None:
    """The normal interval; with one row there is no variance."""
    found = mean_difference(np.array([3.0, 5.0]), np.array([1.0, 3.0]))
    assert (found.value, found.high - found.value) == (2.0, pytest.approx(1.959964 * math.sqrt(2.0)))
    assert math.isnan(mean_difference(np.array([1.0]), np.array([1.0, 2.0])).value)


def test_equal_probabilities_stay_together_whatever_the_order_of_rows() -> None:
    """Figures of quality do not depend on the order in which a store tells its decisions."""
    random = np.random.default_rng(1)
    pd = random.choice([0.01, 0.02, 0.05, 0.2], 500)
    bad = random.random(500) < pd
    order = random.permutation(500)
    assert quality(pd, bad) == quality(pd[order], bad[order])
    assert [group.rows for group in calibration_groups(pd, bad)] == np.unique(pd, return_counts=True)[1].tolist()


def test_a_side_without_bads_has_no_auc() -> None:
    """Only goods: a bad rate of 0, and no figure that would need both."""
    found = quality(np.array([0.1, 0.2]), np.array([False, False]))
    assert found.bad_rate == 0.0
    assert math.isnan(found.auc)
    assert math.isnan(found.ks)
    assert found.thin


def test_a_challenger_that_had_no_score_is_told_by_the_one_that_stood_in() -> None:
    """One recorded score, two versions: the challenger's refusal with its reason, and the champion's score."""
    stood_in = Score(600, 0.02, "C", "1", "challenger 2: all features null")
    refused, champion = said_by(stood_in, "champion")
    assert (refused.role, refused.version, refused.score) == (
        "challenger", "2", Score(None, None, None, "2", "all features null"),
    )  # fmt: skip
    assert (champion.role, champion.score) == ("champion", Score(600, 0.02, "C", "1", ""))
    both = Score(None, None, None, "1", "challenger 2: feature a is infinite; champion: all features null")
    assert [said.score.problem for said in said_by(both, "champion")] == ["feature a is infinite", "all features null"]
    own = Score(600, 0.02, "C", "2", "")
    assert [said.role for said in said_by(own, "challenger")] == ["challenger"]


def decided(number: int, scored: tuple[Scored, ...], approved: bool) -> Decided:
    """One synthetic drawdown of a customer of its own."""
    answered = Answered("approve" if approved else "hold", None if approved else "review", approved, "full")
    return Decided(f"d{number:035d}", f"c-{number}", "drawdown", T0_MS, T0_MS, answered, scored)


def scored(card: CardName, role: str, pd: float | None, bad: bool) -> Scored:
    """What a version said, and what became."""
    score = Score(None, None, None, card.version, "all features null") if pd is None else (
        Score(600, pd, "C", card.version)
    )  # fmt: skip
    return Scored(card, role, score, np.empty(0), Outcome.BAD if bad else Outcome.GOOD)


def compare(page: list[Decided], tmp_path: Path, declared: float = math.nan) -> Compared:
    """The comparison of a page."""
    records, pairs = Records(Manifests(tmp_path), zone_named("UTC")), dict[CardName, Pairs]()
    records.take(page, "behaviour")
    take_pairs(page, "behaviour", pairs)
    return compared("behaviour", Target(90, 30), records.by_part, pairs, declared)


def test_a_swap_set_is_what_both_would_approve_at_the_same_rate(tmp_path: Path) -> None:
    """1,000 customers scored by both: every cell's size, bads and bad rate by counting sets."""
    random = np.random.default_rng(4)
    truth = random.normal(size=1_000)
    ours, theirs = (1 / (1 + np.exp(-(truth + random.normal(0, noise, 1_000) - 2))) for noise in (1.5, 0.5))
    bad = random.random(1_000) < 1 / (1 + np.exp(-(truth - 2)))
    page = [
        decided(i, (scored(OLD, "champion", p, b), scored(DARK, "shadow", q, b)), approved=p < 0.15)
        for i, (p, q, b) in enumerate(zip(ours.tolist(), theirs.tolist(), bad.tolist(), strict=True))
    ]
    (swap,) = compare(page, tmp_path).swaps
    n = sum(p < 0.15 for p in ours)
    by_us, by_them = (set(np.argsort(side, kind="stable")[:n].tolist()) for side in (ours, theirs))
    cells = {
        "kept": by_us & by_them, "in": by_them - by_us, "out": by_us - by_them,
        "held": set(range(1_000)) - by_us - by_them,
    }  # fmt: skip
    for cell in swap.cells:
        here = cells[cell.cell]
        assert (cell.customers, cell.matured) == (len(here), len(here))
        assert cell.bad_rate.value == pytest.approx(sum(bool(bad[i]) for i in here) / len(here))
    assert swap.pd_correlation == pytest.approx(spearmanr(ours, theirs).statistic, abs=1e-12)
    assert swap.in_less_out.value < 0, "the better version takes in better customers than it lets go"
    assert swap.champion is not None
    assert swap.quality is not None
    assert swap.quality.auc > swap.champion.auc


def test_sides_shares_and_differences_are_counted_by_customer_and_decision(tmp_path: Path) -> None:
    """90 customers of the champion, 10 of the challenger, one of whom it could not score."""
    page = [decided(i, (scored(OLD, "champion", 0.1, bad=i < 9),), approved=i % 2 == 0) for i in range(90)]
    page += [decided(i, (scored(NEW, "challenger", 0.05, bad=i == 90),), approved=True) for i in range(90, 99)]
    page += [decided(99, (scored(NEW, "challenger", None, bad=False), scored(OLD, "champion", 0.1, bad=False)), True)]
    found = compare(page, tmp_path, declared=0.1)
    one, other = found.sides
    assert [(s.card, s.role, s.decisions, s.customers, s.refused) for s in (one, other)] == [
        (OLD, "champion", 91, 91, 0), (NEW, "challenger", 10, 10, 1),
    ]  # fmt: skip
    assert found.realised_share.value == pytest.approx(0.10)
    assert found.share_holds is True
    assert compare(page, tmp_path, declared=0.3).share_holds is False
    by_figure = {difference.figure: difference for difference in found.differences}
    assert by_figure["approved"].value.value == pytest.approx(10 / 10 - 46 / 91)
    assert by_figure["bad rate"].value.value == pytest.approx(1 / 9 - 9 / 91)
    assert by_figure["pd"].value.value == pytest.approx(0.05 - 0.1)
    assert found.swaps == ()


HEAD = """label: roles
scorecards:
  behaviour:
    champion: "1"
    challenger: {version: "2", share: 0.3}
    shadows: ["3"]
"""


async def lived(url: str, rules: Path, models: Path, folder: Path) -> dict[str, int]:
    """150 people draw; the decisions counted live, by role."""
    store = open_store(url)
    async with counted(store, rules, models, folder, NOW_MS) as worker:
        await worker.decide(asked(population(40, 150), "x", [NOW_MS - 100 * DAY_MS] * 150), NOW_MS)
        await worker.counting.flush()
        await worker.gauges.refresh()
        told = {s.labels["role"] for m in worker.gauges.collect() for s in m.samples if "role" in s.labels}
    assert told == {"champion", "challenger", "shadow"}
    counts = {}
    for series, days in (await store.tally_days(T)).items():
        counts[series.split("/")[3]] = sum([(await store.read_tally(series, day, T))[b"n"] for day in days])
    await store.close()
    return counts


def test_compare_tells_the_sides_of_real_decisions(
    tmp_path: Path, valkey: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Champion, challenger and shadow of a real policy: live counts, the command's figures and the fixed share agree;
    the report is drawn; `models watch` tells each of them apart."""
    models = tmp_path / "models"
    for version in ("1", "2", "3"):
        write_scorecard(models, version, seed=10 * int(version), rows=2_000)
    rules = write_policy(tmp_path / "rules", HEAD)
    counts = asyncio.run(lived(valkey, rules, models, tmp_path / "meters"))
    theirs = sum(share_of("behaviour", f"x-{i}") < 0.3 for i in range(150))
    assert counts == {"champion": 150 - theirs, "challenger": theirs, "shadow": 150}

    report = tmp_path / "compare.html"
    where = ["--redis-url", valkey, "--models", str(models), "--until", format_instant(NOW_MS + 1), "--json"]
    asked_for = ["models", "compare", "behaviour", "--rules", str(rules), "--out", str(report), *where]
    assert main(asked_for) == 0
    found = json.loads(capsys.readouterr().out)
    assert {s["role"]: s["decisions"] for s in found["sides"]} == counts
    assert found["declared_share"] == 0.3
    assert found["realised_share"]["value"] == pytest.approx(theirs / 150)
    assert found["share_holds"] is True
    (swap,) = found["swaps"]
    assert swap["both_scored"] == counts["champion"]
    assert sum(cell["customers"] for cell in swap["cells"]) == counts["champion"]
    assert "challenger" in report.read_text()
    assert main(["models", "watch", *where]) in (0, 1)
    assert {one["role"]: one["n"] for one in json.loads(capsys.readouterr().out)["watched"]} == counts
    assert main(["models", "compare", "unheard_of", "--rules", str(rules), *where]) == 6
