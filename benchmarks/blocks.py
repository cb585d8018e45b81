"""What blocks cost: a decision table, a decision tree and a points scorecard, to compile and to judge by.

    python benchmarks/blocks.py            # CPU time of one core; the best of nine runs
    python benchmarks/blocks.py --json

`us` is one decision by a rule set of that block and nothing else, `reading_ms` from YAML nodes to the checked
specification (gaps and overlaps looked for), `compiling_ms` to the generated function, `columns_per_s` decisions a
second over columns of random values.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from typing import Any, Final

import numpy as np

from decision_service.core.expressions.columns import Columns, Texts
from decision_service.core.rules.columns import VectorRuleSet
from decision_service.core.rules.compile import compile_rule_set
from decision_service.core.rules.schema import read_rule_set
from decision_service.core.source import Findings
from decision_service.core.vocabulary import Kind, Layout, NameSpec, Vocabulary
from decision_service.policies.files import read_text

NUMBERS: Final = tuple(f"n{i}" for i in range(10))
VOCABULARY: Final = Vocabulary(
    {name: NameSpec(name, Kind.NUMBER) for name in NUMBERS} | {"grade": NameSpec("grade", Kind.STRING)}
)
HEAD: Final = {"rule_set": "one", "scene": "drawdown", "fallback": {"static": {"hold": "review", "reason": "RC90"}}}
DECISIONS: Final = 200_000
CALLS: Final = 20_000
RUNS: Final = 9


def table(rows: int) -> dict[str, Any]:
    """A `first` table of four inputs: five grades, equal steps of a number, and two more values."""
    steps = rows // 5
    cells = [
        [grade, f"> {i / steps:g} and <= {(i + 1) / steps:g}", "any" if i % 2 else "<= 3", "any"]
        for grade in "ABCDE"
        for i in range(steps)
    ]
    return {
        "id": "t", "hit": "first", "inputs": ["grade", "n0", "n1", "n2"], "otherwise": "nothing", "on_null": "skip",
        "rows": [{"if": row, "then": {"tag": f"r{i}"}} for i, row in enumerate(cells)],
    }  # fmt: skip


def tree(leaves: int) -> dict[str, Any]:
    """A tree of so many leaves, as even as it can be."""
    return {"id": "t", "root": _node(leaves, 0.0, 1.0), "on_null": "skip"}


def _node(leaves: int, low: float, high: float) -> Any:
    if leaves == 1:
        return {"tag": "leaf"}
    middle = (low + high) / 2
    ways = {"then": _node(leaves - leaves // 2, middle, high), "else": _node(leaves // 2, low, middle)}
    return {"if": f"n0 > {middle:g} and n1 <= 1000", **ways}


def points(characteristics: int) -> dict[str, Any]:
    """A scorecard of so many values with four bins and one for null each."""
    bins = {"<= 0.3": 30, "> 0.3 and <= 0.8": 10, "> 0.8 and <= 2": -5, "> 2": -20, "null": 0}
    return {
        "id": "p", "base": 500, "grades": {"A": 560, "B": 520, "C": 0},
        "of": [{"value": name, "bins": bins} for name in NUMBERS[:characteristics]],
    }  # fmt: skip


BLOCKS: Final[dict[str, dict[str, Any]]] = {
    "one rule": {},
    "table, 50 rows of 4 inputs": {"tables": [table(50)]},
    "table, 1,000 rows of 4 inputs": {"tables": [table(1_000)]},
    "tree, 20 leaves": {"trees": [tree(20)]},
    "points, 10 characteristics": {"points": [points(10)]},
}  # fmt: skip


def best(run: Callable[[], object]) -> float:
    """CPU seconds of the fastest run."""
    seconds = []
    for _ in range(RUNS):
        began = time.process_time()
        run()
        seconds.append(time.process_time() - began)
    return min(seconds)


def measured(block: dict[str, Any]) -> dict[str, float]:
    """The figures of one rule set."""
    rule = {"id": "one", "when": "n0 > 1000", "then": {"tag": "high"}}
    findings = Findings()
    document = read_text(json.dumps(HEAD | {"rules": [rule]} | block), "one.yaml", findings)
    assert document is not None
    began = time.process_time()
    spec = read_rule_set(document, VOCABULARY, findings)
    reading = time.process_time() - began
    assert spec is not None, findings.errors
    numbers, strings = (*NUMBERS, *spec.numbers_filled), ("grade", *spec.strings_filled)
    layout = Layout({name: i for i, name in enumerate(numbers)}, {name: i for i, name in enumerate(strings)})
    began = time.process_time()
    rule_set = compile_rule_set(spec, layout, findings)
    compiling = time.process_time() - began
    values: list[float] = [0.77] * len(numbers)
    texts: list[str | None] = ["D"] * len(strings)

    def decide() -> None:
        for _ in range(CALLS):
            rule_set.evaluate(values, texts, {}, 0, 100, 100_000, 1_800)

    random = np.random.default_rng(1)
    columns = Columns(
        DECISIONS, [random.random(DECISIONS) for _ in numbers],
        [Texts(random.integers(-1, 5, DECISIONS).astype(np.int32), tuple("ABCDE")) for _ in strings], {},
    )  # fmt: skip
    vector, instants = VectorRuleSet(spec, layout), np.zeros(DECISIONS, np.int64)
    return {
        "us": round(best(decide) / CALLS * 1e6, 2), "reading_ms": round(reading * 1e3, 1),
        "compiling_ms": round(compiling * 1e3, 1),
        "columns_per_s": round(DECISIONS / best(lambda: vector.judge(columns, instants))),
    }  # fmt: skip


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    figures = {name: measured(block) for name, block in BLOCKS.items()}
    if args.json:
        print(json.dumps(figures))
        return
    for name, told in figures.items():
        print(
            f"{name:30} {told['us']:6.2f} us a decision, read {told['reading_ms']:7.1f} ms, "
            f"compiled {told['compiling_ms']:6.1f} ms, {told['columns_per_s']:12,.0f} a second as columns"
        )


if __name__ == "__main__":
    main()
