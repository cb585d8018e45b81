"""The model card of a small training run: every figure in it is what an independent computation gives."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import ks_2samp
from sklearn.metrics import roc_auc_score

from browser import CHROMIUM, browsing
from decision_service.report import Facts, Figure, Report, Table, Text, to_html, to_markdown
from decision_service.scorecards.files import load_scorecard
from decision_service.train import Trained
from decision_service.train.card import card_report, write_card
from decision_service.train.card.data import data
from decision_service.train.card.features import monotonicity
from decision_service.train.card.points import stability
from decision_service.train.card.purpose import limits
from decision_service.train.card.subject import subject_of
from decision_service.train.trained import Champion
from drawn import Drawn, is_rising


@pytest.fixture(scope="module")
def compared(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """The run, in a directory of its own, with a champion that knows less, and nothing of some rows."""
    directory = tmp_path_factory.mktemp("card") / trained.directory.parent.name / trained.directory.name
    shutil.copytree(trained.directory, directory)
    rng = np.random.default_rng(2)
    pds = np.clip(trained.pds * rng.uniform(0.3, 3.0, len(trained.pds)), 1e-4, 0.9)
    pds[rng.random(len(pds)) < 0.05] = np.nan
    scaling = trained.config.scaling
    points = np.array([np.nan if np.isnan(pd) else float(scaling.points(float(pd))) for pd in pds])
    return replace(trained, directory=directory, champion=Champion(trained.scorecard, pds, points))


@pytest.fixture(scope="module")
def card(compared: Trained) -> Report:
    """Its model card, as it was written beside the manifest."""
    said: list[str] = []
    card = write_card(compared, said.append)
    assert card is not None
    assert said == ["writing the model card"]
    return card


def figure(card: Report, name: str) -> Figure:
    return next(each for each in card.figures if each.name == name)


def table(card: Report, section: str, last: str) -> Table:
    """The table of a section whose last column is called so."""
    blocks = next(each.blocks for each in card.sections if each.title == section)
    return next(block for block in blocks if isinstance(block, Table) and block.columns[-1] == last)


def judged(trained: Trained) -> tuple[np.ndarray, np.ndarray]:
    """PDs and outcomes of the rows nothing was fitted to."""
    return trained.pds[trained.division.judge], trained.sample.bad[trained.division.judge] == 1


def test_a_card_has_every_part_that_is_asked_for(card: Report) -> None:
    """Purpose, sample, performance, calibration, points, drift, features, reasons, champion, limits and origin."""
    assert [section.title for section in card.sections] == [
        "In short", "Purpose and intended use", "Population and sample design", "Rows and bads", "Performance",
        "Calibration", "Points and grades", "Stability", "Features", "Points table", "Monotonicity", "Reasons",
        "Champion", "Limits and ethics", "How to reproduce it",
    ]  # fmt: skip
    assert [each.name for each in card.figures] == [
        "bad-rate-by-month", "roc", "ks", "gains", "lift", "calibration", "points", "grades", "psi-by-month",
        "importance", "responses", "reasons", "roc-champion",
    ]  # fmt: skip
    assert "nan" not in to_markdown(card).lower().replace("finance", "")


def test_its_roc_has_sklearns_area(card: Report, compared: Trained) -> None:
    """Measured in the drawing: training, validation, out of time, and the champion on the rows that both score."""
    division = compared.division
    drawn = Drawn(figure(card, "roc"))
    for i, mask in enumerate((division.train, division.validate, division.judge)):
        x, y = drawn.line(f"curve-{i}")
        assert np.trapezoid(y, x) == pytest.approx(
            roc_auc_score(compared.sample.bad[mask], compared.pds[mask]), abs=2e-3
        )
    assert compared.champion is not None
    both = division.judge & np.isfinite(compared.champion.pds)
    for i, pds in enumerate((compared.pds, compared.champion.pds)):
        x, y = Drawn(figure(card, "roc-champion")).line(f"curve-{i}")
        assert np.trapezoid(y, x) == pytest.approx(roc_auc_score(compared.sample.bad[both], pds[both]), abs=2e-3)


def test_its_ks_is_scipys(card: Report, trained: Trained) -> None:
    """The gap in the drawing, the line of the table and scipy agree."""
    pds, bad = judged(trained)
    expected = ks_2samp(pds[bad], pds[~bad]).statistic
    _, gap = Drawn(figure(card, "ks")).line("gap")
    assert abs(gap[1] - gap[0]) == pytest.approx(expected, abs=2e-3)
    assert table(card, "Performance", "p").rows[-1][4] == f"{100 * expected:.1f} %"


def test_its_gains_end_with_all_rows_and_all_bads(card: Report, trained: Trained) -> None:
    """In the drawing and in the table, which agree at every tenth."""
    pds, bad = judged(trained)
    x, y = Drawn(figure(card, "gains")).line("curve-1")
    assert (x[-1], y[-1]) == pytest.approx((1.0, 1.0), abs=2e-3)
    assert is_rising(y)
    order = np.argsort(-pds, kind="stable")
    rows = table(card, "Performance", "bads so far").rows
    assert rows[-1][-2:] == ("100.0 %", "100.0 %")
    riskiest = order[: int(str(rows[0][1]))]
    assert rows[0][2] == bad[riskiest].sum()
    assert sum(int(str(row[2])) for row in rows) == bad.sum()


def test_its_calibration_points_are_means_of_groups(card: Report, trained: Trained) -> None:
    """Ten groups by PD, of the sizes that the table says; those without a bad are drawn apart."""
    pds, bad = judged(trained)
    sizes = [int(str(row[1])) for row in table(card, "Calibration", "holds the PD").rows]
    assert (len(sizes), sum(sizes)) == (10, len(pds))
    groups = np.split(np.argsort(pds, kind="stable"), np.cumsum(sizes)[:-1])
    observed = [(pds[group].mean(), bad[group].mean()) for group in groups if bad[group].any()]
    x, y = Drawn(figure(card, "calibration"), log=True).markers("observed")
    assert x == pytest.approx([pd for pd, _ in observed], rel=0.03)
    assert y == pytest.approx([rate for _, rate in observed], rel=0.03)


def test_its_psi_by_month_is_that_of_the_formula(card: Report, trained: Trained) -> None:
    """Against the shares in the manifest, over the rows that no tree has seen."""
    manifest = trained.scorecard.manifest
    row = table(card, "Stability", "verdict").rows[-1]
    months = np.array([np.datetime64(int(at) + 8 * 3_600_000, "ms").astype("datetime64[M]").astype(str)
                       for at in trained.sample.observed_at_ms])  # fmt: skip
    points = trained.points[~trained.division.train & (months == row[0])]
    cuts = sorted(set(manifest.score_deciles))
    counts = np.bincount(np.searchsorted(cuts, points), minlength=len(cuts) + 1)
    q, p = np.maximum(counts, 0.5) / len(points), np.array(manifest.score_shares)
    assert row[1:3] == (len(points), len(p))
    assert float(str(row[3])) == pytest.approx(float(np.sum((q - p) * np.log(q / p))), abs=1e-4)


def test_its_features_are_all_of_the_scorecards(card: Report, trained: Trained) -> None:
    """Each once with its meaning; shares of importance add up; splits are those of LightGBM's own count."""
    rows = table(card, "Features", "gain").rows
    assert sorted(str(row[0]).strip("`") for row in rows) == sorted(trained.scorecard.names)
    assert sum(float(str(row[6]).removesuffix(" %")) for row in rows) == pytest.approx(100.0, abs=0.5)
    text = trained.fitted.model_text.decode()
    counted = {name: int(n) for name, n in re.findall(r"^([\w.]+)=(\d+)$", text.split("feature_importances:")[1], re.M)}
    assert {str(row[0]).strip("`"): row[7] for row in rows if row[7]} == counted
    assert {"use of the line", "days since the grant"} <= {row[1] for row in rows}


