"""A load run as tables and as a page; two of them beside each other.

    python benchmarks/load_report/run.py RESULT.json --html report.html
    python benchmarks/load_report/run.py BEFORE.json AFTER.json --html comparison.html
    python benchmarks/load_report/run.py targets.json --keep      into benchmarks/results, for the README

RESULT.json is what benchmarks/load writes. The same is printed as tables, or with --json for a program: the comparison,
or of one document its machine, ratios and the figures of its runs without histograms and timelines. The page is one
file, light or dark as its reader likes, and fetches nothing. The exit status is 2 if a file is no load run.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path

sys.path.pop(0)  # this folder, whose `html` would hide the standard library's
sys.path.insert(0, str(Path(__file__).parents[1]))

from decision_service.report import Figure, Report, to_markdown, write_html
from load_report import compare, html
from load_report.document import Document, NotALoadRun, options, read, slug

_BULKY = ("histogram", "timeline")
RESULTS = Path(__file__).parents[1] / "results"


def tables(report: Report) -> str:
    """The report without its plots, for a terminal."""
    return to_markdown(
        replace(
            report,
            sections=tuple(
                replace(section, blocks=tuple(block for block in section.blocks if not isinstance(block, Figure)))
                for section in report.sections
            ),
        )
    )


def compact(document: Document) -> Document:
    """A document without what only plots need, and without paths."""
    runs = [{name: value for name, value in run.items() if name not in _BULKY} for run in document["runs"]]
    return document | {"options": options(document), "runs": runs}


def main() -> int:
    """Read, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("result", type=Path, metavar="RESULT.json")
    parser.add_argument("other", type=Path, metavar="OTHER.json", nargs="?", help="a second one, to compare")
    parser.add_argument("--html", type=Path, metavar="FILE", help="write the page here")
    parser.add_argument(
        "--keep", action="store_true", help="keep it without plots' data as benchmarks/results/<workload>.json"
    )
    parser.add_argument("--json", action="store_true", help="JSON instead of tables")
    args = parser.parse_args()
    try:
        documents = [read(path) for path in (args.result, args.other) if path is not None]
    except NotALoadRun as error:
        print(error, file=sys.stderr)
        return 2
    if args.keep:
        if len(documents) > 1:
            parser.error("--keep is for one document")
        kept = RESULTS / f"{slug(documents[0]['workload'])}.json"
        kept.parent.mkdir(exist_ok=True)
        kept.write_text(json.dumps(compact(documents[0]), indent=1) + "\n")
        print(f"wrote {kept}", file=sys.stderr)
    if args.json:
        print(json.dumps(compact(documents[0]) if len(documents) == 1 else compare.as_json(*documents), indent=1))
        if not args.html:
            return 0
    report = html.report(documents[0]) if len(documents) == 1 else compare.report(*documents)
    if not args.json:
        print(tables(report))
    if args.html:
        write_html(report, args.html)
        print(f"wrote {args.html}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
