"""`decision-service backtest --candidate DIR`: what a candidate policy would have answered to archived
decisions, in credit terms.

Rules, features and scorecards of the candidate are tried on every decision of the archive that was committed from
`--since` to before `--until`, in the state in which it was judged then. Progress goes to standard error.

Exit status 0; 1 if a threshold (`--max-...`) is broken, or what it looks at is not known; 2 for a report that cannot
be drawn or a wrong setting; 4 for a candidate that does not compile, 5 for wrong options or an outcomes file that
cannot be read, 6 if no decision of the archive can be judged, 70 if a decision that was also decided plainly
(`--check`) came out different.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo

import orjson

from decision_service.archive.opening import storage_options_of
from decision_service.backtest.measures import THRESHOLDS, thresholds
from decision_service.backtest.running import FROM_ARCHIVE, Done, Plan, Worker, candidate_of, card_of, cores
from decision_service.backtest.running import run as go
from decision_service.backtest.told import report_json, report_text
from decision_service.backtest.traces import explained
from decision_service.cli.findings import WRONG, unusable
from decision_service.cli.policy_options import settings_of
from decision_service.cli.progress import Progress
from decision_service.cli.watch_options import DAYS_BACK, instant_in, target_in, write_report
from decision_service.core.errors import InvalidInput, NotFound
from decision_service.core.limits import DAY_MS
from decision_service.core.policy import Policy
from decision_service.core.scorecards.manifest import Target
from decision_service.settings import environment_name

BROKEN: Final = 1
DIFFERS: Final = 70
_TARGET: Final = Target(performance_d=90, bad_dpd=30)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `backtest`."""
    parser.add_argument("--candidate", type=Path, required=True, metavar="DIR", help="rules directory of the candidate")
    parser.add_argument("--models", type=Path, help="its scorecards (setting `models`)")
    parser.add_argument("--archive", metavar="URL", help=f"folder, or fsspec URL ({environment_name('archive_url')})")
    parser.add_argument("--since", metavar="WHEN", help=f"decisions from here on: a date or an instant ({DAYS_BACK} d)")
    parser.add_argument("--until", metavar="WHEN", help="decisions before (now)")
    parser.add_argument("--scorecard", metavar="NAME", help="whose PD is meant (behaviour, else the first)")
    parser.add_argument("--lgd", type=float, default=0.45, help="loss given default (%(default)s)")
    parser.add_argument(
        "--outcomes", metavar="FILE",
        help="Parquet with decision_id, or customer_id and date, and bad, perhaps loss; or `archive`: by its events",
    )  # fmt: skip
    parser.add_argument("--bad-dpd", type=int, metavar="DAYS", help="with `--outcomes archive`: so many days past due")
    parser.add_argument("--label", metavar="NAME", help="with `--outcomes archive`: a label of this name")
    parser.add_argument("--performance-days", type=int, metavar="DAYS", help="within so many days")
    parser.add_argument("--html", type=Path, metavar="FILE", help="write the report as a page")
    parser.add_argument("--json", metavar="FILE", help="write everything as JSON; - for standard output")
    parser.add_argument("--flips", type=int, default=20, metavar="N", help="customers listed each way (%(default)s)")
    parser.add_argument("--traces", type=int, default=3, metavar="N", help="of these with both traces (%(default)s)")
    parser.add_argument(
        "--check", type=int, default=100, metavar="N", help="decisions also decided plainly (%(default)s)"
    )
    parser.add_argument("--jobs", type=int, metavar="N", help="processes (one a core)")
    for name, meaning in THRESHOLDS.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=float, metavar="SHARE", help=meaning)