def test_its_promises_are_checked_row_by_row(trained: Trained, card: Report) -> None:
    """What promises to rise and falls is called broken: here by turning a promise around."""
    assert {row[-1] for row in table(card, "Monotonicity", "promise").rows} == {"kept"}
    manifest = trained.scorecard.manifest
    turned = tuple(replace(feature, monotone=-feature.monotone) for feature in manifest.features)
    liar = replace(trained, scorecard=replace(trained.scorecard, manifest=replace(manifest, features=turned)))
    broken = table(Report("", "", (monotonicity(subject_of(liar)),)), "Monotonicity", "promise")
    assert "broken" in {row[-1] for row in broken.rows}


def test_its_swap_set_holds_every_row_once(card: Report, compared: Trained) -> None:
    """Kept, in, out and neither; in and out are of one size, because both accept as many."""
    rows = table(card, "Champion", "bad rate").rows
    assert compared.champion is not None
    assert sum(int(str(row[1])) for row in rows) == (np.isfinite(compared.champion.pds) & compared.division.judge).sum()
    assert rows[1][1] == rows[2][1]


def test_a_table_without_dates_has_a_card_that_says_so(trained: Trained) -> None:
    """Sections that rest on months or on a time behind training do not make them up."""
    nothing = np.zeros(len(trained.sample.bad))
    undated = replace(trained.sample, observed_at_ms=nothing.astype(np.int64), out_of_time=nothing.astype(np.bool_))
    subject = subject_of(replace(trained, sample=undated))
    assert subject.judged.title == "held out"
    for section in (data(subject), stability(subject)):
        said = [block.text for block in section.blocks if isinstance(block, Text)]
        assert any("not known" in text for text in said)
        assert not [block for block in section.blocks if isinstance(block, Figure)]


