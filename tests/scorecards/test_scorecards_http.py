"""The score through the real service: its process, a real Valkey, HTTP, and the notebook's own arithmetic beside it."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import lightgbm
import numpy as np
import numpy.typing as npt
import pytest
from scorecard_maker import NAMES, PLATT, Trained, manifest_text, write_scorecard
from scored_policy import attributes_of, write_rules
from spoiled import spoilers

from service_process import ServiceProcess
from valkey_server import ValkeyServer

PATIENCE_S = 60.0
FACILITY = {
    "customer_id": "c-1", "product": "revolver", "currency": "CNY", "limit": 1e9, "outstanding": 0, "apr": 0.18,
    "status": "active", "as_of": "2026-11-01T00:00:00+08:00", "granted_at": "2026-01-01T00:00:00+08:00",
}  # fmt: skip


@pytest.fixture
def models(tmp_path: Path, small_model: Trained) -> Path:
    """Models with version 1 of the scorecard."""
    write_scorecard(tmp_path / "models", small_model, manifest_text(small_model, numbers=True, deciles=True))
    return tmp_path / "models"


@pytest.fixture
def service(tmp_path: Path, models: Path, valkey_private: ValkeyServer) -> Iterator[ServiceProcess]:
    """The service on a server of its own. Its watch of scores is on."""
    rules = write_rules(tmp_path / "rules")
    settings: dict[str, Any] = {"deadline_ms_default": 5_000, "policy_approvals_change_max": 1.0}
    with ServiceProcess(tmp_path, store_url=valkey_private.url, rules=rules, models=models, **settings) as running:
        httpx.put(f"{running.url}/v1/facilities/f-1", json=FACILITY).raise_for_status()
        yield running


def random_rows(model: Trained, number: int) -> npt.NDArray[np.float64]:
    """Seeded rows: as in training, with nulls, exact thresholds and the doubles beside them, and extreme values."""
    rng = np.random.default_rng(11)
    rows = model.rows[rng.integers(len(model.rows), size=number)].copy()
    dumped = lightgbm.Booster(model_str=model.text.decode()).trees_to_dataframe()
    for i, name in enumerate(NAMES):
        cuts = dumped.loc[dumped.split_feature == name, "threshold"].to_numpy(float)
        cuts = cuts if len(cuts) else np.zeros(1)
        ties = rng.choice(cuts, size=number)
        draw = rng.random(number)
        rows[draw < 0.30, i] = ties[draw < 0.30]
        beside = (draw >= 0.30) & (draw < 0.40)
        rows[beside, i] = np.nextafter(ties[beside], np.inf)
        extreme = (draw >= 0.40) & (draw < 0.50)
        rows[extreme, i] = rng.choice([1.7e308, -1.7e308, 5e-324, -0.0, 1e-35, 2**53], size=number)[extreme]
        rows[(draw >= 0.50) & (draw < 0.60), i] = np.nan
    return rows


def notebook(model: Trained, rows: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """What the notebook that trained it predicts: the lightgbm package, and the calibration written out."""
    margins = lightgbm.Booster(model_str=model.text.decode()).predict(rows, raw_score=True)
    return np.clip(1.0 / (1.0 + np.exp(-(PLATT.a * margins + PLATT.b))), 1e-6, 1.0 - 1e-6)


def compare(service: ServiceProcess, model: Trained, number: int) -> None:
    """Every row through POST /v1/decisions, each of a customer of its own."""
    rows = random_rows(model, number)
    expected = notebook(model, rows)
    scored = 0
    with httpx.Client(base_url=service.url, timeout=30) as client:
        for i, row in enumerate(rows):
            customer = f"c-{i}"
            facility = {**FACILITY, "customer_id": customer, "facility_id": f"f-{i}"}
            body = {
                "request_id": f"r-{i}", "customer_id": customer, "facility_id": f"f-{i}", "amount": 1.0,
                "currency": "CNY", "attributes": attributes_of(row), "facility": facility,
            }  # fmt: skip
            answer = client.post("/v1/decisions", json=body)
            assert answer.status_code == 200, answer.text
            score = answer.json()["scores"]["behaviour"]
            if np.isnan(row).all():
                assert score["pd"] is None
                assert answer.json()["rung"] == "no_score"
                continue
            assert abs(score["pd"] - expected[i]) <= 1e-9, (i, row)
            odds = math.log(expected[i] / (1 - expected[i]))
            exact = 600 - 20 / math.log(2) * (math.log(50) + odds)
            assert abs(score["points"] - min(max(exact, 300), 850)) <= 0.5 + 1e-6
            scored += 1
    assert scored > 0.9 * number


@pytest.mark.fault("G05")
def test_five_hundred_scores_over_http_equal_the_notebooks(service: ServiceProcess, small_model: Trained) -> None:
    """PD to 1e-9 and points to rounding, with nulls, exact thresholds and extreme values; all null has no score."""
    compare(service, small_model, 500)


@pytest.mark.fault("G12")
@pytest.mark.slow
def test_ten_thousand_scores_over_http_equal_the_notebooks(service: ServiceProcess, small_model: Trained) -> None:
    """The same of 10,000 rows."""
    compare(service, small_model, 10_000)


@contextmanager
def traffic(service: ServiceProcess, rows: npt.NDArray[np.float64]) -> Iterator[list[tuple[float, str]]]:
    """Two callers, each asking again as soon as it is answered: when each answer came and which version scored it. What
    goes wrong in a caller is raised at the end."""
    answers: list[tuple[float, str]] = []
    wrong: list[BaseException] = []
    stop = threading.Event()

    def call(number: int) -> None:
        try:
            with httpx.Client(base_url=service.url, timeout=30) as client:
                asked = 0
                while not stop.is_set():
                    body = {
                        "request_id": f"t-{number}-{asked}", "customer_id": f"t-{number}", "facility_id": f"t-{number}",
                        "amount": 0.01, "currency": "CNY", "attributes": attributes_of(rows[asked % len(rows)]),
                        "facility": {**FACILITY, "customer_id": f"t-{number}", "facility_id": f"t-{number}"},
                    }  # fmt: skip
                    answer = client.post("/v1/decisions", json=body)
                    assert answer.status_code == 200, answer.text
                    described = client.get(f"/v1/decisions/{answer.json()['decision_id']}").json()
                    score = described["trace"]["scorecards"]["behaviour"]
                    answers.append((time.monotonic(), score["version"]))
                    asked += 1
        except BaseException as error:
            wrong.append(error)

    threads = [threading.Thread(target=call, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    try:
        yield answers
    finally:
        stop.set()
        for thread in threads:
            thread.join(PATIENCE_S)
    assert wrong == []


def told(service: ServiceProcess, wanted: str) -> dict[str, Any]:
    """GET /v1/policy once its problem holds a text (or, for the empty text, is none)."""
    until = time.monotonic() + PATIENCE_S
    while True:
        status: dict[str, Any] = httpx.get(f"{service.url}/v1/policy", timeout=30).json()
        if wanted in (status["problem"] or "") and (wanted or status["problem"] is None):
            return status
        assert time.monotonic() < until, f"{wanted!r} is never told: {status['problem']}"
        time.sleep(0.1)


def flood(service: ServiceProcess, models: Path, model: Trained, trap: Path, kinds: set[str]) -> None:
    """Put the spoilt versions into models/ one after the other while callers call; then a good one."""
    wanted = [spoiled for spoiled in spoilers(model, trap) if spoiled.name in kinds]
    assert {spoiled.name for spoiled in wanted} == kinds
    rows = model.rows[~np.isnan(model.rows).all(axis=1)][:200]
    with traffic(service, rows) as answers:
        for number, spoiled in enumerate(wanted, 2):
            version = f"1.{number}"
            fresh = write_scorecard(models.parent / "fresh", model, manifest_text(model, version=version))
            spoiled.spoil(fresh)
            fresh.rename(models / "behaviour" / version)
            status = told(service, f"behaviour/{version}/")
            assert status["scorecards"] == {"behaviour": "1"}
        before = len(answers)
        good = write_scorecard(models.parent / "fresh", model, manifest_text(model, version="2", deciles=True))
        good.rename(models / "behaviour" / "2")
        status = told(service, "")
        assert status["scorecards"] == {"behaviour": "2"}
        until = time.monotonic() + PATIENCE_S
        while answers[-1][1] != "2":
            assert time.monotonic() < until
            time.sleep(0.05)
    assert before > 0
    assert {version for _, version in answers[:before]} == {"1"}
    versions = [version for _, version in answers]
    assert versions[-1] == "2"
    assert not trap.exists()


@pytest.mark.fault("G02")
def test_corrupted_models_are_refused_while_traffic_flows(
    service: ServiceProcess, models: Path, small_model: Trained, tmp_path: Path
) -> None:
    """One of each sort: no request fails, every answer is the old scorecard's, the problem is told, a good model is
    taken."""
    flood(service, models, small_model, tmp_path / "sprung", {
        "cut_0.6_unsealed", "cut_0.6_ended", "digit", "swapped_features", "pickle", "other_calibration",
    })  # fmt: skip


@pytest.mark.fault("G01")
@pytest.mark.slow
def test_every_corrupted_model_is_refused_while_traffic_flows(
    service: ServiceProcess, models: Path, small_model: Trained, tmp_path: Path
) -> None:
    """The same of every way in which a model may be spoilt."""
    every = {spoiled.name for spoiled in spoilers(small_model, tmp_path / "sprung")}
    flood(service, models, small_model, tmp_path / "sprung", every)
