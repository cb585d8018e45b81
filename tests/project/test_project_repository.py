"""What is committed: nothing that holds on one machine only, no leftovers, locks that fit."""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# Split so that this file does not contain what it looks for.
MACHINE_BOUND = re.compile(
    "|".join(
        [
            "/wo" + "rk/",
            "/tmp/br" + "ief",
            "pypi" + r"\.org",
            "python" + "hosted",
            "registry" + ".npmjs",
            "farm" + "-",
        ]
    )
)
LEFTOVER = re.compile(r"\b(TODO|FIXME)\b|# type: ignore(?!\[)|NotImplementedError")


def committed_files() -> list[Path]:
    """Every file git tracks, or a skip where this is no clone."""
    if not (ROOT / ".git").exists() or shutil.which("git") is None:
        pytest.skip("not a git clone: there is nothing committed to look at")
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True)
    return [ROOT / name for name in listing.stdout.decode().split("\0") if name and (ROOT / name).is_file()]


def lines_matching(pattern: re.Pattern[str], suffixes: frozenset[str] | None = None) -> list[str]:
    """`path:line: text` of every committed line that matches."""
    found = []
    for path in committed_files():
        if path == Path(__file__) or (suffixes and path.suffix not in suffixes):
            continue
        text = path.read_bytes().decode(errors="replace")
        rows = enumerate(text.splitlines(), 1) if pattern.search(text) else ()
        found += [f"{path.relative_to(ROOT)}:{n}: {row[:100]}" for n, row in rows if pattern.search(row)]
    return found


def pins(lock: str) -> dict[str, set[str]]:
    """The versions a lock file pins, by package (one may be pinned apart for several Pythons)."""
    found: dict[str, set[str]] = {}
    for name, version in re.findall(r"^([a-z0-9-]+)(?:\[[a-z,]+\])?==([^ ;\\]+)", (ROOT / lock).read_text(), re.M):
        found.setdefault(name, set()).add(version)
    return found


def declared(requirements: list[str]) -> set[str]:
    """Normalised names of a list of requirements."""
    return {re.split(r"[\[<>=; ]", line)[0].lower().replace("_", "-") for line in requirements}


def test_nothing_committed_is_bound_to_one_machine() -> None:
    """No committed file names a path or a registry that exists on one machine only."""
    assert lines_matching(MACHINE_BOUND) == []


def test_no_leftovers_are_committed() -> None:
    """No committed code carries a reminder to finish it, a blanket ignore or a hole."""
    assert lines_matching(LEFTOVER, frozenset({".py", ".lua", ".yaml", ".toml"})) == []


def test_locks_cover_the_project_file() -> None:
    """Everything pyproject.toml asks for is pinned, and both lock files pin the same versions."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    run, dev, build = (pins(f"requirements{kind}.lock") for kind in ("", "-dev", "-build"))
    assert declared(project["dependencies"]) <= run.keys()
    assert declared(sum(project["optional-dependencies"].values(), project["dependencies"])) <= dev.keys()
    assert {name: dev.get(name) for name in run | build} == run | build


@pytest.mark.fault("I09")
def test_every_pin_carries_hashes() -> None:
    """A package is installed only if its bytes are the ones that were locked."""
    for lock in ("requirements.lock", "requirements-dev.lock", "requirements-build.lock"):
        entries = re.split(r"\n(?=[a-z])", (ROOT / lock).read_text().split("\n", 2)[2])
        assert all("--hash=sha256:" in entry for entry in entries), lock


def test_every_make_target_is_listed_by_help() -> None:
    """`make help` names every target a person may call."""
    makefile = (ROOT / "Makefile").read_text()
    phony = set(re.search(r"^\.PHONY: (.*)$", makefile, re.M)[1].split())  # type: ignore[index]
    listed = set(re.findall(r"^([a-z-]+):.*## ", makefile, re.M))
    assert phony == listed >= {"run", "test", "test-all", "lint", "bench"}
