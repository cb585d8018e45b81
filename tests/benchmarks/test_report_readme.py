"""The README's tables of speed and scale: what is kept under benchmarks/results, and nothing where nothing is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from load_documents import document
from scale_figures import even, measured

from load_report import readme
from scale import model
from scale.model import Assumptions
from scale.readme import scale


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """What the commands would have kept."""
    made = document("abc1234", seconds=4.0)
    for run in made["runs"]:
        run["name"] = f"steady: {run['name']}"
    made["ratios"].append(
        {"name": "p99 beside the stack (benchmarks/peers)", "wanted": ">= 10", "got": None, "met": None}
    )
    (tmp_path / "targets.json").write_text(json.dumps(made))
    return tmp_path


def _peers(results: Path) -> None:
    ratios = [
        {"name": "throughput", "got": 12.5, "wanted": 10.0, "met": True},
        {"name": "at our peak", "got": 3.0, "wanted": None, "met": None},
    ]
    parts: list[dict[str, Any]] = [
        {"title": "assembled stack", "ratios": ratios, "problem": ""},
        {"title": "feature store", "ratios": [], "problem": "it is not installed"},
    ]
    machine = {"cpu": "a processor", "cores": 2, "python": "3.11.7", "load_before": 0.1}
    found = {"commit": "abc1234", "at": "2026-11-22T17:00:00Z", "machine": machine, "parts": parts}
    (results / "peers.json").write_text(json.dumps(found))


def test_without_results_there_are_commands_and_no_figures(tmp_path: Path) -> None:
    """Each table says how it is made, or with what it comes."""
    for table in (readme.targets, readme.peers, lambda folder: scale(folder / "scale.json")):
        said = table(tmp_path)
        assert "python benchmarks/" in said
        assert "|" not in said
    assert (readme.budget(tmp_path), readme.load(tmp_path)) == (
        "It comes with the targets.",
        "They come with the targets.",
    )


def test_targets_say_wanted_got_and_met(results: Path) -> None:
    """One line each, those of the peers not measured until they are."""
    said = readme.targets(results)
    assert "| one worker / bare app | >= 0.40 | 0.12 | **no** |" in said
    assert "| p99 beside the stack (benchmarks/peers) | >= 10 | not measured |  |" in said
    assert "Commit `abc1234`" in said
    _peers(results)
    said = readme.targets(results)
    assert "not measured" not in said
    assert "| throughput | >= 10 | 12.5 | yes |" in said


def test_a_result_that_is_not_valid_says_so(results: Path) -> None:
    """With the reason, below its table."""
    path = results / "targets.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"valid": False, "why_not": ["it measured itself"]}))
    assert readme.targets(results).endswith("**Not valid**: it measured itself.")


def test_targets_tell_what_the_bare_app_took_at_the_same_rate(results: Path) -> None:
    """Where it was measured; it is the control of the percentiles."""
    assert "the bare app took" not in readme.targets(results)
    path = results / "targets.json"
    found = json.loads(path.read_text())
    control = found["runs"][0] | {
        "name": "steady: bare app", "stolen_share": 0.034, "latency_us": {"p50": 310.0, "p99": 2_500.0, "p99.9": 9e3}
    }  # fmt: skip
    path.write_text(json.dumps(found | {"runs": [*found["runs"], control]}))
    said = readme.targets(results)
    assert "the bare app took: p50 0.31 ms, p99 2.5 ms, p99.9 9 ms." in said
    assert "its host took 3.4% of a core away" in said


def test_the_budget_is_that_of_the_steady_run(results: Path) -> None:
    """Its stages of 900 us by their shares, and their sum."""
    said = readme.budget(results)
    assert "| parse | 56.7 | 54 | 130 |" in said
    assert "| together | 945 |  |  |" in said
    assert "Measured in the run `reload`, 500 decisions/s." in said


def test_every_run_is_a_line(results: Path) -> None:
    """Under its name."""
    assert len(readme.load(results).splitlines()) == 2 + len(json.loads((results / "targets.json").read_text())["runs"])


def test_peers_that_could_not_be_measured_say_why(results: Path) -> None:
    """Beside the ratios of the others; a ratio of which nothing is wanted has no verdict."""
    _peers(results)
    said = readme.peers(results)
    assert "| assembled stack | at our peak | 3 |  |  |" in said
    assert "| feature store | it is not installed |  |  |  |" in said


def test_scale_shows_costs_sizes_and_assumptions(tmp_path: Path) -> None:
    """From the same document as the report."""
    spread = even()
    found = {"measured": measured(), "balance": spread, "model": model.as_json(measured(), Assumptions(), spread)}
    path = tmp_path / "scale.json"
    path.write_text(json.dumps(found))
    said = scale(path)
    assert "| a customer: memory of the event log | 10,000 | 20,000 | 30,000 |" in said
    assert "A decision that is kept takes 4,000 bytes." in said
    assert sum("100,000 |" in line and line.startswith("| 1") for line in said.splitlines()) >= 3
