"""Load tests: one command, one workload, percentiles that count from the instant a request was due.

    steady       open loop at --rate, or at half of the peak it finds itself (p50, p99, p99.9)
    saturation   closed loop, beside a bare ASGI app in alternating rounds (`make bench`)
    ramp         steps of rate up to the knee: the last rate before the first of which less than 98 % was answered in
                 time or more than 0.1 % failed, or whose p99 is 10 times that of the first
    mixed        decisions 60, previews 20, events 15, reads 5
    customers    1 k, 100 k and 1 M customers, by a zipf law and all alike: what a decision costs
    history      customers with 20, 200 and 2,000 events: what a decision costs
    rules        40 and 400 rules over the same features: what a decision costs
    reload       policy reloads in the middle of an open loop: failures, p99 during beside before
    shadow       an open loop with a policy in shadow and without: p50, p99, CPU of the worker
    workers      one worker and two: server-side capacity, by CPU time
    targets      what the project's targets need of the above, each as one ratio (20 minutes; --only PART)

The service is on one core, generator and Valkey (every write fsynced) on another; all are started and stopped by this
command, data lie in a temporary directory. A run whose generator was the bottleneck, whose core others used or whose
decisions were not whole is told as not valid. Run it on a machine that does nothing else.

Exit status: 0 all is well; 1 a target is missed; 3 not valid, for reasons that are told; 2 wrong options. The table
goes to standard output, progress to standard error.
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from importlib import import_module
from pathlib import Path

BENCHMARKS = Path(__file__).resolve().parents[1]
sys.path[:0] = [path for path in (str(BENCHMARKS),) if path not in sys.path]

import orjson  # noqa: E402

from load import schedule  # noqa: E402
from load.bed import Bed, Ended, say  # noqa: E402
from load.bench import Bench, Options  # noqa: E402
from load.document import Document, document, machine, table  # noqa: E402
from load.shadow import shadow  # noqa: E402
from load.targets import PARTS, joined, targets  # noqa: E402
from load.workloads import WORKLOADS as OF_THE_TARGETS  # noqa: E402
from servers import NotReady  # noqa: E402

MISSED, NOT_VALID = 1, 3
WORKLOADS = {**OF_THE_TARGETS, "shadow": shadow}


def options_in(words: Sequence[str] | None) -> tuple[str, Options]:
    """The workload and its options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workload", choices=[*WORKLOADS, "targets"], metavar="WORKLOAD")
    parser.add_argument("--quick", action="store_true", help="a short version, to see that it works")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the result document there")
    parser.add_argument("--html", type=Path, metavar="FILE", help="write a report with plots there")
    parser.add_argument("--seconds", type=float, help="of each run or round (of `reload`: between reloads)")
    parser.add_argument("--rounds", type=int, help="of what is compared (of `reload`: how many reloads)")
    parser.add_argument("--rate", type=float, help="requests a second of an open loop (a share of the peak)")
    parser.add_argument("--share", type=float, default=0.5, help="of the peak, where no --rate is given (%(default)s)")
    parser.add_argument("--connections", type=int, help="keep-alive connections (closed loop 32, open loop 64)")
    parser.add_argument("--customers", type=int, help="in the store (20,000; of `history` 10,000 of each sort)")
    parser.add_argument("--events", type=int, help="a customer starts with (200; of `customers` 20)")
    parser.add_argument("--sizes", type=int, nargs="+", default=(), help="what is compared, in place of the usual")
    parser.add_argument(
        "--told", action="store_true", help="the outbox tells of the customers, for an archive to replay"
    )
    parser.add_argument("--skew", type=float, help="exponent of the zipf law of customers (0; of `customers` 0.99)")
    parser.add_argument("--arrivals", choices=schedule.ARRIVALS, default="even", help="of an open loop (%(default)s)")
    parser.add_argument("--deadline-ms", type=int, default=5_000, help="that requests name (%(default)s): slowness is "
                        "told as latency; with a short one it becomes refusals and static answers")  # fmt: skip
    parser.add_argument("--rules", type=Path, default=Options().rules, help="policy (the shipped one)")
    parser.add_argument("--models", type=Path, default=Options().models, help="scorecards (the shipped ones)")
    parser.add_argument("--server-core", type=int, default=0, help="%(default)s")
    parser.add_argument("--load-core", type=int, default=1, help="of generator and store (%(default)s)")
    parser.add_argument("--only", action="append", choices=PARTS, default=[], help="part of `targets`, repeatable")
    parser.add_argument("--with", type=Path, dest="earlier", metavar="FILE",
                        help="take over the other parts of `targets` from a document of the same commit")  # fmt: skip
    args = vars(parser.parse_args(words))
    workload = args.pop("workload")
    if (args["only"] or args["earlier"]) and workload != "targets":
        parser.error("--only and --with are for targets")
    if args["earlier"] is not None and not args["earlier"].is_file():
        parser.error(f"{args['earlier']}: no such file")
    for name in ("seconds", "rounds", "rate", "connections", "customers", "events"):
        if args[name] is not None and args[name] <= 0:
            parser.error(f"--{name} must be above 0")
    if workload in ("reload", "rules") and not (args["rules"] / "drawdown.yaml").is_file():
        parser.error(f"{args['rules']}: no drawdown.yaml")
    args |= {"sizes": tuple(sorted(args["sizes"])), "only": tuple(args["only"])}
    return workload, replace(Options(), **args)


def run(workload: str, options: Options) -> Document:
    """Run a workload; its document."""
    on = machine()
    broken: list[str] = []
    if workload == "targets":
        runs, ratios, broken = targets(options)
    else:
        with Bed(options.server_core, options.load_core) as bed:
            runs, ratios = WORKLOADS[workload](Bench(bed, options))
    told = document(workload, asdict(options), on, runs, ratios, broken)
    return told if options.earlier is None else joined(told, orjson.loads(options.earlier.read_bytes()))


def write_html(told: Document, path: Path) -> None:
    """The report, where the package that draws it is there."""
    try:
        html = import_module("load_report.html")
    except ModuleNotFoundError as error:
        say(f"no report: {error}")
        return
    html.write(told, path)


def status(told: Document) -> int:
    """The exit status."""
    if not told["valid"]:
        return NOT_VALID
    return MISSED if any(one["met"] is False for one in told["ratios"]) else 0


def main(words: Sequence[str] | None = None) -> int:
    """Options in, table, JSON and report out."""
    workload, options = options_in(words)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # ends what was started, as Ctrl-C does
    try:
        told = run(workload, options)
    except (Ended, NotReady) as error:
        say(str(error))
        return NOT_VALID
    print(table(told), flush=True)
    if options.json is not None:
        options.json.write_bytes(orjson.dumps(told, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
    if options.html is not None:
        write_html(told, options.html)
    return status(told)


if __name__ == "__main__":
    sys.exit(main())
