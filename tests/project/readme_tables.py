"""The README's generated tables. Run as a script, it writes them into README.md; the test compares.

A table stands between `<!-- name -->` and `<!-- /name -->`.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

from decision_service.core.reasons import TEXTS
from decision_service.settings import settings_table

README = Path(__file__).parents[2] / "README.md"


def settings() -> str:
    """Every setting: environment name, default, meaning."""
    rows = [
        f"| `{row.environment}` | {f'`{row.default}`' if row.default else ''} | {row.meaning} |"
        for row in settings_table()
    ]
    return "\n".join(["| environment | default | meaning |", "| --- | --- | --- |", *rows])


def reasons() -> str:
    """Every reason code and its text."""
    rows = [f"| {code} | {text} |" for code, text in TEXTS.items()]
    return "\n".join(["| code | text |", "| --- | --- |", *rows])


def catalogue() -> str:
    """How many features and attributes docs/features.md lists; what they are only computed by way of is not counted."""
    text = (README.parent / "docs" / "features.md").read_text()
    counts = {family: int(count) for family, count in re.findall(r"^\| \[(\S+)\]\(#.*\| (\d+) \|$", text, re.M)}
    attributes = counts.pop("·")
    return (
        f"`rules/features/` declares {sum(counts.values())} features of {len(counts)} families; beside them stand "
        f"{attributes} declared attributes. The families are"
    )


def evidence() -> str:
    """What the scripts under benchmarks/evidence found when `make evidence` was last run."""
    folder = README.parent / "benchmarks" / "evidence"
    sys.path.insert(0, str(folder))
    from tables import TABLES as FOUND
    from tables import markdown

    results = json.loads((folder / "results.json").read_text())
    return markdown([rows for name, of in FOUND.items() for rows in of(results[name])])


def faults() -> str:
    """What `make bench-faults` printed when it was last run in full."""
    folder = README.parent / "benchmarks" / "faults"
    sys.path.insert(0, str(folder))
    from figures import markdown as figures

    return figures(json.loads((folder / "results.json").read_text()))


def _speed(name: str) -> Callable[[], str]:
    """A table of what is kept under benchmarks/results, or how to measure it."""

    def table() -> str:
        sys.path.insert(0, str(README.parent / "benchmarks"))
        module = "scale.readme" if name == "scale" else "load_report.readme"
        written: str = getattr(import_module(module), name)()
        return written

    return table


TABLES: dict[str, Callable[[], str]] = {
    "settings": settings, "reasons": reasons, "catalogue": catalogue, "evidence": evidence, "faults": faults,
    **{name: _speed(name) for name in ("targets", "budget", "load", "peers", "scale")},
}  # fmt: skip


def between(name: str) -> re.Pattern[str]:
    """What stands between a table's markers."""
    return re.compile(rf"(?<=<!-- {name} -->\n).*?(?=\n<!-- /{name} -->)", re.DOTALL)


def filled(text: str) -> str:
    """The text with every table as it should be."""
    for name, table in TABLES.items():
        written = table()
        text = between(name).sub(lambda _, written=written: written, text)
    return text


if __name__ == "__main__":
    README.write_text(filled(README.read_text()))
