"""This service beside what others would use, side by side in one run, same answers checked before anything is timed.

    python benchmarks/peers/run.py                  # everything, about ten minutes; `make peers`
    python benchmarks/peers/run.py stack            # (a) the stack a team would otherwise assemble, over HTTP
    python benchmarks/peers/run.py feast            # (b) a feature store's online read beside our read
    python benchmarks/peers/run.py rules            # (c) rule engines, rules only
    python benchmarks/peers/run.py score            # (d) tree libraries, score only
    ... --quick                                     # a look: too short for figures
    ... --json FILE --html FILE                     # the same as a document, as a page

The tables go to standard output, progress to standard error. Everything that is compared runs in alternating rounds of
one run, wall time and CPU beside each other; look at ratios, machines differ. An answer that differs stops the run.

Fairness stands beside each result as notes, in the document too:

    stack   written to be fast, durable alike, two ways of reading; gives less than this service does (see the notes)
    feast   reads values that were computed before, which is less work than computing them now, and never as fresh
    rules   inputs as each engine wants them; nulls only where its language has them
    score   margins; a prediction's calibration costs all of them the same
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from pathlib import Path
from typing import Final

HERE: Final = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

from peer_report import Part, document, page, say, shown  # noqa: E402

PARTS: Final = {"stack": "stack", "feast": "feast_read", "rules": "rules_only", "score": "score_only"}
"""Each part and the module that runs it; imported only when asked for, for each brings libraries of its own."""


def run(names: list[str], quick: bool) -> list[Part]:
    """The parts asked for, each printed as soon as it is there."""
    parts = []
    for name in names:
        say(f"--- {name}")
        part: Part = importlib.import_module(PARTS[name]).run(quick)
        parts.append(part)
        print(shown(part) + "\n", flush=True)
    return parts


def main() -> int:
    """Compare and print; 0 if every part could be measured, 1 if a target was missed or a part could not."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("part", nargs="?", choices=[*PARTS, "all"], default="all")
    parser.add_argument("--quick", action="store_true", help="a look, in a minute or two; the figures mean little")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything as JSON")
    parser.add_argument("--html", type=Path, metavar="FILE", help="write everything as a page")
    args = parser.parse_args()
    parts = run(list(PARTS) if args.part == "all" else [args.part], args.quick)
    found = document(parts, args.quick, HERE)
    if args.json:
        args.json.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    if args.html:
        args.html.write_text(page(found, parts), encoding="utf-8")
    missed = any(ratio.met is False for part in parts for ratio in part.ratios)
    return 1 if missed or any(part.problem for part in parts) else 0


if __name__ == "__main__":
    sys.exit(main())
