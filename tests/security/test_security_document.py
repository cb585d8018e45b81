"""docs/security.md tells the truth: every risk of the OWASP list is in it, and every test it names exists."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCUMENT = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
RISKS = (
    "API1 Broken object level authorization", "API2 Broken authentication",
    "API3 Broken object property level authorization", "API4 Unrestricted resource consumption",
    "API5 Broken function level authorization", "API6 Unrestricted access to sensitive business flows",
    "API7 Server side request forgery", "API8 Security misconfiguration", "API9 Improper inventory management",
    "API10 Unsafe consumption of APIs",
)  # fmt: skip


def rows() -> list[list[str]]:
    """The cells of the table, without its head."""
    lines = [line for line in DOCUMENT.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def test_every_risk_stands_in_the_table_once_and_in_order() -> None:
    """With what is done about it, and at least one test."""
    assert tuple(row[0] for row in rows()) == RISKS
    assert all(len(row) == 3 and row[1] and "::test_" in row[2] for row in rows())


def test_every_test_the_document_names_exists() -> None:
    """By file and function; one that is renamed must be renamed there."""
    named = re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", DOCUMENT)
    assert len(named) > 20
    for path, name in named:
        tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
        functions = {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
        assert name in functions, f"{path}::{name}"
