"""`targets`: what is needed for each of the targets, one bed after another, and every target as one ratio.

    part        what it says                                                                        about
    saturation  requests/s of one worker beside the bare app                                        1.5 min
    steady      p50, p99 and p99.9 at half of its own peak                                          1.5 min
    history     10 times the history                                                                2.5 min
    rules       10 times the rules                                                                  2 min
    customers   1,000 times the customers                                                           4 min
    reload      failures and p99 with reloads under way                                             2 min
    workers     capacity of two workers beside one                                                  2 min
    peers       throughput and p99 beside the stack a team would assemble: `benchmarks/peers`, which is run by itself

`--only steady --only reload` runs these alone.
"""

from __future__ import annotations

from typing import Any, Final

from load.bed import Bed, say
from load.document import Run, ratio
from load.workloads import WORKLOADS, Bench, Options

PARTS: Final = ("saturation", "steady", "history", "rules", "customers", "reload", "workers")


def targets(options: Options) -> tuple[list[Run], list[dict[str, Any]]]:
    """Runs and ratios of all parts, or of those that `options.only` names."""
    runs: list[Run] = []
    ratios: list[dict[str, Any]] = []
    for part in options.only or PARTS:
        say(f"--- {part}")
        with Bed(options.server_core, options.load_core) as bed:
            part_runs, part_ratios = WORKLOADS[part](Bench(bed, options))
        runs += [_named(part, run) for run in part_runs]
        ratios += [one for one in part_ratios if one["wanted"]]
    return runs, ratios + ([] if options.only else _elsewhere())


def _named(part: str, run: Run) -> Run:
    return run | {"name": f"{part}: {run['name']}"}


def _elsewhere() -> list[dict[str, Any]]:
    """Targets that other benchmarks measure."""
    return [
        ratio("throughput / assembled stack (benchmarks/peers)", None, ">= 10"),
        ratio("p99 of the assembled stack / ours at one rate (benchmarks/peers)", None, ">= 10"),
    ]
