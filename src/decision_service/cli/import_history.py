"""`decision-service import`: load facilities, attributes and histories of events from Parquet or CSV into the store.

It may run beside a service, be stopped at any moment and be run again: it goes on where it stopped, and what is there
already is not taken twice. The summary goes to standard output, progress and the first rejected rows to standard error,
all rejected rows to `--rejected`. Exit status 0 if every row is good, 1 if some were rejected (the others are
imported), 3 if the store failed, 5 if a file or its columns cannot be read.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import orjson
import uvloop

from decision_service.api.parse import Clock
from decision_service.bootstrap import replicas_of, retention_of, wall_clock_ms
from decision_service.cli.ending import check_apart, cleaning_up
from decision_service.cli.file_columns import ATTRIBUTES, EVENTS, FACILITIES, tell_columns
from decision_service.cli.progress import Progress
from decision_service.core.errors import InvalidInput, PolicyRejected, SettingInvalid, StoreUnsafe
from decision_service.core.limits import DAY_MS
from decision_service.core.policy import ATTRIBUTES_FILE
from decision_service.core.rules.attributes import AttributeSpec, read_attributes
from decision_service.core.source import Findings
from decision_service.imports.account import STATUSES, Account
from decision_service.imports.events import import_events
from decision_service.imports.links import LinksKept
from decision_service.imports.refused import RefusedRows
from decision_service.imports.snapshots import import_attributes, import_facilities
from decision_service.imports.terms import Terms
from decision_service.imports.trial import TrialStore
from decision_service.policies.files import read_document
from decision_service.settings import Settings, load_settings
from decision_service.store import Store
from decision_service.store.embedded import running_url
from decision_service.store.open import open_store

# In this order, whatever the order of the options: events are judged by the facilities.
_MEANINGS: Final = {
    "facilities": "snapshots of facilities: .parquet or .csv",
    "attributes": "declared attributes",
    "events": "histories of events",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `import`."""
    tell_columns(parser, FACILITIES, ATTRIBUTES, EVENTS)
    for sort, what in _MEANINGS.items():
        parser.add_argument(f"--{sort}", type=Path, nargs="+", default=[], metavar="FILE", help=what)
    parser.add_argument("--redis-url", help="store; none is the embedded one, also of a running service")
    parser.add_argument("--data-dir", type=Path, help="directory of the embedded store (data)")
    parser.add_argument("--rules", type=Path, help="directory of rules, for the declared attributes (rules)")
    parser.add_argument("--rejected", type=Path, metavar="FILE", help="all rejected rows: .csv, or JSON lines")
    parser.add_argument("--dry-run", action="store_true", help="check everything, write nothing")
    parser.add_argument("--again", action="store_true", help="go through what an earlier run has done, too")
    parser.add_argument("--json", action="store_true", help="summary as JSON")


def run(args: argparse.Namespace) -> int:
    """Import; the exit status."""
    files = [(sort, path) for sort in _MEANINGS for path in getattr(args, sort)]
    if not files:
        raise InvalidInput("file", "name at least one file: --facilities, --attributes or --events")
    settings = load_settings(redis_url=args.redis_url, data_dir=args.data_dir, rules=args.rules)
    declared = declared_attributes(settings.rules) if args.attributes else {}
    store = store_for(settings)
    check_apart("rejected", args.rejected, [path for _, path in files])
    with cleaning_up(), RefusedRows(args.rejected) as refused:
        done = uvloop.run(_import(files, settings, declared, store, refused, args))
    print(orjson.dumps(_summary(done, args)).decode() if args.json else _text(done, args))
    return 1 if any(row["rejected"] for row in done) else 0


def declared_attributes(rules: Path) -> Mapping[str, AttributeSpec]:
    """The attributes a rules directory declares. PolicyRejected."""
    findings = Findings()
    path = rules / ATTRIBUTES_FILE
    document = read_document(path, ATTRIBUTES_FILE, findings) if path.exists() else None
    declared = read_attributes(document, findings) if document is not None else {}
    if findings.errors:
        raise PolicyRejected(findings.errors)
    return declared


