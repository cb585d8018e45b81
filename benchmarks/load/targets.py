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

`--only steady --only reload` runs these alone, and `--with FILE` takes over the other parts from an earlier document of
the same commit. A part that breaks off does not take the others with it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from load.bed import Bed, say
from load.bench import Bench, Options, Told
from load.document import Document, Run, ratio
from load.workloads import WORKLOADS
from servers import NotReady

PARTS: Final = ("saturation", "steady", "history", "rules", "customers", "reload", "workers")


def targets(
    options: Options, workloads: Mapping[str, Callable[[Bench], Told]] = WORKLOADS
) -> tuple[list[Run], list[dict[str, Any]], list[str]]:
    """Runs and ratios of all parts, or of those that `options.only` names; and which parts broke off, why."""
    runs: list[Run] = []
    ratios: list[dict[str, Any]] = []
    broken: list[str] = []
    for part in options.only or PARTS:
        say(f"--- {part}")
        try:
            with Bed(options.server_core, options.load_core) as bed:
                part_runs, part_ratios = workloads[part](Bench(bed, options))
        except (Exception, NotReady) as error:  # whatever it is, the other parts are worth having
            broken.append(f"{part}: broke off: {error}")
            say(broken[-1])
            continue
        runs += [_named(part, run) for run in part_runs]
        wanted = [one | {"part": part} for one in part_ratios if one["wanted"]]
        ratios += wanted
        say("\n".join(map(told, wanted)))
    return runs, ratios + ([] if options.only else _elsewhere()), broken


def joined(found: Document, earlier: Document) -> Document:
    """The document with the parts of an earlier one that were not run again; not valid if that is of another commit."""
    again = {one["part"] for one in found["ratios"] if "part" in one} | {_part(run["name"]) for run in found["runs"]}
    runs = [run for run in earlier["runs"] if _part(run["name"]) not in again]
    ratios = [one for one in earlier["ratios"] if one.get("part") in {_part(run["name"]) for run in runs}]
    why_not = [why for why in earlier["why_not"] if _part(why) not in again]
    if earlier["commit"] != found["commit"]:
        why_not.append(f"parts are of commit {earlier['commit']}, others of {found['commit']}")
    known = {one["name"] for one in (*found["ratios"], *ratios)}
    elsewhere = [one for one in _elsewhere() if one["name"] not in known]
    order = {part: place for place, part in enumerate(PARTS)}
    return found | {
        "runs": sorted([*runs, *found["runs"]], key=lambda run: order[_part(run["name"])]),
        "ratios": sorted(
            [*ratios, *found["ratios"], *elsewhere], key=lambda one: order.get(one.get("part"), len(order))
        ),
        "why_not": [*why_not, *found["why_not"]],
        "valid": not why_not and found["valid"],
    }


def _part(name: str) -> str:
    return name.partition(": ")[0]


def told(one: dict[str, Any]) -> str:
    """A ratio as progress."""
    return f"    {one['name']}: {one['got']} (wanted {one['wanted']})"


def _named(part: str, run: Run) -> Run:
    return run | {"name": f"{part}: {run['name']}", "why_not": [f"{part}: {why}" for why in run["why_not"]]}


def _elsewhere() -> list[dict[str, Any]]:
    """Targets that other benchmarks measure."""
    return [
        ratio("throughput / assembled stack (benchmarks/peers)", None, ">= 10"),
        ratio("p99 of the assembled stack / ours at one rate (benchmarks/peers)", None, ">= 10"),
    ]
