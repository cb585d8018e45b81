"""What rules cost: judging one decision beside other rule engines, judging a file of decisions, compiling thousands.

    python benchmarks/rules.py            # everything, about three minutes; needs the extra `bench`
    python benchmarks/rules.py --json     # the same for a machine

One decision: 40 and 400 rules with one matrix (`rules_made.py`), after features: the values lie in their vectors, and
what comes out is verdicts, effects with reasons, and the cell hit. The same conditions in zen-engine and rule-engine
(`rules_peers.py`), the answers compared for every decision before anything is timed.

Columns: 40 rules and a matrix over a Parquet file of their values with nulls in it, reading it included and not.

Compiling: CPU seconds of one thread for 5,000 rules with two inline tests each, from the text on, and how long a task
of an event loop that only sleeps 2 ms is late while a thread does it (beside an idle loop). `--quick` for a look.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
from pyarrow import parquet

from decision_service.core.expressions.units import report_mixed_units
from decision_service.core.rules.codegen import FIRED
from decision_service.core.rules.columns import VectorRuleSet
from decision_service.core.rules.compile import RuleSet
from decision_service.core.rules.lint import lint_condition
from decision_service.core.rules.shadows import lint_rules
from decision_service.core.source import Findings, Scalar
from decision_service.core.vocabulary import Kind, Layout, NameSpec, Vocabulary
from decision_service.interpreter import beside_the_loop
from decision_service.tables.columns import read_decisions
from decision_service.tables.file import open_file
from rules_made import (
    LAYOUT,
    NUMBERS,
    STRINGS,
    WORDS,
    compiled,
    conditions,
    decisions,
    many_rules_text,
    rule_set_text,
)
from rules_peers import PEERS

T_MS: Final = 1_795_000_000_000
OURS: Final = "this service"
Report = dict[str, Any]


def spread(seconds: list[float], scale: float) -> Report:
    """Median and percentiles of times, in units of 1 / `scale` seconds."""
    p50, p90, p99 = (round(float(x) * scale, 2) for x in np.percentile(seconds, [50, 90, 99]))
    return {"p50": p50, "p90": p90, "p99": p99}


# --- one decision ----------------------------------------------------------------------------------------------------


def one_decision(rules: int, calls: int) -> Report:
    """Microseconds of one decision by every engine, on the same conditions and values."""
    whens, asked = conditions(rules), decisions(200)
    rule_set = compiled(rule_set_text(whens))
    vectors = [([float(d[n]) for n in NUMBERS], [str(d[n]) for n in STRINGS]) for d in asked]
    ours = [[v == FIRED for v in judged(rule_set, *vector).verdicts] for vector in vectors]
    found: Report = {OURS: spread(times(lambda i: judged(rule_set, *vectors[i % 200]), calls), 1e6)}
    for name, make in PEERS.items():
        decide = make(whens)
        for values, answer in zip(asked, ours, strict=True):
            assert decide(values) == answer, f"{name} judges differently"
        peer_calls = max(200, calls // 100)
        found[name] = spread(times(lambda i, decide=decide: decide(asked[i % 200]), peer_calls), 1e6)
    for spent in found.values():
        spent["ratio"] = round(spent["p50"] / found[OURS]["p50"], 1)
    fired = sum(map(sum, ours)) / len(ours)
    return {"rules": rules, "decisions_compared": len(asked), "fired_on_average": round(fired, 1), "us": found}


def judged(rule_set: RuleSet, numbers: list[float], strings: list[str]) -> Any:
    """One evaluation."""
    return rule_set.evaluate(numbers, strings, {}, T_MS, 100, 2_000_000, 1_800)


def times(call: Callable[[int], Any], calls: int) -> list[float]:
    """Seconds of each call, after some that warm up."""
    for i in range(calls // 10):
        call(i)
    spent = []
    for i in range(calls):
        began = time.perf_counter()
        call(i)
        spent.append(time.perf_counter() - began)
    return spent


# --- columns ---------------------------------------------------------------------------------------------------------


def write_decisions(path: Path, rows: int) -> None:
    """Random values of every name, one in twenty null."""
    random = np.random.default_rng(1)
    columns: dict[str, pa.Array] = {
        name: pa.array(random.integers(0, 65, rows) / 64, mask=random.random(rows) < 0.05) for name in NUMBERS
    }
    for name in STRINGS:
        columns[name] = pa.array(np.array(WORDS)[random.integers(0, 5, rows)], mask=random.random(rows) < 0.05)
    parquet.write_table(pa.table(columns), path, row_group_size=131_072)


def from_parquet(rows: int, rounds: int) -> Report:
    """Decisions a second of one core, over a file, by 40 rules and a matrix."""
    spec = compiled(rule_set_text(conditions(40))).spec
    rule_set, names = VectorRuleSet(spec, LAYOUT), sorted(spec.names_used)
    judging, reading = [], []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "decisions.parquet"
        write_decisions(path, rows)
        size = path.stat().st_size
        for _ in range(rounds):
            judged_s, began = 0.0, time.process_time()
            for part in read_decisions(open_file(path, None), LAYOUT, names):
                start = time.process_time()
                rule_set.judge(part.columns, part.t_ms)
                judged_s += time.process_time() - start
            judging.append(rows / judged_s)
            reading.append(rows / (time.process_time() - began))
    return {
        "rows": rows, "rules": 40, "columns_read": len(names), "file_mb": round(size / 1e6, 1),
        "decisions_per_s": {"best": max(judging), "median": float(np.median(judging))},
        "decisions_per_s_reading_included": {"best": max(reading), "median": float(np.median(reading))},
    }  # fmt: skip


# --- compiling -------------------------------------------------------------------------------------------------------


def compiling(rules: int, rounds: int) -> Report:
    """CPU seconds, and how late the tasks of an event loop are meanwhile."""
    text = many_rules_text(rules)
    vocabulary = Vocabulary({name: NameSpec(name, Kind.NUMBER) for name in "abc"})
    layout = Layout({name: i for i, name in enumerate("abc")}, {})
    seconds = []

    def compile_once() -> None:
        with beside_the_loop():
            began = time.thread_time()
            compiled(f"{text}# {len(seconds)} {time.time()}\n", vocabulary, layout)  # text the reader has not seen
            seconds.append(time.thread_time() - began)

    for _ in range(rounds):
        compile_once()
    alone, warnings = list(seconds), warnings_seconds(compiled(text, vocabulary, layout))
    idle, busy = asyncio.run(lateness(compile_once))
    return {
        "rules": rules, "cpu_s": {"best": min(alone), "median": float(np.median(alone))}, "of_it_warnings_s": warnings,
        "loop_late_ms": {"idle": spread(idle, 1e3), "compiling": spread(busy, 1e3) | {"max": max(busy) * 1e3}},
    }  # fmt: skip


def warnings_seconds(rule_set: RuleSet) -> float:
    """CPU seconds of everything that only warns: conditions, units, rules in each other's way. Part of compiling."""
    findings = Findings()
    began = time.thread_time()
    for rule in rule_set.rules:
        report_mixed_units(rule.when, findings)
        lint_condition(rule.when, Scalar(rule.when_text, rule.when.place), findings)
    lint_rules(rule_set.rules, findings)
    return time.thread_time() - began