def test_features_named_like_a_protected_attribute_are_pointed_out(trained: Trained) -> None:
    """The age of the line is not the age of the borrower, but a column named so would be."""
    said = str(limits(subject_of(trained)))
    assert "No feature is named like one of these." in said
    manifest = trained.scorecard.manifest
    features = (replace(manifest.features[0], name="MARRIAGE"), *manifest.features[1:])
    config = replace(trained.config, features=(replace(trained.config.features[0], name="MARRIAGE"),
                                               *trained.config.features[1:]))  # fmt: skip
    named = replace(trained.scorecard, manifest=replace(manifest, features=features))
    assert "By their names `MARRIAGE` may be just that" in str(
        limits(subject_of(replace(trained, config=config, scorecard=named)))
    )


def test_a_card_stands_beside_the_manifest_and_loading_ignores_it(compared: Trained, card: Report) -> None:
    """A page, Markdown and its figures, which say what the report says."""
    assert (compared.directory / "model_card.html").read_text() == to_html(card)
    assert (compared.directory / "model_card.md").read_text() == to_markdown(card, "model_card_figures")
    assert len(list((compared.directory / "model_card_figures").iterdir())) == len(card.figures)
    assert load_scorecard(compared.directory).manifest == compared.scorecard.manifest


@pytest.mark.slow
def test_the_same_run_gives_the_same_card(compared: Trained, card: Report) -> None:
    """Nothing of the clock or of chance is in it."""
    assert card_report(compared) == card


def test_a_card_tells_how_many_of_the_judged_training_knew(card: Report, trained: Trained) -> None:
    """Customers of the training rows come back later; the AUC of the others stands beside theirs."""
    sample, judge = trained.sample, trained.division.judge
    known = np.isin(sample.customer[judge], sample.customer[trained.division.train])
    bad, pds = sample.bad[judge], trained.pds[judge]
    seen, unseen = (roc_auc_score(bad[mask], pds[mask]) for mask in (known, ~known))
    page = to_markdown(card, "figures")
    assert f"Of the judged rows {known.sum()} of {len(known)} are of customers that training had." in page
    assert f"AUC is {seen:.3f} on them and {unseen:.3f} (standard error " in page


def test_what_a_card_says_in_short_is_what_the_manifest_says(card: Report, trained: Trained) -> None:
    """AUC, KS and the model are those of the metrics written beside the model."""
    facts = next(block for block in card.sections[0].blocks if isinstance(block, Facts))
    said = dict(facts.pairs)
    assert str(said["AUC"]).startswith(f"{trained.metrics['oot_auc']:.3f} ")
    assert said["KS"] == f"{100 * trained.metrics['oot_ks']:.1f} %"
    assert said["model"] == trained.fitted.about


@pytest.mark.skipif(not CHROMIUM, reason="Chromium is not installed")
def test_a_card_opens_in_a_browser(compared: Trained, card: Report, tmp_path: Path) -> None:
    """Every figure is to be seen, nothing is fetched, and the browser has nothing to complain about."""
    page = (compared.directory / "model_card.html").as_uri()
    with browsing(tmp_path) as browser:
        browser.open(page, 1280, False)
        assert [url for url in browser.requests() if not url.startswith("data:")] == [page]
        assert browser.complaints() == []
        shown = browser.value(
            "[...document.querySelectorAll('figure')].map(f => [f.id, f.querySelector('svg').clientWidth])"
        )
        assert [name for name, width in shown if width >= 300] == [each.name for each in card.figures]
        assert browser.value("document.querySelectorAll('h2').length") == len(card.sections)
