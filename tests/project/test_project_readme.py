"""The README says what the code does: its tables are generated, its commands and files exist, its JSON parses."""

from __future__ import annotations

import json
import re

import pytest
from readme_tables import README, TABLES, between

ROOT = README.parent
TEXT = README.read_text()


@pytest.mark.parametrize("name", TABLES)
def test_table_is_the_generated_one(name: str) -> None:
    """Settings, reason codes and the number of features are exactly what code and catalogue say
    (`python tests/project/readme_tables.py` writes them)."""
    assert between(name).search(TEXT)[0] == TABLES[name]()  # type: ignore[index]


def test_files_named_exist() -> None:
    """Every path the README names in back quotes or links to is in the repository."""
    quoted = re.findall(r"`((?:src|tests|benchmarks|rules|models)/[\w./-]*)`", TEXT)
    linked = re.findall(r"\]\(([\w./-]+)\)", TEXT)
    assert [name for name in {*quoted, *linked} if not (ROOT / name).exists()] == []


def test_json_snippets_are_json() -> None:
    """A reader can paste every JSON snippet."""
    snippets = re.findall(r"```json\n(.*?)```", TEXT, re.DOTALL)
    assert snippets
    assert all(isinstance(json.loads(snippet), dict) for snippet in snippets)


def test_make_targets_named_exist() -> None:
    """Every `make x` the README mentions is a target."""
    makefile = (ROOT / "Makefile").read_text()
    assert {
        name for name in re.findall(r"(?:^|`)make ([a-z-]+)", TEXT, re.M) if not re.search(rf"^{name}:", makefile, re.M)
    } == set()