async def lateness(work: Callable[[], None]) -> tuple[list[float], list[float]]:
    """How late a task that sleeps 2 ms is, in seconds: with nothing else to do, and while `work` runs in a thread."""
    idle, busy = [], []
    done = asyncio.create_task(asyncio.sleep(2))
    for late, wait in ((idle, done), (busy, None)):
        running = wait or asyncio.create_task(asyncio.to_thread(work))
        while not running.done():
            began = time.perf_counter()
            await asyncio.sleep(0.002)
            late.append(time.perf_counter() - began - 0.002)
        await running
    return idle, busy


# --- the report ------------------------------------------------------------------------------------------------------


def show(report: Report) -> None:
    """Print it as tables."""
    for part in report["one_decision"]:
        print(f"one decision, {part['rules']} rules and a matrix ({part['fired_on_average']} rules fire), microseconds")
        for name, spent in part["us"].items():
            print(f"  {name:22} p50 {spent['p50']:>9,.1f}  p90 {spent['p90']:>9,.1f}  p99 {spent['p99']:>9,.1f}"
                  f"  {spent['ratio']:>6,.1f} x")  # fmt: skip
    columns = report["columns"]
    print(f"{columns['rows']:,} decisions in Parquet ({columns['file_mb']} MB), {columns['rules']} rules and a matrix")
    for name, rate in (
        ("judging", "decisions_per_s"), ("reading and judging", "decisions_per_s_reading_included")
    ):  # fmt: skip
        print(f"  {name:22} {columns[rate]['best']:>12,.0f}/s of one core, median {columns[rate]['median']:>12,.0f}/s")
    compile_ = report["compiling"]
    late = compile_["loop_late_ms"]
    print(f"compiling {compile_['rules']:,} rules with {2 * compile_['rules']:,} inline tests")
    print(f"  CPU                    {compile_['cpu_s']['best']:.2f} s, median {compile_['cpu_s']['median']:.2f} s")
    print(f"  of it warnings         {compile_['of_it_warnings_s']:.2f} s")
    for name in ("idle", "compiling"):
        print(f"  event loop late        {name:9} p50 {late[name]['p50']} ms, p99 {late[name]['p99']} ms")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rules", type=int, default=5_000, help="rules to compile (5,000)")
    parser.add_argument("--decisions", type=int, default=1_000_000, help="rows of the Parquet file (1,000,000)")
    parser.add_argument("--calls", type=int, default=50_000, help="single decisions timed (50,000; peers a hundredth)")
    parser.add_argument("--rounds", type=int, default=5, help="of the file and of compiling (5)")
    parser.add_argument("--quick", action="store_true", help="a tenth of everything")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    less = 10 if args.quick else 1
    report = {
        "one_decision": [one_decision(rules, args.calls // less) for rules in (40, 400)],
        "columns": from_parquet(args.decisions // less, args.rounds),
        "compiling": compiling(args.rules // less, args.rounds),
    }
    print(json.dumps(report)) if args.json else show(report)


if __name__ == "__main__":
    main()
