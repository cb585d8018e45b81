"""The result document: its form, what makes it invalid, the knee, reloads, and policies made for measuring."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from stalling_server import BENCHMARKS
from test_load_figures import raw_of

from load import bench, policies, run, workloads
from load.bed import Round
from load.bench import Options
from load.document import document, problems, ratio, run_of, table
from load.plan import Raw
from load.targets import joined, targets
from load_report import html
from load_report.document import read
from servers import NotReady

ROOT = BENCHMARKS.parent
MACHINE = {"cpu": "x", "cores": 2, "python": "3.11.7", "load_before": 0.1}
RUN_FIELDS = {
    "name", "kind", "wanted_per_s", "seconds", "requests", "failures", "rungs", "per_s", "latency_us",
    "service_time_us", "histogram", "timeline", "operations", "stages_us", "cpu_us", "core_share", "stolen_share",
    "send_lag_us", "marks",
}  # fmt: skip


def one_run(raw: Raw | None = None, **how: Any) -> dict[str, Any]:
    """A run of one round."""
    return run_of("one", [Round(raw or raw_of([1.0] * 100), {})], **how)


def test_a_document_has_the_pinned_form_and_is_json(tmp_path: Path) -> None:
    told = document("steady", asdict(Options()), MACHINE, [one_run()], [ratio("a / b", 0.5, ">= 0.40")])
    assert set(told) == {
        "format", "workload", "commit", "at", "machine", "options", "runs", "ratios", "valid", "why_not",
    }  # fmt: skip
    assert set(told["runs"][0]) >= RUN_FIELDS
    assert told["runs"][0]["latency_us"] == dict.fromkeys(("p50", "p90", "p99", "p99.9", "p99.99", "max", "mean"), 1e3)
    assert told["runs"][0]["cpu_us"] == {"server": 5_000.0, "store": 1_000.0, "generator": 1_000.0}
    assert told["ratios"] == [{"name": "a / b", "wanted": ">= 0.40", "got": 0.5, "met": True}]
    assert told["valid"] is True
    path = tmp_path / "told.json"
    path.write_text(json.dumps(told))
    assert read(path)["runs"][0]["requests"] == 100


def test_the_report_takes_the_document(tmp_path: Path) -> None:
    told = document("steady", {}, MACHINE, [one_run(wanted_per_s=100.0)], [ratio("knee", None), ratio("k", 1.0)])
    html.write(told, tmp_path / "page.html")
    assert b"</html>" in (tmp_path / "page.html").read_bytes()


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"cpu_s": {"server": 0.5, "store": 0.0, "generator": 0.93}}, "it measured itself"),
        ({"cpu_s": {"server": 0.5, "store": 0.5, "generator": 0.49}}, "the core they share"),
        ({"core_busy_s": {0: 0.7, 1: 0.2}}, "other work used 20%"),
        ({"rungs": {"full": 90, "static": 10}}, "other rungs than full: {'static': 10}"),
        ({"replayed": 2}, "stored ones"),
    ],
)
def test_a_run_that_broke_a_bound_is_not_valid(change: dict[str, Any], why: str) -> None:
    told = document("saturation", {}, MACHINE, [one_run(raw_of([1.0] * 100, **change))], [])
    assert told["valid"] is False
    assert why in told["why_not"][0]
    assert why in table(told)
    assert run.status(told) == run.NOT_VALID


def test_latencies_while_the_host_took_the_core_away_are_not_valid() -> None:
    """In an open loop; what a closed one tells is CPU time, which is counted without."""
    raw = raw_of([30.0] * 100, core_stolen_s={0: 0.05, 1: 0.03})
    assert one_run(raw, wanted_per_s=100.0)["why_not"] == [
        "one: the host took 8% of a core away: its latencies are the host's as well"
    ]
    assert one_run(raw)["why_not"] == []
    assert one_run(raw_of([30.0] * 100), wanted_per_s=100.0)["why_not"] == []


def test_a_generator_that_sent_late_makes_an_open_run_invalid() -> None:
    raw = raw_of([30.0] * 100)
    raw.sent_ns += 2_000_000
    assert "sent 2,000 us late" in one_run(raw, wanted_per_s=100.0)["why_not"][0]
    assert one_run(raw)["why_not"] == [], "in a closed loop nothing is due"


def test_failures_make_a_run_invalid_unless_they_are_what_it_looks_for() -> None:
    raw = raw_of([1.0] * 100, failed=(7,))
    assert "1 of 100 requests failed" in one_run(raw)["why_not"][0]
    assert one_run(raw, may_fail=True)["why_not"] == []


def test_a_document_without_requests_is_not_valid() -> None:
    assert document("steady", {}, MACHINE, [], [])["why_not"] == ["nothing was measured"]


@pytest.mark.parametrize(
    ("got", "wanted", "met"),
    [(0.4, ">= 0.40", True), (0.39, ">= 0.40", False), (1.4, "<= 1.4", True), (1.41, "<= 1.4", False), (1.0, "", None),
     (None, ">= 10", None)],
)  # fmt: skip
def test_a_ratio_is_met_or_not_or_not_measured(got: float | None, wanted: str, met: bool | None) -> None:
    assert ratio("a", got, wanted)["met"] is met


def test_the_exit_status_tells_a_missed_target() -> None:
    told = document("targets", {}, MACHINE, [one_run()], [ratio("a", 2.0, "<= 1.5"), ratio("b", None, ">= 10")])
    assert run.status(told) == run.MISSED
    assert "NOT MET" in table(told)
    assert "not measured" in table(told)


def step(rate: float, per_s: float, p99: float, failed: int = 0) -> dict[str, Any]:
    """A step of a ramp."""
    return {
        "wanted_per_s": rate, "per_s": per_s, "latency_us": {"p99": p99}, "requests": 1_000, "failures": {"x": failed},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("last", "knee"),
    [
        (step(300, 300, 9_000), 300),
        (step(300, 290, 9_000), 200),
        (step(300, 300, 10_001), 200),
        (step(300, 300, 9_000, failed=2), 200),
    ],
)
def test_the_knee_is_the_last_rate_before_one_that_is_too_much(last: dict[str, Any], knee: float) -> None:
    steps = [step(100, 100, 1_000), step(200, 199, 2_000), last]
    for one in steps:
        one["too_much"] = workloads.is_too_much(one, steps[0])
    assert workloads.knee_of(steps) == knee


def test_a_ramp_whose_first_rate_is_too_much_has_no_knee() -> None:
    assert workloads.knee_of([step(100, 50, 1_000) | {"too_much": True}]) is None


def test_latencies_during_a_reload_are_compared_with_those_just_before() -> None:
    raw = raw_of([1.0] * 200 + [3.0] * 100 + [1.0] * 100)  # due each 10 ms
    start, active = (int(raw.due_ns[at]) for at in (200, 250))
    quiet, during = workloads.reload_latencies(Round(raw, {}), [(start, active)])
    assert during.tolist() == [3_000_000] * 100, "half a second after the reload is part of it"
    assert quiet.tolist() == [1_000_000] * 100


def test_made_rules_are_added_behind_the_shipped_ones() -> None:
    text = (ROOT / "rules" / "drawdown.yaml").read_text()
    few, many = (policies.drawdown_with(text, count) for count in (40, 400))
    assert few.count("\n  - id: ") - 1 == 40, "one of them is a matrix"
    assert many.count("\n  - id: ") - 1 == 400
    assert many.count("- id: made_") == 360
    assert few.partition("\nmatrices:")[2] == many.partition("\nmatrices:")[2] == text.partition("\nmatrices:")[2]


def test_an_edited_policy_is_another_one(tmp_path: Path) -> None:
    rules = policies.copied(ROOT / "rules", tmp_path / "rules")
    texts = set()
    for number in range(3):
        policies.edit(rules, number)
        texts.add((rules / "policy.yaml").read_text() + (rules / "drawdown.yaml").read_text())
    assert len(texts) == 3
    assert not list(rules.glob("*.partial"))


def test_options_are_checked() -> None:
    workload, options = run.options_in(["customers", "--sizes", "2000", "1000", "--quick"])
    assert (workload, options.sizes, options.quick) == ("customers", (1_000, 2_000), True)
    for wrong in (["nothing"], ["steady", "--rate", "0"], ["steady", "--only", "reload"]):
        with pytest.raises(SystemExit) as ended:
            run.options_in(wrong)
        assert ended.value.code == 2


def test_quick_runs_are_smaller_and_options_win() -> None:
    options = Options(quick=True)
    assert options.population().customers < Options().population().customers
    assert replace(options, customers=7).population().customers == 7
    assert options.timed(40.0, 5.0) == 5.0
    assert replace(options, seconds=2.0).timed(40.0, 5.0) == 2.0


def test_rounds_alternate_in_both_directions_and_are_compared_within_a_round() -> None:
    def took(cpu_s: float) -> Round:
        return Round(raw_of([1.0] * 10, cpu_s={"server": cpu_s, "generator": 0.0}), {})

    found = {"a": [took(1.0), took(10.0), took(3.0)], "b": [took(2.0), took(20.0), took(9.0)]}
    assert bench.by_round(found, "b", "a", bench.cost_us) == 2.0


@pytest.mark.skipif(os.cpu_count() == 1, reason="server and generator need a core each")
def test_a_part_of_the_targets_that_breaks_off_does_not_take_the_others_with_it() -> None:
    def breaks(_: Any) -> bench.Told:
        raise NotReady("no kernel")

    def works(_: Any) -> bench.Told:
        return [one_run()], [ratio("a / b", 1.0, "<= 1.1"), ratio("besides", 2.0)]

    parts = {"saturation": breaks, "steady": works}
    runs, ratios, broken = targets(Options(only=("saturation", "steady")), parts)
    assert [one["name"] for one in runs] == ["steady: one"]
    assert ratios == [ratio("a / b", 1.0, "<= 1.1") | {"part": "steady"}], "those with a target"
    assert broken == ["saturation: broke off: no kernel"]
    assert document("targets", {}, MACHINE, runs, ratios, broken)["valid"] is False


def of_parts(commit: str, *parts: str) -> dict[str, Any]:
    """A document of `targets` with some parts, each not valid."""
    runs = [one_run() | {"name": f"{part}: one", "why_not": [f"{part}: one: {commit}"]} for part in parts]
    ratios = [ratio(f"of {part}", 1.0, "<= 1.1") | {"part": part} for part in parts]
    return document("targets", {}, MACHINE, runs, ratios) | {"commit": commit}


def test_parts_of_the_targets_are_joined_and_the_newer_ones_hold() -> None:
    whole = joined(of_parts("a", "reload", "saturation"), of_parts("a", "steady", "reload"))
    assert [run["name"] for run in whole["runs"]] == ["saturation: one", "steady: one", "reload: one"]
    assert [one["name"] for one in whole["ratios"]][:3] == ["of saturation", "of steady", "of reload"]
    assert len(whole["ratios"]) == 5, "and those that other benchmarks measure"
    assert whole["why_not"] == ["steady: one: a", "reload: one: a", "saturation: one: a"]
    other = joined(of_parts("b", "reload"), of_parts("a", "steady"))
    assert "parts are of commit a, others of b" in other["why_not"]
    assert not other["valid"]


def test_problems_name_the_run() -> None:
    found = problems(one_run() | {"name": "two workers", "replayed": 1})
    assert found == ["two workers: 1 answers were stored ones: request ids were used before"]
    assert np.all([isinstance(one, str) for one in found])
