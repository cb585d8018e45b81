"""`decision-service replay-log`: make archived decisions again, and compare them byte for byte.

Each decision is made again from what is recorded alone: the changes of its customer before it, the facility, the
attributes, the numbers that rest on logs of devices, payees and networks, its request, its policy from the archive,
and its own instant as the clock. Nothing is asked of a store or a running service. Latency and stage times are copied.

Of a decision that comes out otherwise the first field that differs is told (`numbers.vol_ok_amt_7d`,
`verdicts.velocity_burst`, `answer.reasons[0].code`) with what it probably means; further fields with --json. What
cannot be made again is counted by its reason: erased, its customer older than the archive, put back by `reconcile`,
unreadable when it was archived; a gap in the archive or a policy that is missing there is a fault.

--since and --until go by the instant of the commit. A decision rests on its customer's whole history, so places are
read from their first row, whatever is asked for.

The summary goes to standard output, progress to standard error. Exit status 0 if every decision that can be made again
came out equal, 1 if one did not or could not though it should, 2 for wrong usage or settings, 3 if the archive cannot
be read, 6 if there is no such decision.
"""

from __future__ import annotations

import argparse
import time
from typing import Any, Final
from zoneinfo import ZoneInfo

import orjson

from decision_service.answer import instant
from decision_service.archive.files import Archive
from decision_service.archive.opening import storage_options_of
from decision_service.archive.replay_run import EXPECTED, REASONS, Account, Asked, Differing, replay_all, selected
from decision_service.archive.segments import place_name, place_of
from decision_service.cli.archive_options import add_archive_options, archive_settings, url_of
from decision_service.cli.ending import cleaning_up
from decision_service.cli.progress import Progress
from decision_service.cli.watch_options import instant_in
from decision_service.core.errors import InvalidInput, NotFound
from decision_service.settings import Settings
from decision_service.store.keys import partition_of_decision

FOUND: Final = 1
SHOWN_MAX: Final = 10
JOBS_MAX: Final = 256


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `replay-log`."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = __doc__.partition("\n\n")[2]
    add_archive_options(parser)
    parser.add_argument("--since", metavar="WHEN", help="decisions committed from here on: a date or an instant")
    parser.add_argument("--until", metavar="WHEN", help="decisions committed before")
    parser.add_argument("--customer", metavar="ID", help="decisions of this customer")
    parser.add_argument("--decision", metavar="ID", help="this one decision")
    parser.add_argument("--place", metavar="PPP", help="decisions of this partition: three hex digits, as in their ids")
    parser.add_argument("--sample", type=int, metavar="N", help="N of them, the same ones every time")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="processes (%(default)s)")


def run(args: argparse.Namespace) -> int:
    """Replay; the exit status."""
    settings = archive_settings(args)
    url, options = url_of(settings), storage_options_of(settings)
    asked = _asked(args, settings)
    if not 1 <= args.jobs <= JOBS_MAX:
        raise InvalidInput("jobs", f"must be 1 to {JOBS_MAX}")
    tasks = selected(Archive(url, options), asked)
    total = sum(task.decisions for task in tasks)
    if not total:
        raise NotFound(f"no such decision in {url}")
    progress, began = Progress("decisions", total), time.monotonic()
    with cleaning_up():
        account = replay_all(url, options, tasks, args.jobs, progress.show)
    progress.finish(account.looked_at)
    summary = _summary(account, time.monotonic() - began)
    print(orjson.dumps(summary).decode() if args.json else _text(account, summary))
    return FOUND if account.faults else 0


def _asked(args: argparse.Namespace, settings: Settings) -> Asked:
    """What is asked for. InvalidInput."""
    zone = ZoneInfo(settings.time_zone)
    since_ms = None if args.since is None else instant_in("since", args.since, zone)
    until_ms = None if args.until is None else instant_in("until", args.until, zone)
    if since_ms is not None and until_ms is not None and since_ms >= until_ms:
        raise InvalidInput("since", "must lie before --until")
    if args.sample is not None and args.sample < 1:
        raise InvalidInput("sample", "must be at least 1")
    return Asked(since_ms, until_ms, args.customer, args.decision, _place(args), args.sample)


def _place(args: argparse.Namespace) -> int | None:
    """The only place that has to be looked at, if it is known. InvalidInput."""
    place = None
    if args.place is not None:
        try:
            place = place_of(args.place)
        except ValueError as error:
            raise InvalidInput("place", str(error)) from None
    if args.decision is None:
        return place
    named = partition_of_decision(args.decision)
    if named is None:
        raise InvalidInput("decision", f"{args.decision!r} is not the id of a decision")
    return named


def _summary(account: Account, elapsed_s: float) -> dict[str, Any]:
    return {
        "decisions": account.looked_at, "equal": account.equal, "differ": account.differ,
        "not_replayed": dict(sorted(account.not_replayed.items())), "faults": account.faults,
        "problems": account.problems, "policies": len(account.policies),
        "decisions_per_core_s": round(account.per_core_s), "cpu_s": round(account.cpu_s, 3),
        "loading_s": round(account.loading_s, 3), "elapsed_s": round(elapsed_s, 3),
        "differing": [_differing(one) for one in account.differing],
    }  # fmt: skip


def _differing(one: Differing) -> dict[str, Any]:
    return {
        "decision_id": one.decision_id, "place": place_name(one.place), "position": one.position,
        "at": instant(one.at_ms), "policy_id": one.policy_id, "hints": list(one.hints),
        "fields": [difference._asdict() for difference in one.fields],
    }  # fmt: skip


def _text(account: Account, summary: dict[str, Any]) -> str:
    lines = [
        f"{account.equal + account.differ:,} decisions made again by {summary['policies']:,} policies: "
        f"{account.equal:,} equal byte for byte, {account.differ:,} differ"
    ]
    for why, number in sorted(account.not_replayed.items()):
        fault = "" if why in EXPECTED else " (a fault)"
        lines.append(f"{number:,} not made again{fault}: {REASONS[why]}; such as {account.problems[why]}")
    for one in account.differing[:SHOWN_MAX]:
        lines += ["", *_lines(one)]
    if account.differ > SHOWN_MAX:
        lines.append(f"... {account.differ - SHOWN_MAX:,} more; the first 100 with --json")
    lines += ["", f"{summary['decisions_per_core_s']:,} decisions/s/core ({account.cpu_s:,.1f} s of CPU, policies "
              f"loaded in {account.loading_s:,.1f} s, {summary['elapsed_s']:,.1f} s in all)"]  # fmt: skip
    return "\n".join(lines)


def _lines(one: Differing) -> list[str]:
    first, more = one.fields[0], len(one.fields) - 1
    where = f"committed {instant(one.at_ms)}, row {one.position} of {place_name(one.place)}, policy {one.policy_id}"
    return [
        f"decision {one.decision_id} differs ({where})",
        f"  {first.field}: recorded {_shown(first.recorded)}, replayed {_shown(first.replayed)}"
        + (f"; and {more} more {'field' if more == 1 else 'fields'}" if more else ""),
        f"  likely: {first.cause}",
        *(f"  note: {hint}" for hint in one.hints),
    ]


def _shown(value: Any) -> str:
    return orjson.dumps(value, default=str).decode()
