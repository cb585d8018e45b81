"""Whole load runs against the real service. Times are for a quiet machine to judge: a run that is told as not valid, or
misses a target, has done its work here as well."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from stalling_server import BENCHMARKS

from load import run
from load_report.document import read
from service_process import kernel_on_disk

COMMAND = BENCHMARKS / "load" / "run.py"
ENDINGS = (0, run.MISSED, run.NOT_VALID)
ABOUT_OTHERS = ("the generator", "other work", "requests failed", "other rungs")  # what a busy machine brings


def load_test(tmp_path: Path, *words: str) -> dict[str, Any]:
    """The document of a quick run with few customers."""
    kernel_on_disk()
    path = tmp_path / "told.json"
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    command = [sys.executable, str(COMMAND), *words, "--quick", "--customers", "300", "--json", str(path)]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=500, env=os.environ | {"TMPDIR": str(temporary)}
    )
    assert done.returncode in ENDINGS, done.stderr
    assert not list(temporary.iterdir()), "nothing is left behind"
    assert not _using(temporary), "no process is left behind"
    told = read(path)
    assert told["workload"] in done.stdout
    assert all(any(known in why for known in ABOUT_OTHERS) for why in told["why_not"]), told["why_not"]
    return told


def _using(directory: Path) -> list[str]:
    found = []
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = process.read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
        if str(directory) in words:
            found.append(words)
    return found


def check_decided(one: dict[str, Any]) -> None:
    """Whole decisions were made, and the service's own stage histograms know of them."""
    assert one["rungs"].get("full", 0) > 0
    assert one["replayed"] == 0
    assert set(one["stages_us"]) == {"parse", "read", "features", "score", "rules", "commit", "serialise"}
    assert one["cpu_us"]["server"] > 0


@pytest.mark.slow
@pytest.mark.skipif(os.cpu_count() == 1, reason="server and generator need a core each")
def test_saturation_is_measured_beside_the_bare_app(tmp_path: Path) -> None:
    told = load_test(tmp_path, "saturation")
    bare, service = told["runs"]
    assert (bare["name"], service["name"]) == ("bare app", "one worker")
    assert bare["stages_us"] == {}
    check_decided(service)
    assert told["ratios"][0]["wanted"] == ">= 0.40"
    assert told["ratios"][0]["got"] is not None


@pytest.mark.slow
@pytest.mark.skipif(os.cpu_count() == 1, reason="server and generator need a core each")
def test_mixed_traffic_has_latencies_by_operation(tmp_path: Path) -> None:
    told = load_test(tmp_path, "mixed", "--rate", "60", "--html", str(tmp_path / "page.html"))
    closed, mixed = told["runs"]
    assert closed["kind"] == "closed"
    assert set(mixed["operations"]) == {"decision", "preview", "event", "read"}
    assert sum(one["requests"] for one in mixed["operations"].values()) == mixed["requests"] == 300
    check_decided(mixed)
    assert (tmp_path / "page.html").stat().st_size > 1_000


@pytest.mark.slow
@pytest.mark.skipif(os.cpu_count() == 1, reason="server and generator need a core each")
def test_a_reload_under_load_is_marked_and_compared(tmp_path: Path) -> None:
    told = load_test(tmp_path, "reload", "--rate", "60")
    reload = told["runs"][1]
    assert [mark["text"] for mark in reload["marks"]] == ["reload", "active"]
    assert 0 < reload["marks"][0]["t_s"] < reload["seconds"]
    assert [one["wanted"] for one in told["ratios"]] == ["<= 0", "<= 1.5"]
    assert json.dumps(told["ratios"])


@pytest.mark.slow
@pytest.mark.skipif(os.cpu_count() == 1, reason="server and generator need a core each")
def test_a_policy_in_shadow_is_measured_beside_none(tmp_path: Path) -> None:
    told = load_test(tmp_path, "shadow", "--rate", "60")
    assert [run["name"] for run in told["runs"][1:]] == ["with a policy in shadow", "without"]
    assert [one["wanted"] for one in told["ratios"]] == ["<= 1.05", "<= 1.05", "", ""]
    assert told["ratios"][3]["got"] > 0
