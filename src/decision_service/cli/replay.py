"""`decision-service replay FILE`: send a file of timed events through a running service as drawdowns.

The answers go to `--out`; a summary goes to standard output, progress to standard error. Exit status 0 if
every row was decided, 1 if the service refused some (the table says why), 7 if the service stayed away or
refused a facility.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import orjson

from decision_service.cli.progress import Progress
from decision_service.core.limits import DAY_MS
from decision_service.http_client import ConnectionLost, bearer_in
from decision_service.replay import Decided, Drawdown, Line, Replay, ReplayRefused, Tally
from decision_service.replay_file import Columns, count_rows, read_drawdowns, read_places
from decision_service.replay_table import Table, open_table
from decision_service.settings import PORT_DEFAULT

UNREACHABLE = 7
PLACES_FILE = "card_terminals.parquet"  # beside the default data set's transactions


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `replay`."""
    columns, line = Columns(), Line()
    parser.add_argument("file", type=Path, help="Parquet or CSV, a row an event")
    parser.add_argument("--url", default=f"http://127.0.0.1:{PORT_DEFAULT}", help="the service (%(default)s)")
    parser.add_argument("--bearer-file", type=Path, help="file that holds the API key or token to send")
    parser.add_argument("--limit", type=int, help="replay only the first rows")
    parser.add_argument("--lanes", type=int, default=32, help="customers decided at the same time (%(default)s)")
    parser.add_argument("--out", type=Path, help="table of answers: a .parquet or .jsonl file")
    parser.add_argument("--features", default="", help="features to fetch from each trace, comma-separated")
    parser.add_argument("--shift-days", type=int, default=0, help="move every instant by whole days")
    parser.add_argument("--places", type=Path, help=f"places by payee ({PLACES_FILE} beside FILE, if there)")
    parser.add_argument("--prefix", default="replay", help="of every request_id (%(default)s)")
    parser.add_argument("--json", action="store_true", help="summary as JSON")
    for name in ("customer", "occurred_at", "amount", "counterparty"):
        option = "--" + name.replace("_", "-")
        parser.add_argument(option, default=getattr(columns, name), metavar="COLUMN", help="(%(default)s)")
    parser.add_argument("--line-limit", type=float, default=line.limit, help="every customer's limit (%(default)s)")
    parser.add_argument("--currency", default=line.currency, help="of all amounts (%(default)s)")


def run(args: argparse.Namespace) -> int:
    """Replay; the exit status."""
    features = [name for name in args.features.split(",") if name]
    total = count_rows(args.file) if args.file.is_file() else None
    progress = Progress("drawdowns", min(total, args.limit) if total and args.limit else total or args.limit)
    try:
        with open_table(args.out, features) if args.out else nullcontext() as table:
            tally = asyncio.run(_replay(args, features, table, progress))
    except (ConnectionLost, ReplayRefused) as error:
        print(f"replay stopped: {error}", file=sys.stderr)
        return UNREACHABLE
    progress.finish(tally.sent)
    _print_summary(args, tally, progress.elapsed_s)
    return 1 if tally.outcomes["rejected"] else 0


async def _replay(args: argparse.Namespace, features: list[str], table: Table | None, progress: Progress) -> Tally:
    def take(decided: Decided) -> None:
        if table is not None:
            table.write(decided.as_row())
        progress.show(replay.tally.sent, _shares(replay.tally))

    replay = Replay(
        args.url, take, line=Line(limit=args.line_limit, currency=args.currency), lanes=args.lanes,
        features=features, prefix=args.prefix,
        bearer=bearer_in(args.bearer_file),
    )  # fmt: skip
    return await replay.run(_drawdowns(args))


def _drawdowns(args: argparse.Namespace) -> Iterator[Drawdown]:
    columns = Columns(args.customer, args.occurred_at, args.amount, args.counterparty)
    places = args.places or args.file.with_name(PLACES_FILE)
    known = read_places(places, columns.counterparty) if args.places or places.is_file() else {}
    return read_drawdowns(args.file, columns, known, shift_ms=args.shift_days * DAY_MS, limit=args.limit)


def _shares(tally: Tally) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in tally.outcomes.most_common())


def _print_summary(args: argparse.Namespace, tally: Tally, seconds: float) -> None:
    summary: dict[str, Any] = {
        "file": str(args.file), "drawdowns": tally.sent, "outcomes": dict(tally.outcomes),
        "asked_again": tally.asked_again, "seconds": round(seconds, 3),
        "drawdowns_per_s": round(tally.sent / max(seconds, 1e-9), 1), "out": str(args.out) if args.out else None,
    }  # fmt: skip
    if args.json:
        print(orjson.dumps(summary).decode())
        return
    print(f"{tally.sent:,} drawdowns in {seconds:,.1f} s ({summary['drawdowns_per_s']:,.0f}/s): {_shares(tally)}")
    if args.out:
        print(f"answers in {args.out}")
