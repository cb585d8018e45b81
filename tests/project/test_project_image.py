"""The Dockerfile's promises, as far as they can be checked without a daemon.

`make lint` runs hadolint over it as well.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def instructions() -> list[tuple[str, str]]:
    """`(instruction, arguments)` in order, continuation lines joined and comments dropped."""
    text = "\n".join(line for line in (ROOT / "Dockerfile").read_text().splitlines() if not line.startswith("#"))
    lines = text.replace("\\\n", " ").splitlines()
    return [(line.split(maxsplit=1)[0], line.split(maxsplit=1)[1]) for line in lines if line.strip()]


def arguments_of(name: str) -> list[str]:
    return [arguments for instruction, arguments in instructions() if instruction == name]


def test_image_runs_as_nobody_in_particular() -> None:
    """The last stage drops root before the kernels are compiled and before anything is served."""
    names = [name for name, _ in instructions()]
    last_stage = names[len(names) - names[::-1].index("FROM") :]
    assert arguments_of("USER") == ["10001"]
    assert last_stage.index("USER") < last_stage.index("HEALTHCHECK")
    assert ("RUN", '["python", "-m", "decision_service.warm"]') in instructions()[names.index("USER") :]


def test_image_is_built_in_two_stages_from_locked_packages() -> None:
    """No compiler or build back end reaches the last stage, and no package is installed without its hash."""
    assert [stage.partition(" AS ")[2] for stage in arguments_of("FROM")] == ["build", ""]
    installs = re.findall(r"pip (?:--python \S+ )?install ([^&]*)", " ".join(arguments_of("RUN")))
    assert all("--require-hashes" in line or "--no-deps" in line for line in installs)
    assert len(installs) == 3


@pytest.mark.fault("I09")
def test_image_brings_no_tools_and_says_what_is_in_it() -> None:
    """The environment that is copied has no pip, the last stage takes its own away, and the bill of materials is made
    from what is installed, which fails the build if something was not locked."""
    first, last = re.split(r"\nFROM [^\n]*\n", (ROOT / "Dockerfile").read_text())[1:]
    assert "venv --without-pip /opt/venv" in first
    assert "bill_of_materials --installed" in first.replace("\\\n", "")
    assert first.index("bill_of_materials") > first.index("dist/*.whl")
    assert "pip uninstall --yes pip setuptools wheel" in last
    assert "pip install" not in last
    assert not re.search(r"\b(gcc|g\+\+|make|build-essential|curl|wget|git)\b", last)


def test_image_can_run_without_writing_to_its_root() -> None:
    """What it writes lies in a volume or in /tmp, nothing is added from the network, no secret is baked in, and the
    base image can be named by its digest."""
    text = (ROOT / "Dockerfile").read_text()
    assert "--read-only --tmpfs /tmp --cap-drop ALL --security-opt no-new-privileges" in text
    assert arguments_of("ADD") == []
    assert [stage.partition(" AS ")[0] for stage in arguments_of("FROM")] == ["${PYTHON_IMAGE}"] * 2
    assert arguments_of("ARG") == ["PYTHON_IMAGE=python:3.11-slim-bookworm"]
    baked = " ".join(arguments_of("ENV") + arguments_of("CMD") + arguments_of("ENTRYPOINT"))
    assert not re.search(r"password|secret|token|dsk_|redis://", baked, re.IGNORECASE)
    assert "PYTHONDONTWRITEBYTECODE=1" in baked


def test_image_is_ready_when_the_service_is() -> None:
    """The health check asks the readiness probe on the port that is served."""
    port = arguments_of("EXPOSE")[0]
    assert f":{port}/readyz" in arguments_of("HEALTHCHECK")[0]
    command = json.loads(arguments_of("CMD")[0])
    assert command[command.index("--port") + 1] == port
    assert command[command.index("--data-dir") + 1] in arguments_of("VOLUME")


def test_everything_copied_reaches_the_builder() -> None:
    """Each file or folder the Dockerfile copies exists and is let through by .dockerignore."""
    let_through = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = {name for line in arguments_of("COPY") if "--from" not in line for name in line.split()[:-1]}
    assert copied == let_through
    assert all((ROOT / name).exists() for name in copied)