def store_for(settings: Settings, *, reconciling: bool = False) -> Store:
    """The store that `serve` would open with these settings; of a service that runs on the data directory, its own.
    A command remembers nothing of the store it used: that is for services, and for who says that a history is right
    (`reconciling`, also of a store that lost it)."""
    url = settings.store_url
    if url == "memory://":
        raise SettingInvalid("DECISION_SERVICE_REDIS_URL", "a store in memory would forget what is imported")
    if url is None:
        url = running_url(settings.data_dir)
    return open_store(
        url, data_dir=settings.data_dir, partitions=settings.partitions, profile=settings.durability,
        replicas=replicas_of(settings), reconciling=reconciling, remembering=reconciling,
    )  # fmt: skip


async def _import(
    files: list[tuple[str, Path]], settings: Settings, declared: Mapping[str, AttributeSpec], store: Store,
    refused: RefusedRows, args: argparse.Namespace,
) -> list[dict[str, Any]]:  # fmt: skip
    stages = Stages()
    try:
        if problems := await store.check():
            raise StoreUnsafe("; ".join(problems))
        target = TrialStore(store, partitions=settings.partitions) if args.dry_run else store
        links_kept = LinksKept(settings.links_per_entity_max, settings.retention_days * DAY_MS)
        clock = Clock(wall_clock_ms(), settings.clock_ahead_max_ms, settings.request_age_max_ms)
        terms = Terms(target, clock, retention_of(settings), links_kept, stages, again=args.again)
        return [await _import_one(sort, path, declared, terms, refused) for sort, path in files]
    finally:
        stages.finish()
        await store.close()


async def _import_one(
    sort: str, path: Path, declared: Mapping[str, AttributeSpec], terms: Terms, refused: RefusedRows
) -> dict[str, Any]:
    began = time.monotonic()
    if sort == "facilities":
        account = await import_facilities(path, terms, refused)
    elif sort == "attributes":
        account = await import_attributes(path, declared, terms, refused)
    else:
        account = await import_events(path, terms, refused)
    return _row(sort, path, account, time.monotonic() - began)


def _row(sort: str, path: Path, account: Account, seconds: float) -> dict[str, Any]:
    fresh = account.rows - account.earlier
    return {
        "file": str(path), "sort": sort, "rows": account.rows, **account.shown(), "of_earlier_runs": account.earlier,
        "seconds": round(seconds, 3), "rows_per_s": round(fresh / max(seconds, 1e-9), 1),
    }  # fmt: skip


class Stages:
    """Progress of one stage after another."""

    def __init__(self) -> None:
        self._stage, self._done = "", 0
        self._progress: Progress | None = None

    def __call__(self, stage: str, done: int, total: int | None) -> None:
        """See `imports.terms.Watch`."""
        if stage != self._stage or self._progress is None:
            self.finish()
            self._stage, self._progress = stage, Progress(stage, total)
        self._done = done
        self._progress.show(done)

    def finish(self) -> None:
        """Say how the last stage ended."""
        if self._progress is not None:
            self._progress.finish(self._done)
        self._progress = None


def _summary(done: list[dict[str, Any]], args: argparse.Namespace) -> dict[str, Any]:
    totals = {name: sum(row[name] for row in done) for name in ("rows", *STATUSES, "trimmed", "of_earlier_runs")}
    rejected = str(args.rejected) if args.rejected else None
    return {**totals, "dry_run": args.dry_run, "rejected_file": rejected, "files": done}


def _text(done: list[dict[str, Any]], args: argparse.Namespace) -> str:
    lines = []
    for row in done:
        counts = ", ".join(f"{row[status]:,} {status}" for status in STATUSES if row[status]) or "nothing in it"
        trimmed = f"; {row['trimmed']:,} records trimmed by retention" if row["trimmed"] else ""
        earlier = f"; {row['of_earlier_runs']:,} rows were done by an earlier run" if row["of_earlier_runs"] else ""
        lines.append(f"{row['sort']} of {row['file']}: {counts}{trimmed}{earlier} ({row['seconds']:,.1f} s)")
    if args.rejected and any(row["rejected"] for row in done):
        lines.append(f"rejected rows in {args.rejected}")
    if args.dry_run:
        lines.append("dry run: nothing was written")
    return "\n".join(lines)
