"""docs/archive.md: its commands are commands, its settings, files and metrics exist."""

from __future__ import annotations

import argparse
import importlib
import re
import shlex
from pathlib import Path

import pytest

from decision_service.cli import archive
from decision_service.settings import Settings, environment_name
from decision_service.telemetry import Meters
from decision_service.telemetry.exposition import render

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "archive.md").read_text()
BLOCKS = re.findall(r"```bash\n(.*?)```", TEXT, re.DOTALL)
COMMANDS = [line for block in BLOCKS for line in block.splitlines() if line.startswith("decision-service archive ")]


@pytest.mark.parametrize("line", COMMANDS)
def test_a_command_of_the_page_is_one(line: str) -> None:
    """With its options, as the command itself reads them."""
    _, _, name, *options = shlex.split(line, comments=True)
    assert name in archive.COMMANDS
    parser = argparse.ArgumentParser(exit_on_error=False)
    importlib.import_module(f"decision_service.cli.archive_{name.replace('-', '_')}").add_arguments(parser)
    parser.parse_args(options)


def test_commands_named_in_passing_exist() -> None:
    assert set(re.findall(r"`archive ([a-z-]+)", TEXT)) <= set(archive.COMMANDS)
    assert {"verify", "checkpoint", "erase", "purge"} <= {line.split()[2] for line in COMMANDS}


def test_settings_named_exist() -> None:
    known = {environment_name(name) for name in Settings.model_fields}
    assert set(re.findall(r"DECISION_SERVICE_[A-Z_]+", TEXT)) <= known


def test_files_named_exist() -> None:
    named = set(re.findall(r"`((?:archive|store)/[\w.]+\.py)`", TEXT))
    assert [name for name in named if not (ROOT / "src/decision_service" / name).exists()] == []


def test_metrics_named_exist(tmp_path: Path) -> None:
    page = render(Meters(tmp_path)).decode()
    named = set(re.findall(r"`(decision_service_\w+)`", TEXT))
    assert [name for name in named if f"\n{name}{{" not in page] == []


def test_every_part_of_a_defect_is_explained() -> None:
    from typing import get_args

    from decision_service.archive.defects import Part

    assert all(f"`{part}`" in TEXT for part in get_args(Part))
