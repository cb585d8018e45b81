"""Each safety guard is missed when it is gone: the suite fails without it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from mutations import MUTATIONS, ROOT, SOURCES, Mutation, check, copied_sources

GUARDS_MIN = 25


def test_every_guard_is_where_the_list_says() -> None:
    """Its text stands once in its file, its tests exist, and no two entries have one name."""
    assert len(MUTATIONS) >= GUARDS_MIN
    assert len({mutation.name for mutation in MUTATIONS}) == len(MUTATIONS)
    for mutation in MUTATIONS:
        source = (SOURCES / "decision_service" / mutation.file).read_text("utf-8")
        assert source.count(mutation.old) == 1, f"{mutation.name}: {mutation.old!r} is not once in {mutation.file}"
        assert mutation.old != mutation.new
        for test in mutation.tests:
            file, _, name = test.partition("::")
            module = ast.parse((ROOT / "tests" / file).read_text("utf-8"))
            names = [n.name for n in ast.walk(module) if isinstance(n, (ast.FunctionDef, ast.AsyncFunctionDef))]
            assert not name or name.partition("[")[0] in names, f"{mutation.name}: no test {test}"


@pytest.fixture(scope="module")
def copy() -> Iterator[Path]:
    """The sources that are spoilt."""
    with copied_sources() as made:
        yield made


@pytest.mark.slow
@pytest.mark.parametrize("mutation", MUTATIONS, ids=[m.name.replace(" ", "-") for m in MUTATIONS])
def test_a_guard_taken_away_is_noticed(mutation: Mutation, copy: Path) -> None:
    """The tests named for it fail without it."""
    outcome = check(mutation, copy)
    assert outcome.verdict == "caught", outcome.said
