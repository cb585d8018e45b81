"""The fault catalogue, the tests that show each fault, and the table of what a run of them found.

A test says which faults it shows: `@pytest.mark.fault("A03")`, several ids if it shows several, on a function, on a
class, on one `pytest.param`, or as `pytestmark` of a module. Ids are literals, for they are also read from the sources
without importing them: the table names every test of a fault, run or not.

    pytest -m fault --fault-report docs/faults.md      run them (any selection; with -n too) and write the table
    python tests/faults/fault_report.py                write it anew with the results of the last run

Beside the table stands a JSON file with the outcome of every test, so that the table can be made again.
"""

from __future__ import annotations

import ast
import functools
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest
import yaml

ROOT: Final = Path(__file__).parents[2]
CATALOGUE: Final = Path(__file__).with_name("catalogue.yaml")
DOCUMENT: Final = ROOT / "docs" / "faults.md"
PROPERTY: Final = "fault"

Outcomes = dict[str, dict[str, dict[str, int]]]  # fault -> test (path::name) -> outcome -> how many of its cases
Marks = dict[str, list[str]]  # fault -> its tests, path::name, in the order of files

HEAD: Final = """# Faults

Every way the service may be hurt that its tests show: what happens, the safe behaviour they assert, and which tests
they are. Written by `make faults`, with the results of that run; `tests/faults/catalogue.yaml` is the catalogue.
"""


@dataclass(frozen=True, slots=True)
class Fault:
    """One entry of the catalogue. Either `expected` or `not_applicable` is empty."""

    id: str
    fault: str
    expected: str
    not_applicable: str


@functools.cache
def catalogue() -> dict[str, Fault]:
    """Every fault by its id, in order."""
    entries = yaml.safe_load(CATALOGUE.read_text("utf-8"))["faults"]
    return {
        key: Fault(key, entry["fault"], entry.get("expected", ""), entry.get("not_applicable", ""))
        for key, entry in entries.items()
    }


@functools.cache
def sections() -> dict[str, str]:
    """The letter of each section and its title."""
    found: dict[str, str] = yaml.safe_load(CATALOGUE.read_text("utf-8"))["sections"]
    return found


# --- which tests show which faults ------------------------------------------------------------------------------------


def marks_in(tests: Path) -> Marks:
    """The tests that carry each id, read from the sources. ValueError for a mark whose ids are no literals."""
    marks: Marks = {}
    for file in sorted(tests.rglob("test_*.py")):
        path = file.relative_to(tests.parent).as_posix()
        for name, ids in _marked_tests(ast.parse(file.read_text("utf-8")), path):
            for fault in ids:
                marks.setdefault(fault, []).append(f"{path}::{name}")
    return {fault: list(dict.fromkeys(named)) for fault, named in sorted(marks.items())}


def _marked_tests(module: ast.Module, path: str) -> Iterator[tuple[str, list[str]]]:
    """Each test of a module that carries ids, with them."""
    of_module = [i for node in module.body if _is_pytestmark(node) for i in _ids_in(node, path)]
    for node in module.body:
        of_class, within, members = of_module, "", [node]
        if isinstance(node, ast.ClassDef):
            of_class = of_module + [i for d in node.decorator_list for i in _ids_in(d, path)]
            within, members = f"{node.name}::", node.body
        for test in members:
            if isinstance(test, (ast.FunctionDef, ast.AsyncFunctionDef)) and test.name.startswith("test_"):
                ids = of_class + [i for decorator in test.decorator_list for i in _ids_in(decorator, path)]
                if ids:
                    yield within + test.name, ids


def _is_pytestmark(node: ast.stmt) -> bool:
    return isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == "pytestmark" for t in node.targets)


def _ids_in(tree: ast.AST, path: str) -> Iterator[str]:
    """The ids of every `pytest.mark.fault(...)` in a tree."""
    for call in ast.walk(tree):
        if not (isinstance(call, ast.Call) and ast.unparse(call.func) == "pytest.mark.fault"):
            continue
        for argument in call.args:
            if not (isinstance(argument, ast.Constant) and isinstance(argument.value, str)):
                raise ValueError(f"{path}:{call.lineno}: the ids of a fault mark are written out")
            yield argument.value


# --- the table --------------------------------------------------------------------------------------------------------


def table(marks: Marks, outcomes: Outcomes) -> str:
    """The whole document."""
    parts = [HEAD, f"{summary(marks, outcomes)}\n"]
    for letter, title in sections().items():
        parts.append(f"## {letter}. {title}\n")
        parts.append("| id | fault | safe behaviour | tests | result |\n| --- | --- | --- | --- | --- |")
        for fault in catalogue().values():
            if fault.id.startswith(letter):
                tests = marks.get(fault.id, [])
                parts.append(f"{row(fault, tests)} {_result(tests, outcomes.get(fault.id, {}))} |")
        parts.append("")
    return "\n".join(parts).rstrip("\n") + "\n"


