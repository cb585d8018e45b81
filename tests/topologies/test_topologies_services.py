"""Two hosts' real services that share nothing but the store, while its primary dies under load, on every topology.

What is run is `benchmarks/faults/failover.py`, small; times are for the benchmark to judge.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from service_process import kernel_on_disk
from topology_servers import KINDS

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "faults" / "failover.py"
PATIENCE_S = 400
ASKED_PER_S = 30  # what two services, their servers and the callers can do on a busy machine


@pytest.mark.slow
@pytest.mark.fault("C01", "C02", "A02", "D05")
@pytest.mark.parametrize("kind", KINDS)
def test_a_fail_over_under_load_of_two_hosts(kind: str) -> None:
    """Every request is answered, by the fallback meanwhile; no answer changes, nothing is over-lent; what both hosts
    were told agrees with the store afterwards; every customer is decided in full again."""
    kernel_on_disk()
    command = [sys.executable, str(SCRIPT), "--quick", "--json", "--kinds", kind, "--asked-per-s", str(ASKED_PER_S)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert done.stdout, done.stderr
    told = json.loads(done.stdout)
    found = {figure["what"].removeprefix("... "): figure["found"] for figure in told["figures"]}
    wrong = ("over-lent", "requests answered twice differently", "requests never answered")
    assert {what: found[what] for what in wrong} == dict.fromkeys(wrong, 0), told
    reconciled = told["notes"][f"{kind}_reconciled"]
    assert {sort: reconciled[sort] for sort in ("different", "unaccounted", "damaged", "conflict")} == {
        "different": 0, "unaccounted": 0, "damaged": 0, "conflict": 0,
    }, told  # fmt: skip
    assert reconciled["agreed"] + reconciled["lost"] == found["acknowledged decisions checked"]
    assert reconciled["lost"] <= (0 if kind == "standalone" else 3), "of the last moment before the kill"
    outcomes = told["notes"][f"{kind}_outcomes"]
    assert outcomes.get("static", 0) + sum(n for what, n in outcomes.items() if what.startswith("503")) > 0
