"""Section G of the fault catalogue, what is no file: inputs, feeds, digits, memory. Files are in `spoiled.py`."""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import math
import os
import random
import re
import resource
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scorecard_maker import NAMES, Trained, manifest_text, train, write_scorecard
from scored_policy import T0_MS, Worker, attributes_of, drawn, running, write_rules
from spoiled import seal, spoilers

from decision_service.cli import models_check
from decision_service.core.decide import decide
from decision_service.core.errors import ScorecardRejected
from decision_service.core.facility import Attribute, Facility
from decision_service.core.limits import DAY_MS
from decision_service.core.request import DecisionRequest
from decision_service.core.scorecards.model_numbers import numbers_digest
from decision_service.core.scorecards.tree_scorer import TreeScorer
from decision_service.core.state import CustomerState
from decision_service.scorecards.files import load_scorecard
from decision_service.store.memory import MemoryStore

GOLDEN = Path(__file__).with_name("models_check.txt")
SHOWN = ("cut_0.6_unsealed", "cut_0.6", "digit", "swapped_features", "fewer_features", "constant", "pickle", "fifo",
         "link_out", "path_outside", "no_calibration", "other_calibration", "turned_calibration")  # fmt: skip


@pytest.mark.fault("G02")
def test_digits_changed_behind_a_new_checksum_are_found_by_the_numbers(tmp_path: Path, small_model: Trained) -> None:
    """G02: of 150 digits changed in what scores and contributions are made of, sealed again, every one is refused
    before LightGBM sees it (unless it writes the same number)."""
    directory = write_scorecard(tmp_path, small_model, manifest_text(small_model, numbers=True))
    good, digest = small_model.text, numbers_digest(small_model.text)
    rng = random.Random(5)
    fields = rb"^(?:split_feature|threshold|decision_type|left_child|right_child|leaf_value|leaf_count)=(.*)$"
    places = [
        place
        for line in re.finditer(fields, good[: good.index(b"end of trees")], re.MULTILINE)
        for place in range(line.start(1), line.end(1))
        if chr(good[place]).isdigit()
    ]
    for place in rng.sample(places, 150):
        digit = rng.choice([d for d in b"0123456789" if d != good[place]])
        changed = good[:place] + bytes([digit]) + good[place + 1 :]
        if numbers_digest(changed) == digest:
            continue  # the last of 17 digits: the same double
        (directory / "model.txt").write_bytes(changed)
        seal(directory)
        with pytest.raises(ScorecardRejected, match="its trees hold other numbers than when it was trained"):
            load_scorecard(directory)


@pytest.mark.fault("G02")
def test_golden_rows_alone_find_a_leaf_that_was_changed(tmp_path: Path, small_model: Trained) -> None:
    """G02: one stands in every leaf, so every leaf that a score would show, changed by more than the tolerance, does
    show."""
    card = load_scorecard(write_scorecard(tmp_path, small_model))
    golden = [(np.array(row.inputs), row.margin) for row in card.manifest.golden]
    text, rng = small_model.text, random.Random(5)
    leaves = [
        (line.start(1) + word.start(), line.start(1) + word.end())
        for line in re.finditer(rb"^leaf_value=(.*)$", text, re.MULTILINE)
        for word in re.finditer(rb"\S+", line.group(1))
    ]
    for start, end in rng.sample(leaves, 40):
        other = repr(float(text[start:end]) + rng.choice([-1, 1]) * 1e-6).encode()
        scorer = TreeScorer(text[:start] + other + text[end:], len(NAMES))
        assert max(abs(scorer.margin(row) - margin) for row, margin in golden) > 1e-9, text[start:end]


@pytest.mark.fault("G05")
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1.7e308, -1.7e308, 5e-324, -0.0, 2.0**63])
def test_every_feature_may_be_anything(tmp_path: Path, small_model: Trained, value: float) -> None:
    """G05: null is known as null, an infinity has no score and is named, every finite number has a score."""
    card = load_scorecard(write_scorecard(tmp_path, small_model))
    for i, name in enumerate(NAMES):
        row = np.nan_to_num(small_model.rows[3])
        row[i] = value
        score = card.score(row)
        if math.isinf(value):
            assert (score.points, score.problem) == (None, f"feature {name} is infinite")
        else:
            assert score.points is not None
            assert 300 <= score.points <= 850


def _decided(worker: Worker, ages_d: dict[str, int]) -> Any:
    """A draw of a customer whose attributes came so many days ago."""
    row = dict(zip(NAMES, (0.4, 1.0, -0.3, 0.2, 0.7), strict=True))
    stored = {name: Attribute(row[name], T0_MS - age * DAY_MS) for name, age in ages_d.items()}
    line = Facility("f", "c", "revolver", "CNY", 100_00, 0, T0_MS - DAY_MS, 1_800, "active", T0_MS - 90 * DAY_MS)
    request = DecisionRequest(
        "r", "c", "f", 1_00, "CNY", None, None, None, None, None, None, None, None, bytes(16), b"{}"
    )
    state = CustomerState(facilities={"f": line}, attributes=stored)
    return decide(request, state, worker.current, T0_MS, "d")


