"""docs/scorecards.md: its training files and roles are read by the code that reads everybody's, without a finding."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from decision_service.cli.models import COMMANDS
from decision_service.core.scorecards.roles import read_roles
from decision_service.core.scorecards.scaling import Scaling
from decision_service.core.source import Findings
from decision_service.policies.files import read_text
from decision_service.train.config import read_train_config
from decision_service.watch import watching

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs" / "scorecards.md").read_text()
BLOCKS = re.findall(r"```yaml\n(.*?)```", GUIDE, re.DOTALL)
TRAINING = [block for block in BLOCKS if block.startswith("scorecard:")]


@pytest.mark.parametrize("text", TRAINING, ids=range(len(TRAINING)))
def test_a_training_file_of_the_guide_is_read(text: str, tmp_path: Path) -> None:
    """With the shipped catalogue two folders up and the files it names beside it."""
    folder = tmp_path / "models" / "mine"
    folder.mkdir(parents=True)
    shutil.copytree(ROOT / "rules", tmp_path / "rules")
    parquet.write_table(pa.table({"limit": [1.0], "late_max": [0.0], "default": [0]}), folder / "clients.parquet")
    for name in ("events", "facilities", "attributes"):
        parquet.write_table(pa.table({"customer_id": ["c-1"]}), folder / f"{name}.parquet")
    (folder / "train.yaml").write_text(text)
    config = read_train_config(folder / "train.yaml")
    assert f"version: {config.version}" in text


def test_every_source_and_kind_is_in_the_guide() -> None:
    """Three sources, both kinds of model."""
    assert all(any(f"\n{key}:" in text for text in TRAINING) for key in ("portfolio", "events", "table"))
    assert any("kind: woe" in text for text in TRAINING)


def test_commands_of_the_guide_exist() -> None:
    """Every `models` command it shows, and every finding of `models watch` by its name."""
    assert set(re.findall(r"^decision-service models (\w+)", GUIDE, re.M)) <= set(COMMANDS)
    findings = set(re.findall(r"^    (?:trigger|alert)\s+(\w+)", watching.__doc__ or "", re.M))
    told = GUIDE[GUIDE.index("## Watching") : GUIDE.index("## What is refused")]
    assert findings <= set(re.findall(r"`(\w+)`", told))


def test_roles_of_the_guide_are_read() -> None:
    """A champion, a challenger with its share and salt, and a shadow."""
    findings = Findings()
    (text,) = (block for block in BLOCKS if "\nscorecards:" in block)
    document = read_text(text, "policy.yaml", findings)
    assert document is not None
    roles = read_roles(document.root, findings)["behaviour"]
    assert findings.errors == []
    assert roles.champion is not None
    assert [role for role, _ in roles.variants] == ["challenger", "shadow"]


def test_other_yaml_of_the_guide_is_yaml() -> None:
    """Read as strictly as a policy file."""
    findings = Findings()
    assert all(read_text(text, "guide.yaml", findings) for text in BLOCKS)
    assert findings.errors == []


def test_points_of_the_guide_are_those_of_the_scale() -> None:
    """PD, odds and points of its table."""
    rows = re.findall(r"^\| 1/(\d+) \| (\d+):1 \| (\d+) \|$", GUIDE, re.M)
    assert len(rows) == 3
    for one_in, odds, points in rows:
        assert int(one_in) - 1 == int(odds)
        assert Scaling().points(1 / int(one_in)) == int(points)


def test_links_of_the_guide_lead_to_its_headings() -> None:
    """Every entry of its table of contents."""
    titles = re.findall(r"^## (.*)$", GUIDE, re.M)
    headings = {re.sub(r"[^a-z -]", "", title.lower()).replace(" ", "-") for title in titles}
    assert set(re.findall(r"\(#([a-z-]+)\)", GUIDE)) == headings
