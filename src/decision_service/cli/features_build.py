"""`decision-service features build`: point-in-time features for a table of questions, from a file of events.

The summary goes to standard output; progress, and the first of the rows that are left out, to standard error. Exit
status 0 if every question got its row, 1 if some were left out.
"""

from __future__ import annotations

import argparse
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import orjson

from decision_service.api.parse import Clock
from decision_service.bootstrap import retention_of
from decision_service.build import Build, Built, build
from decision_service.build.history import Keeping
from decision_service.build.table import TableSpec, read_spec, spec_of_policy
from decision_service.cli.ending import check_apart, cleaning_up
from decision_service.cli.file_columns import ATTRIBUTES, EVENTS, FACILITIES, QUESTIONS, tell_columns
from decision_service.cli.policy_options import policy_of
from decision_service.cli.progress import Progress
from decision_service.core.errors import InvalidInput
from decision_service.core.limits import CLOCK_AHEAD_MAX_MS
from decision_service.imports.refused import RefusedRows
from decision_service.settings import Settings, load_settings

SOME_LEFT_OUT: Final = 1
_BYTES: Final = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `features build`."""
    tell_columns(parser, EVENTS, QUESTIONS, FACILITIES, ATTRIBUTES)
    parser.add_argument("--events", type=Path, required=True, help="events, .parquet or .csv")
    parser.add_argument("--at", type=Path, required=True, help="questions, .parquet or .csv: a row each")
    parser.add_argument("--out", type=Path, required=True, help=".parquet to write: the columns of --at, then features")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--names", help="features, comma-separated")
    which.add_argument("--policy", type=Path, metavar="DIR", help="all that the rule sets and scorecards of DIR use")
    which.add_argument("--all", action="store_true", help="every feature that is not internal (the default)")
    parser.add_argument("--facilities", type=Path, help="snapshots of credit lines, with optional recorded_at")
    parser.add_argument("--attributes", type=Path, help="attribute values, with optional recorded_at")
    parser.add_argument("--rules", type=Path, help="rules directory with the definitions (setting `rules`)")
    parser.add_argument("--models", type=Path, help="scorecards, for --policy (setting `models`)")
    parser.add_argument("--time-zone", help="business time zone (setting `time_zone`)")
    parser.add_argument("--workers", type=int, help="processes (one a core)")
    parser.add_argument("--memory", default="1GB", type=_size, help="for all processes together (%(default)s)")
    parser.add_argument("--rejected", type=Path, help="write every row left out: .jsonl or .csv")
    parser.add_argument("--json", action="store_true", help="summary as JSON")


def _size(text: str) -> int:
    """Bytes of `512MB`, `1GB`."""
    found = re.fullmatch(r"(\d+)\s*([KMG]?)i?B?", text.strip(), re.IGNORECASE)
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no size: 512MB or 1GB is expected")
    return int(found[1]) * _BYTES[found[2].upper()]


def run(args: argparse.Namespace) -> int:
    """Build; the exit status."""
    if args.workers is not None and args.workers < 1:
        raise InvalidInput("workers", "at least one process is needed")
    for field, written in (("rejected", args.rejected), ("out", args.out)):
        check_apart(field, written, (args.events, args.at, args.facilities, args.attributes))
    given = {"rules": args.policy or args.rules, "models": args.models, "time_zone": args.time_zone}
    settings = load_settings(**given)
    table = _table(args, settings)
    began = time.monotonic()
    with cleaning_up(), RefusedRows(args.rejected) as rejected:
        passes = _Passes()
        built = build(_build(args, settings, table), passes.show)
        passes.end()
        for file, bad in built.bad.items():
            rejected.write(getattr(args, {"questions": "at"}.get(file, file)), bad)
    summary = _summary(args, table, built, time.monotonic() - began)
    print(orjson.dumps(summary).decode() if args.json else _text(summary))
    return SOME_LEFT_OUT if built.bad.get("questions") else 0


def _table(args: argparse.Namespace, settings: Settings) -> TableSpec:
    if args.policy:
        policy, _ = policy_of(settings)
        return spec_of_policy(policy)
    names = None if args.names is None else [name.strip() for name in args.names.split(",") if name.strip()]
    if names == []:
        raise InvalidInput("names", "name at least one feature")
    return read_spec(settings.rules, names, settings.time_zone)


def _build(args: argparse.Namespace, settings: Settings, table: TableSpec) -> Build:
    retention = retention_of(settings)
    return Build(
        args.events, args.at, args.out, table, Clock(time.time_ns() // 1_000_000, CLOCK_AHEAD_MAX_MS, 0),
        Keeping(retention.retention_ms, retention.events_max, retention.slack), settings.links_per_entity_max,
        settings.reservation_timeout_ms, args.facilities, args.attributes, args.workers, args.memory,
    )  # fmt: skip


class _Passes:
    """A line of progress for every pass."""

    def __init__(self) -> None:
        self._name, self._done = "", 0
        self._progress: Progress | None = None

    def show(self, name: str, done: int, total: int) -> None:
        """As `build.run.Say`."""
        if name != self._name:
            self.end()
            self._name = name
            self._progress = Progress("rows of the table" if name == "table" else f"parts: {name}", total)
        self._done = done
        assert self._progress is not None
        self._progress.show(done)

    def end(self) -> None:
        """The pass is over."""
        if self._progress is not None:
            self._progress.finish(self._done)


def _summary(args: argparse.Namespace, table: TableSpec, built: Built, seconds: float) -> dict[str, Any]:
    return {
        "out": str(args.out), "rows": built.rows, "features": len(table.names), "events": built.events,
        "repeated_events": built.repeated, "left_out": {file: len(bad) for file, bad in built.bad.items()},
        "seconds": round(seconds, 3), "rows_per_s": round(built.rows / max(seconds, 1e-9), 1),
        "workers": built.workers, "partitions": built.partitions,
        "facilities_known": args.facilities is not None,
    }  # fmt: skip


def _text(summary: Mapping[str, Any]) -> str:
    lines = [
        f"{summary['out']}: {summary['rows']:,} rows of {summary['features']:,} features from {summary['events']:,} "
        f"events in {summary['seconds']:,.1f} s ({summary['rows_per_s']:,.0f} rows/s, {summary['workers']} processes)"
    ]
    lines += [f"  {count:,} rows of the {file} left out" for file, count in summary["left_out"].items()]
    if not summary["facilities_known"]:
        lines.append("  without --facilities every customer has a line of nothing, granted at the instant asked about")
    return "\n".join(lines)
