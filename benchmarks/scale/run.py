"""Scale on paper, from measured numbers: what 1 k to 100 k decisions/s and 10 M to 1 B customers take.

    python benchmarks/scale/run.py                       measure (a few minutes), work out, print
    python benchmarks/scale/run.py --json scale.json --html scale.html
    python benchmarks/scale/run.py --from scale.json --set decisions_kept_days=7 --set replicas=2
    python benchmarks/scale/run.py --keep                write benchmarks/results/scale.json, which the README shows

It starts a Valkey and one worker of the service in a temporary directory on free loopback ports, loads some customers
of four history lengths, has decisions made, and stops both. Then the model (`scale/model.py`) works out cores and
shards under stated assumptions (`--set NAME=VALUE`; the report lists all), and a simulation (`scale/balance.py`) says
how evenly the service's hashes spread load over partitions and shards. `--from` takes the measurement of an earlier
--json file. CPU figures want a machine that does nothing else; bytes, commands and fsyncs do not.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

sys.path.pop(0)  # this folder: its modules are named with their package
sys.path.insert(0, str(Path(__file__).parents[1]))

from decision_service.core.limits import PARTITIONS, PARTITIONS_MAX
from decision_service.report import Figure, to_markdown
from scale import balance, measure, model, page

KEPT = Path(__file__).parents[1] / "results" / "scale.json"


def document(measured: dict[str, Any], given: model.Assumptions, partitions: int, say: measure.Say) -> dict[str, Any]:
    """Measurement, simulation and model together, as JSON would give them back."""
    say("simulating how evenly load falls")
    payees = round(model.CUSTOMERS[0] / given.customers_per_payee)
    spread = balance.simulate(model.CUSTOMERS, partitions, payees)
    say("working out the sizes")
    found = {"measured": measured, "balance": spread, "model": model.as_json(measured, given, spread)}
    rounded: dict[str, Any] = json.loads(json.dumps(found), parse_float=lambda text: float(f"{float(text):.6g}"))
    return rounded


def measured_in(path: Path) -> dict[str, Any]:
    """The measurement in a file that --json wrote. SystemExit if there is none."""
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        sys.exit(f"{path}: {error}")
    measured: dict[str, Any] = found.get("measured", {})
    if measured.get("format") != measure.FORMAT:
        sys.exit(f"{path}: it holds no measurement of format {measure.FORMAT!r}")
    return measured


def assumptions(pairs: list[str]) -> model.Assumptions:
    """The assumptions with some of them changed. SystemExit for what is none."""
    given = model.Assumptions()
    names = {field.name for field in fields(model.Assumptions)}
    for pair in pairs:
        name, _, value = pair.partition("=")
        if name not in names:
            sys.exit(f"no assumption {name!r}; there are {', '.join(sorted(names))}")
        try:
            given = replace(given, **{name: float(value)})
        except ValueError:
            sys.exit(f"{pair}: expected a number")
    if given.zipf not in balance.EXPONENTS:
        sys.exit(f"zipf must be one of {', '.join(map(str, balance.EXPONENTS))}")
    return given


def tables(found: dict[str, Any]) -> str:
    """The report without its plots."""
    report = page.report(found)
    bare = [
        replace(section, blocks=tuple(block for block in section.blocks if not isinstance(block, Figure)))
        for section in report.sections
    ]
    return to_markdown(replace(report, sections=tuple(bare)))


def say(text: str) -> None:
    """Progress, on standard error."""
    print(text, file=sys.stderr, flush=True)


def main() -> None:
    """Measure or read, work out, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--from", dest="source", type=Path, metavar="FILE", help="reuse a measurement")
    parser.add_argument("--set", dest="pairs", action="append", default=[], metavar="NAME=VALUE", help="an assumption")
    parser.add_argument("--partitions", type=int, default=PARTITIONS, help=f"of the store ({PARTITIONS})")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything here")
    parser.add_argument("--html", type=Path, metavar="FILE", help="write the page here")
    parser.add_argument("--keep", action="store_true", help="write benchmarks/results/scale.json")
    parser.add_argument("--small", action="store_true", help="a trial in half a minute whose figures say nothing")
    args = parser.parse_args()
    if args.small and args.keep:
        parser.error("the figures of --small are not for keeping")
    if not 1 <= args.partitions <= PARTITIONS_MAX:
        parser.error(f"--partitions: expected 1 to {PARTITIONS_MAX}")
    given = assumptions(args.pairs)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that what was started is ended
    measured = measured_in(args.source) if args.source else measure.measure(say, args.small)
    found = document(measured, given, args.partitions, say)
    for path in [args.json, KEPT if args.keep else None]:
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(found, indent=1) + "\n")
            say(f"wrote {path}")
    print(tables(found))
    if args.html:
        page.write(found, args.html)
        say(f"wrote {args.html}")


if __name__ == "__main__":
    main()
