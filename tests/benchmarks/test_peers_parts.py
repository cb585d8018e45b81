"""Rule engines and scorers beside ours judge alike, whoever does not is caught; fixed rates; what is told of it all."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import repeat
from pathlib import Path

import numpy as np
import peer_benchmarks  # noqa: F401  # puts benchmarks/peers on the path
import pytest
from stalling_server import DECIDED, StallingServer, answer, running

import feast_read
import rules_only
import score_only
from open_loop import open_loop
from peer_report import Part, Ratio, Spent, document, in_turns, page, shown

REQUEST = b"POST /v1/decisions HTTP/1.1\r\ncontent-length: 2\r\n\r\n{}"


def test_every_rule_engine_gives_our_verdicts() -> None:
    """40 rules over 200 decisions in three engines; one engine that is wrong once is caught."""
    calls = rules_only.engines(40)
    assert len(calls) == 3
    assert rules_only.same_verdicts(calls) == 40 * rules_only.DECISIONS
    call, verdicts = calls[rules_only.OURS]
    wrong = [*verdicts(7)]
    wrong[3] = not wrong[3]
    calls["wrong"] = (call, lambda i: wrong if i == 7 else verdicts(i))
    with pytest.raises(rules_only.DifferentVerdicts, match="wrong judges rule 3 of decision 7"):
        rules_only.same_verdicts(calls)


def test_every_scorer_gives_the_same_margins() -> None:
    """Ours and LightGBM's fast call equal `Booster.predict` to the bit; a scorer that is off by 1e-9 is caught."""
    text, rows = (score_only.FOLDER / "model.txt").read_bytes(), score_only.sample_rows(200)
    names = len(score_only.manifest()["features"])
    booster = score_only.lightgbm.Booster(model_str=text.decode())
    calls = {
        score_only.BOOSTER: lambda row: float(booster.predict(row[None, :], raw_score=True, num_threads=1)[0]),
        score_only.OURS: score_only.TreeScorer(text, names).margin,
        "fast": score_only.fast_call(text, names),
    }
    assert np.isnan(rows).any()
    assert score_only.same_scores(calls, rows).count("to the bit") == 2
    with pytest.raises(score_only.DifferentScores, match="off differs"):
        score_only.same_scores(calls | {"off": lambda row: calls[score_only.OURS](row) + 1e-9}, rows)


def test_a_value_that_the_feature_store_gives_otherwise_is_caught() -> None:
    """To the bit, and null for null."""
    ours = {"c": [1.0, None]}
    assert "2 values" in feast_read.same_values(["a", "b"], ours, {"c": [1.0, None]})
    for wrong in ([1.0 + 1e-15, None], [1.0, 0.0]):
        with pytest.raises(feast_read.DifferentValues):
            feast_read.same_values(["a", "b"], ours, {"c": wrong})


def test_a_fixed_rate_counts_what_a_stall_delays() -> None:
    """Requests that were due while the server stood still say so, though each was answered at once when it was sent."""
    with running(StallingServer(lambda _: answer(b"200 OK", DECIDED), stall_at=10, stall_s=0.4)) as server:
        offered = open_loop(server.port, repeat(REQUEST), 200.0, 0.5)
    assert (len(offered.latencies_ns), offered.failures, offered.unanswered) == (100, 0, 0)
    delayed = [ns for ns in offered.latencies_ns if ns > 50_000_000]
    assert len(delayed) >= 40


def test_a_fixed_rate_counts_failures() -> None:
    """Any other status than 200 is one, the first is kept."""
    with running(StallingServer(lambda n: answer(b"200 OK" if n else b"503 Busy", b"{}"))) as server:
        offered = open_loop(server.port, repeat(REQUEST), 100.0, 0.1)
    assert offered.failures == 1
    assert b"503 Busy" in offered.first_failure


@pytest.fixture
def part() -> Part:
    """A comparison with everything in it."""
    return Part(
        "rules", "(c) Rules & <more>", ["not the same work"], ("", "p50 us"), [("ours", 3.14159), ("theirs", 31_415.9)],
        [Ratio("CPU", 12.0, 10.0), Ratio("p99", 3.0, 10.0), Ratio("told", 2.0)], checked="all equal",
    )  # fmt: skip


def test_notes_stand_beside_the_figures(part: Part) -> None:
    """In the text, in the document and on the page."""
    found = json.loads(json.dumps(document([part], True, Path(__file__).parent)))
    text = shown(part)
    assert found["parts"][0]["notes"] == part.notes
    assert [ratio["met"] for ratio in found["parts"][0]["ratios"]] == [True, False, None]
    for told in (
        "note: not the same work",
        "31,416",
        "12.0 x   wanted >= 10: met",
        "NOT met",
        "same answers: all equal",
    ):
        assert told in text
    assert "not the same work" in page(found, [part])
    assert "Rules &amp; &lt;more&gt;" in page(found, [part])


def test_calls_take_turns() -> None:
    """Every call has its rounds, with wall time of each call and CPU of each round."""
    order: list[str] = []
    spent: dict[str, Spent] = in_turns({"a": lambda _: order.append("a"), "b": lambda _: order.append("b")}, 3, 0.002)
    assert {name: len(found.cpu_s) for name, found in spent.items()} == {"a": 3, "b": 3}
    assert len(list(runs(order))) == 2 + 6  # warming up, then in turns


def runs(order: list[str]) -> Iterator[str]:
    """Each run of equal entries, once."""
    last = ""
    for name in order:
        if name != last:
            yield name
        last = name