def run(args: argparse.Namespace) -> int:
    """Backtest; the exit status."""
    if problem := unusable(args.candidate):
        print(problem, file=sys.stderr)
        return WRONG
    plan = plan_of(args)
    candidate = candidate_of(plan)  # before anything is read: a candidate that does not compile says so at once
    plan = with_target(plan, candidate, args)
    progress = Progress("decisions")
    done = go(plan, lambda decided, left: progress.show(decided, f"{left} places left"))
    progress.finish(sum(done.tally.ways.values()))
    if not done.tally.ways.total():
        raise NotFound(_nothing(done))
    asked = {name: value for name in THRESHOLDS if (value := getattr(args, name)) is not None}
    kept = thresholds(done.tally, asked)
    flips = explained(Worker(plan, 0), done.tally.flips, args.traces) if any(done.tally.flips.values()) else []
    told = report_json(plan, candidate, card_of(plan, candidate), done, kept, flips)
    _write_json(args.json, told)
    if args.json != "-":
        print(report_text(told))
    if args.html is not None:
        from decision_service.backtest.page import report

        if not write_report(lambda: report(told), args.html):
            return WRONG
    if done.differing or not all(flip.same for flip in flips):
        print("decision-service: decisions decided plainly came out different: please report this", file=sys.stderr)
        return DIFFERS
    return 0 if all(one.holds for one in kept) else BROKEN


def plan_of(args: argparse.Namespace) -> Plan:
    """What the options say. InvalidInput, SettingInvalid."""
    settings = settings_of(argparse.Namespace(rules=args.candidate, models=args.models))
    zone = ZoneInfo(settings.time_zone)
    until_ms = time.time_ns() // 1_000_000 + 1 if args.until is None else instant_in("until", args.until, zone)
    since_ms = until_ms - DAYS_BACK * DAY_MS if args.since is None else instant_in("since", args.since, zone)
    if since_ms >= until_ms:
        raise InvalidInput("since", "must lie before --until")
    if not 0.0 <= args.lgd <= 1.0:
        raise InvalidInput("lgd", "a share from 0 to 1 is expected")
    for name in ("flips", "traces", "check"):
        if getattr(args, name) < 0:
            raise InvalidInput(name, "must not be negative")
    if args.jobs is not None and args.jobs < 1:
        raise InvalidInput("jobs", "at least one process is needed")
    if args.html is not None and args.html.suffix != ".html":
        raise InvalidInput("html", f"{args.html} must end in .html")
    outcomes: Any = args.outcomes
    if outcomes not in (None, FROM_ARCHIVE):
        outcomes = Path(outcomes)
        if not outcomes.is_file():
            raise InvalidInput("outcomes", f"{outcomes} does not exist")
    archive = args.archive or settings.archive_url or str(settings.data_dir / "archive")
    if "://" not in archive and not Path(archive).is_dir():
        raise InvalidInput("archive", f"{archive} does not exist")
    return Plan(
        settings.rules, settings.models, settings.time_zone, settings.reservation_timeout_ms, archive, since_ms,
        until_ms, args.lgd, args.scorecard, args.flips, outcomes, None, args.check, args.jobs or cores(),
        storage_options_of(settings),
    )  # fmt: skip


def with_target(plan: Plan, candidate: Policy, args: argparse.Namespace) -> Plan:
    """The plan with what `bad` means: by the options, else by the manifest of the scorecard. InvalidInput."""
    from dataclasses import replace

    card = card_of(plan, candidate)
    if card is not None and card not in candidate.scorecards:
        raise InvalidInput("scorecard", f"the candidate has no scorecard {card!r}: {', '.join(candidate.scorecards)}")
    if plan.outcomes != FROM_ARCHIVE:
        return plan
    target = target_in(args)
    if target is None and card is not None:
        target = candidate.scorecards[card].manifest.target
    return replace(plan, target=target or _TARGET)


def _nothing(done: Done) -> str:
    left_out = "; ".join(f"{n:,} {why}" for why, n in done.tally.skips.most_common() if n)
    return f"no decision of the archive can be judged{': left out are ' + left_out if left_out else ''}"


def _write_json(where: str | None, told: dict[str, Any]) -> None:
    if where is None:
        return
    text = orjson.dumps(told, option=orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS)
    if where == "-":
        print(text.decode())
    else:
        Path(where).write_bytes(text + b"\n")
