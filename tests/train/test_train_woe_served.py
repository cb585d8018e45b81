"""A points scorecard beside a tree model in one policy, trained on the same customers, answering over HTTP."""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from decision_service.api.examples import DECISIONS, FACILITY
from decision_service.scorecards.files import load_scorecard
from decision_service.train import Trained
from service_process import ServiceProcess

RULES = """\
rule_set: drawdown
scene: drawdown
rules:
  - id: weak_points
    when: classic.points <= 850
    on_null: hold
    then: {hold: review}
    reason: RC30
  - id: known_to_trees
    when: behaviour.points >= 300
    on_null: skip
    then: approve
fallback: {static: {hold: review, reason: RC90}}
"""
CARDS = ("behaviour", "classic")


@pytest.fixture(scope="module")
def service(
    trained: Trained, woe_trained: Trained, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ServiceProcess]:
    """A service whose policy has both scorecards, and that knows a line of credit."""
    folder = tmp_path_factory.mktemp("beside")
    shutil.copytree(Path(__file__).parent / "rules", folder / "rules" / "features")
    (folder / "rules" / "drawdown.yaml").write_text(RULES)
    for run in (trained, woe_trained):
        shutil.copytree(run.directory, folder / "models" / run.scorecard.name / run.scorecard.version)
    with ServiceProcess(folder, rules=folder / "rules", models=folder / "models") as running:
        assert httpx.put(f"{running.url}/v1/facilities/f-1001", json=FACILITY).status_code == 200
        yield running


def decided(service: ServiceProcess, request_id: str) -> dict[str, Any]:
    """The stored decision on a drawdown, with its trace."""
    body = {**DECISIONS["drawdown"], "request_id": request_id, "deadline_ms": 5_000}
    answer = httpx.post(f"{service.url}/v1/decisions", json=body, timeout=10).json()
    told: dict[str, Any] = httpx.get(f"{service.url}/v1/decisions/{answer['decision_id']}").json()
    return told


def row_of(told: dict[str, Any], names: tuple[str, ...]) -> np.ndarray:
    """What a scorecard saw, as the decision recorded it."""
    return np.array([math.nan if (x := told["features"][name]) is None else x for name in names], np.float64)


def test_both_scorecards_score_the_same_customer(
    service: ServiceProcess, trained: Trained, woe_trained: Trained
) -> None:
    """Each gives the points, PD and grade that it gives in a notebook, for what the decision recorded."""
    told = decided(service, "both")
    assert set(told["scores"]) == set(CARDS)
    for run in (trained, woe_trained):
        card = load_scorecard(run.directory)
        score = card.score(row_of(told["trace"]["scorecards"][card.name], card.names))
        assert told["scores"][card.name]["points"] == score.points
        assert told["scores"][card.name]["grade"] == score.grade
        assert told["scores"][card.name]["pd"] == pytest.approx(score.pd, abs=1e-6)


def test_the_trace_explains_the_points_exactly(service: ServiceProcess, woe_trained: Trained) -> None:
    """Contributions are those of the scorer, and with what is expected of anybody they make the margin."""
    card = load_scorecard(woe_trained.directory)
    shown = decided(service, "explained")["trace"]["scorecards"]["classic"]
    row = row_of(shown, card.names)
    found = {one["feature"]: one["contribution"] for one in shown["contributions"]}
    exact = card.scorer.contributions(row)
    assert [*(found[name] for name in card.names), shown["expected"]] == exact.tolist()
    assert abs(math.fsum((*found.values(), shown["expected"])) - card.scorer.margin(row)) <= 1e-12


def test_an_adverse_answer_names_what_cost_the_points(service: ServiceProcess, woe_trained: Trained) -> None:
    """The rule that held looked at the points, so its reasons hold the codes of what weighed most against them."""
    told = decided(service, "adverse")
    card = load_scorecard(woe_trained.directory)
    row = row_of(told["trace"]["scorecards"]["classic"], card.names)
    parts = card.scorer.contributions(row)[:-1]
    worst = card.manifest.features[int(np.argmax(np.where(np.isnan(row), -math.inf, parts)))]
    said = [reason["code"] for reason in told["reasons"] if reason["source"] == "scorecard:classic"]
    assert told["decision"] == "hold"
    assert said
    assert worst.reason in said
    against = {f.reason for f, part, x in zip(card.manifest.features, parts, row, strict=True)
               if part > 0.0 and not math.isnan(x)}  # fmt: skip
    assert set(said) <= against