@pytest.mark.fault("G06", "G13")
def test_a_stale_feed_is_null_to_the_scorecard_and_no_feed_is_no_score(tmp_path: Path, small_model: Trained) -> None:
    """G06, G13: a value past its time to live is as if it never came, and is named as missing; with every one gone
    there is no score, the rung says so and the rules hold; with the feed back the score is back."""
    write_rules(tmp_path / "rules")
    write_scorecard(tmp_path / "models", small_model)

    async def test() -> None:
        async with running(tmp_path, MemoryStore(partitions=16)) as worker:
            fresh = _decided(worker, dict.fromkeys(NAMES, 1))
            assert (fresh.rung, fresh.scores["behaviour"].problem) == ("full", "")
            partial = _decided(worker, dict.fromkeys(NAMES, 1) | {"inq_cnt_30d": 36})
            absent = _decided(worker, {name: 1 for name in NAMES if name != "inq_cnt_30d"})
            assert partial.scores == absent.scores
            assert partial.scores["behaviour"].points is not None
            for gone in (_decided(worker, dict.fromkeys(NAMES, 36)), _decided(worker, {})):
                score = gone.scores["behaviour"]
                assert (gone.rung, score.points, score.problem) == ("no_score", None, "all features null")
                assert (gone.decision, gone.hold) == ("hold", "review")
            assert _decided(worker, dict.fromkeys(NAMES, 35)).scores == fresh.scores

    asyncio.run(test())


def _held() -> tuple[int, int, int]:
    """Open files, threads and children of this process."""
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    files, threads = (len(list(Path(f"/proc/self/{kind}").iterdir())) for kind in ("fd", "task"))
    return files, threads, len(children)


def _resident_kb() -> int:
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() // 1024


@pytest.mark.fault("G14")
@pytest.mark.parametrize(("warm", "reloads"), [(6, 10), pytest.param(60, 1_000, marks=pytest.mark.slow)])
def test_reloads_leave_nothing_behind(tmp_path: Path, small_model: Trained, warm: int, reloads: int) -> None:
    """G14: two versions in turns, each with its trial and a compiled policy: memory is flat, native memory included,
    and no file, thread or process is left."""
    write_rules(tmp_path / "rules")
    write_scorecard(tmp_path / "models", small_model)
    write_scorecard(tmp_path / "models", train(40, 8), manifest_text(train(40, 8), version="2"))
    active = tmp_path / "models" / "behaviour" / "active"
    active.write_text("1")

    async def test() -> None:
        async with running(tmp_path, MemoryStore(partitions=16)) as worker:

            async def reload(times: int) -> None:
                for i in range(times):
                    version = str(2 - i % 2)
                    active.write_text(version)
                    assert await worker.reload(), worker.problem
                    assert worker.scorecards["behaviour"].version == version
                    assert drawn(worker, i, small_model.rows[i]).scores["behaviour"].version == version

            threads = threading.Barrier(4)  # all of the pool: it starts a thread whenever none happens to be idle
            asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(threads.parties))
            await asyncio.gather(*(asyncio.to_thread(threads.wait) for _ in range(threads.parties)))
            await reload(warm)
            held, before = _held(), _resident_kb()
            await reload(reloads)
            assert _held() == held
            assert _resident_kb() - before < 16_384

    asyncio.run(test())


def test_models_check_tells_of_every_version_what_is_wrong(
    tmp_path: Path, small_model: Trained, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line or more a version, word for word; the same as JSON; exit status 1, and 0 once all are good."""
    monkeypatch.chdir(tmp_path)
    trap = tmp_path / "sprung"
    write_scorecard(tmp_path / "models", small_model)
    ways = {spoiled.name: spoiled for spoiled in spoilers(small_model, trap)}
    for number, name in enumerate(SHOWN, 2):
        ways[name].spoil(write_scorecard(Path("models"), small_model, manifest_text(small_model, version=str(number))))
    (tmp_path / "models" / "behaviour" / "active").write_text("../../etc")
    parser = argparse.ArgumentParser()
    models_check.add_arguments(parser)
    assert models_check.run(parser.parse_args([])) == 1
    shown = re.sub(r"[0-9a-f]{64}", "<sha256>", capsys.readouterr().out)
    shown = re.sub(r"-?\d+\.\d{6,}", "<number>", shown)
    assert shown == GOLDEN.read_text("utf-8")
    assert models_check.run(parser.parse_args(["--json"])) == 1
    findings = json.loads(capsys.readouterr().out)
    assert [finding["problem"] is None for finding in findings] == [False, True] + [False] * len(SHOWN)
    assert not trap.exists()
    for number in range(2, 2 + len(SHOWN)):
        shutil.rmtree(tmp_path / "models" / "behaviour" / str(number))
    (tmp_path / "models" / "behaviour" / "active").unlink()
    assert models_check.run(parser.parse_args([])) == 0


assert set(attributes_of(np.zeros(5))) == set(NAMES)
