"""`decision-service reconcile [FILE]`: what a caller was told, beside what journal and store know of it; and repair.

FILE is the caller's list of acknowledged answers: JSON lines or CSV, one answer a row, with request_id, customer_id,
decision and approved_amount (facility_id, currency, amount, decided_at and decision_id help). Without it only the
store and the journal are looked at. The store may be in use meanwhile.

Told is what is lost (acknowledged, neither in the store nor in the journal), different (another outcome or amount),
unaccounted (with --since: decided in the store, not in the list), damaged (with --verify: a decision without its frame
or its log record) and in conflict (answered from the journal, and otherwise by another host).

--repair delivers the journal and writes lost answers again, with their exposure, so that no limit is lent twice and
a retry gets the outcome and the amount that were acknowledged. It may be run as often as one likes.

--accept-history says that the store is now right, though it was emptied, replaced or set back to an earlier state: the
service refuses such a store (every decision is static) until somebody says so. Give it together with --repair.

The summary goes to standard output, progress to standard error, all findings to --findings as JSON lines. Exit status
0 if nothing is wrong, 1 if something is (also if it was repaired: run again to see), 2 for wrong usage or settings, 3
if the store failed or is refused, 5 if the list is wrong; then nothing was changed.

Decisions leave the store some time after they are archived: older ones are read from the archive. If something is
there and its address is not known (--archive), nothing is done.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo

import orjson
import uvloop

from decision_service.archive.all_decisions import AllDecisions
from decision_service.archive.opening import archive_of
from decision_service.bootstrap import linker_of, retention_of, wall_clock_ms
from decision_service.cli.ending import check_apart, cleaning_up
from decision_service.cli.import_history import Stages, store_for
from decision_service.cli.watch_options import instant_in, refuse_unsafe
from decision_service.core.errors import InvalidInput
from decision_service.core.limits import DAY_MS
from decision_service.reconcile.acknowledged import AcknowledgedList
from decision_service.reconcile.comparing import Comparing, Counts, Span
from decision_service.reconcile.findings import SHOWN_MAX, SORTS, Finding, Findings
from decision_service.reconcile.journalled import Journalled
from decision_service.reconcile.restoring import Restoring
from decision_service.settings import Settings, load_settings
from decision_service.store import Store
from decision_service.store.epoch import FILE_NAME
from decision_service.telemetry import Meters

FOUND: Final = 1
_EVER: Final = Span(0, 2**53)
ACCEPT_TIMEOUT_S: Final = 10.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `reconcile`."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = __doc__.partition("\n\n")[2]
    parser.add_argument("list", nargs="?", type=Path, metavar="FILE", help="acknowledged answers: .jsonl or .csv")
    parser.add_argument("--redis-url", help="store; none is the embedded one, also of a running service")
    parser.add_argument("--data-dir", type=Path, help="directory of the journal and the embedded store (data)")
    parser.add_argument("--archive", metavar="URL", help="where decisions are that left the store (of the settings)")
    parser.add_argument("--journal", type=Path, nargs="+", default=[], metavar="DIR", help="data directories of others")
    parser.add_argument("--since", metavar="WHEN", help="look for decisions that the list lacks: a date or an instant")
    parser.add_argument("--until", metavar="WHEN", help="up to before this (now)")
    parser.add_argument("--verify", action="store_true", help="check that decisions of the store are whole")
    parser.add_argument("--repair", action="store_true", help="deliver the journal, write lost answers again")
    parser.add_argument(
        "--accept-history", action="store_true",
        help="afterwards let the service go on with a store that was emptied or set back",
    )  # fmt: skip
    parser.add_argument("--findings", type=Path, metavar="FILE", help="all findings, as JSON lines")
    parser.add_argument("--json", action="store_true", help="summary as JSON")


def run(args: argparse.Namespace) -> int:
    """Reconcile; the exit status."""
    settings = load_settings(redis_url=args.redis_url, data_dir=args.data_dir, archive_url=args.archive)
    span = _span_in(args, settings)
    acknowledged = None if args.list is None else AcknowledgedList(args.list, settings.partitions)
    check_apart("findings", args.findings, [args.list])
    store = store_for(settings, reconciling=True)
    with cleaning_up(), Findings(args.findings) as findings:
        counts = uvloop.run(_reconcile(store, settings, acknowledged, span, findings, args))
    summary = _summary(counts, findings, args)
    print(orjson.dumps(summary).decode() if args.json else _text(summary, findings.shown))
    return FOUND if findings.total else 0


def _span_in(args: argparse.Namespace, settings: Settings) -> Span | None:
    """Which decisions of the store are asked for; None if the outbox need not be read. InvalidInput."""
    zone = ZoneInfo(settings.time_zone)
    if args.since is None and not args.verify:
        if args.until is not None:
            raise InvalidInput("until", "is with --since or --verify")
        return None
    until_ms = time.time_ns() // 1_000_000 + DAY_MS if args.until is None else instant_in("until", args.until, zone)
    since_ms = 0 if args.since is None else instant_in("since", args.since, zone)
    if since_ms >= until_ms:
        raise InvalidInput("since", "must lie before --until")
    return Span(since_ms, until_ms)


async def _reconcile(
    store: Store, settings: Settings, acknowledged: AcknowledgedList | None, span: Span | None, findings: Findings,
    args: argparse.Namespace,
) -> Counts:  # fmt: skip
    stages = Stages()
    restoring = Restoring(store, retention_of(settings), wall_clock_ms()) if args.repair else None
    try:
        async with Journalled([settings.data_dir, *args.journal]) as journalled:
            kept = AllDecisions(store, settings.partitions, archive_of(settings))
            comparing = Comparing(store, settings.partitions, findings, restoring, journalled.frame, stages, kept)
            if acknowledged is not None:
                comparing.check_list(acknowledged)
            await refuse_unsafe(store)
            if acknowledged is not None:
                await comparing.compare_list(acknowledged)
            if args.repair:  # after the list: what was acknowledged goes before what nobody was told
                comparing.counts.delivered = await _deliver(store, settings, journalled)
            comparing.counts.undelivered = journalled.waiting
            asked = span or _EVER
            for conflict in await journalled.conflicts(asked.since_ms, asked.until_ms):
                findings.take(conflict)
            if span is not None:
                listed = acknowledged is not None and args.since is not None
                await comparing.look_through(span, listed=listed, verify=args.verify)
            if args.accept_history:
                remembered = (settings.data_dir / FILE_NAME).is_file()  # what was there before
                epoch = await store.accept_history(ACCEPT_TIMEOUT_S)
                _tell_accepted(epoch, settings.data_dir if not remembered else None)
            return comparing.counts
    finally:
        stages.finish()
        await store.close()


def _tell_accepted(epoch: str, without_memory: Path | None) -> None:
    print(f"the history of the store is accepted, as {epoch}", file=sys.stderr)
    if without_memory is not None:
        print(
            f"warning: {without_memory} remembered no history before; hosts that do go on refusing the store: "
            "accept it with the data directory of such a host, too",
            file=sys.stderr,
        )


async def _deliver(store: Store, settings: Settings, journalled: Journalled) -> int:
    """Deliver the journals; how many answers went."""
    if not journalled.waiting:
        return 0
    with tempfile.TemporaryDirectory() as folder:
        meters = Meters(Path(folder))
        linker = linker_of(settings, store, meters)
        try:
            delivered = await journalled.deliver(store, linker, retention_of(settings), meters, wall_clock_ms)
            await linker.flush()
            return delivered
        finally:
            meters.close()


def _summary(counts: Counts, findings: Findings, args: argparse.Namespace) -> dict[str, Any]:
    return {
        "acknowledged": counts.acknowledged, "agreed": counts.agreed, "waiting": counts.waiting,
        "delivered": counts.delivered, "undelivered": counts.undelivered,
        "stored": counts.stored, "verified": counts.verified,
        **{sort: findings.counts[sort] for sort in SORTS},
        "repaired": {sort: findings.repaired[sort] for sort in SORTS},
        "repair": args.repair, "findings_file": str(args.findings) if args.findings else None,
        "findings": [finding.as_json() for finding in findings.shown],
    }  # fmt: skip


def _text(summary: dict[str, Any], shown: list[Finding]) -> str:
    lines = [
        f"{summary['acknowledged']:,} acknowledged answers, {summary['agreed']:,} as they are stored"
        + (f" ({summary['waiting']:,} wait in the journal)" if summary["waiting"] else "")
    ]
    if summary["delivered"] or summary["undelivered"]:
        lines.append(f"journal: {summary['delivered']:,} delivered, {summary['undelivered']:,} to be delivered")
    if summary["stored"]:
        lines.append(f"{summary['stored']:,} decisions of the store looked at")
    for sort in SORTS:
        if summary[sort]:
            repaired = f", {summary['repaired'][sort]:,} repaired" if summary["repair"] else ""
            lines.append(f"{summary[sort]:,} {sort}{repaired}")
            lines += [f"  {_line(finding)}" for finding in shown if finding.sort == sort]
            if summary[sort] > SHOWN_MAX:
                lines.append("  ... all of them with --findings FILE")
    if not any(summary[sort] for sort in SORTS):
        lines.append("nothing is wrong")
    return "\n".join(lines)


def _line(finding: Finding) -> str:
    where = f"row {finding.row}: " if finding.row is not None else ""
    what = f"{finding.request_id} of {finding.customer_id}" if finding.request_id else finding.decision_id
    told = f" acknowledged {_outcome(finding.acknowledged)}" if finding.acknowledged else ""
    stored = f" stored {_outcome(finding.stored)}" if finding.stored else ""
    note = f" {finding.note}" if finding.note else ""
    repair = f" (repair: {finding.repair})" if finding.repair else ""
    return f"{where}{what}:{','.join(filter(None, (told, stored, note)))}{repair}"


def _outcome(told: Any) -> str:
    return f"{told['decision']} {told['approved_amount']:g}"
