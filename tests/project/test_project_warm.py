"""Warming, as an image's build runs it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def warm_with(rules: Path, models: Path) -> subprocess.CompletedProcess[str]:
    """`python -m decision_service.warm` with a policy from these folders."""
    folders = {"DECISION_SERVICE_RULES": str(rules), "DECISION_SERVICE_MODELS": str(models)}
    command = [sys.executable, "-m", "decision_service.warm"]
    return subprocess.run(command, env=os.environ | folders, capture_output=True, text=True, check=False)


def test_policy_is_decided_with(tmp_path: Path) -> None:
    """A policy that compiles is warmed, and named."""
    done = warm_with(ROOT / "benchmarks" / "policies" / "replay", tmp_path)
    assert done.returncode == 0, done.stderr
    assert "warmed in" in done.stderr


def test_broken_policy_stops_the_build(tmp_path: Path) -> None:
    """A policy that does not compile ends the build with its diagnostics and the status of the command line."""
    done = warm_with(tmp_path / "no-rules", tmp_path)
    assert done.returncode == 4
    assert "there is no such rules directory" in done.stderr