def row(fault: Fault, tests: list[str]) -> str:
    """A row of the table without its last cell."""
    behaviour = fault.expected or f"Not applicable: {fault.not_applicable}"
    links = [f"[{name.split('::')[-1]}](../{name.split('::')[0]})" for name in tests]
    cells = (fault.id, fault.fault, behaviour, "<br>".join(links))
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def summary(marks: Marks, outcomes: Outcomes) -> str:
    """One sentence: how many faults passed, and what became of the others."""
    said: dict[str, int] = {}
    for fault in catalogue().values():
        word = (
            "not applicable" if fault.not_applicable else _result(marks.get(fault.id, []), outcomes).partition(" (")[0]
        )
        said[word] = said.get(word, 0) + 1
    counts = ", ".join(f"{said[word]} {word}" for word in sorted(said, key=lambda w: (w != "passed", w)))
    return f"{len(catalogue())} faults: {counts}."


def _result(tests: list[str], outcomes: dict[str, dict[str, int]]) -> str:
    """What the run says of a fault: it passed only if each of its tests passed in every case."""
    if not tests:
        return "no test"
    total: dict[str, int] = {}
    for test in tests:
        for outcome, cases in outcomes.get(test, {"not run": 1}).items():
            if cases:
                total[outcome] = total.get(outcome, 0) + cases
    for worst in ("failed", "not run", "skipped"):
        if worst in total and (worst == "failed" or "passed" not in total):
            return f"{worst} ({total[worst]} of {sum(total.values())})"
    partly = [f"{total[word]} {word}" for word in ("not run", "skipped") if word in total]
    return f"passed ({', '.join([str(total['passed']), *partly])})"


def write(path: Path, marks: Marks, outcomes: Outcomes) -> None:
    """The table and, beside it, the outcomes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(table(marks, outcomes), "utf-8")
    body = {"summary": summary(marks, outcomes), "faults": outcomes}
    path.with_suffix(".json").write_text(json.dumps(body, indent=1, sort_keys=True) + "\n", "utf-8")


# --- the plugin -------------------------------------------------------------------------------------------------------


def add_option(parser: pytest.Parser) -> None:
    """For `pytest_addoption` of the conftest."""
    parser.addoption(
        "--fault-report", metavar="PATH", help="write the table of faults with the results of this run, and a JSON file"
    )


def configure(config: pytest.Config) -> None:
    """For `pytest_configure` of the conftest: in a worker of xdist there is nothing to report."""
    path = config.getoption("--fault-report")
    if path and not hasattr(config, "workerinput"):
        config.pluginmanager.register(FaultReport(Path(path), config.rootpath / "tests"), "fault-report")


def note_faults(item: pytest.Item) -> None:
    """For `pytest_itemcollected` of the conftest: the ids travel with the reports, from a worker of xdist as well."""
    for mark in item.iter_markers("fault"):
        item.user_properties.extend((PROPERTY, fault) for fault in mark.args)


class FaultReport:
    """Gathers the outcomes of marked tests and writes the table at the end."""

    def __init__(self, path: Path, tests: Path) -> None:
        self._path = path
        self._tests = tests
        self._outcomes: Outcomes = {}
        self._failed: set[str] = set()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Count one case once: as its call ended, or as what kept it from being called."""
        if report.nodeid in self._failed or (report.when != "call" and report.passed):
            return
        if report.failed:
            self._failed.add(report.nodeid)
        for fault in dict.fromkeys(str(fault) for name, fault in report.user_properties if name == PROPERTY):
            cases = self._outcomes.setdefault(fault, {}).setdefault(report.nodeid.partition("[")[0], {})
            if report.failed and report.when == "teardown" and cases.get("passed"):
                cases["passed"] -= 1  # its call had passed
            cases[report.outcome] = cases.get(report.outcome, 0) + 1

    def pytest_sessionfinish(self) -> None:
        """Write the table."""
        write(self._path, marks_in(self._tests), self._outcomes)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Say what it came to."""
        terminalreporter.write_line(f"{summary(marks_in(self._tests), self._outcomes)} Written to {self._path}.")


def main() -> None:
    """Write docs/faults.md with the tests there are now and the outcomes of the last run."""
    last = DOCUMENT.with_suffix(".json")
    outcomes: Outcomes = json.loads(last.read_text("utf-8"))["faults"] if last.exists() else {}
    marks = marks_in(ROOT / "tests")
    write(DOCUMENT, marks, outcomes)
    print(summary(marks, outcomes))


if __name__ == "__main__":
    main()
