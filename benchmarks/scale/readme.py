"""The README's table of scale, from benchmarks/results/scale.json; where there is none, how to make it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

from scale.page import SIZE_COLUMNS, size_cells

RESULT: Final = Path(__file__).parents[1] / "results" / "scale.json"
_BYTES: Final = (
    ("log_bytes", "memory of the event log"),
    ("used_memory_per_customer", "all memory, loaded at once, entity logs too"),
)  # fmt: skip
_DECISION: Final = (
    ("commands", "commands"), ("store_net_in", "bytes to the store"), ("store_net_out", "bytes from the store"),
    ("aof_bytes", "append-only file, bytes"), ("fsyncs", "fsyncs, 32 connections"),
    ("service_cpu_us", "CPU of the service, us"), ("store_cpu_us", "CPU of the store, us"),
)  # fmt: skip


def scale(result: Path = RESULT) -> str:
    """What customers and decisions cost, what sizes take and what breaks first."""
    if not result.is_file():
        return (
            "No result is kept yet. On a machine that does nothing else (a few minutes):\n\n```sh\n"
            "python benchmarks/scale/run.py --keep\nmake reference    # writes this table\n```"
        )
    found = json.loads(result.read_text("utf-8"))
    measured, given = found["measured"], found["model"]["assumptions"]
    histories = measured["histories"]
    rows = [(f"a customer: {label}", [f"{row[name]:,.0f}" for row in histories.values()]) for name, label in _BYTES]
    rows += [
        (f"a decision: {label}", [f"{row['decision'][name]:,.3g}" if row["decision"][name] < 100 else
                                  f"{row['decision'][name]:,.0f}" for row in histories.values()])
        for name, label in _DECISION
    ]  # fmt: skip
    costs = _table(
        ("measured", *(f"{int(events):,} events" for events in histories)), [(what, *cells) for what, cells in rows]
    )
    sizes = _table(SIZE_COLUMNS, [size_cells(cell) for cell in found["model"]["cells"]])
    kept = measured["bytes"]["decision_frame"] + measured["bytes"]["outbox_entry"]
    said = (
        f"A decision that is kept takes {kept:,.0f} bytes. Assumed: {given['events_per_customer']:g} events a "
        f"customer, {given['events_per_decision']:g} further events a decision, {given['decisions_kept_days']:g} days "
        f"until the archive, a peak of {given['peak_over_mean']:g} times the mean, {given['shard_memory_gb']:g} GB a "
        f"shard, {given['replicas']:g} replica, {100 * given['busy_core_max']:g} % of a core and "
        f"{100 * given['busy_memory_max']:g} % of memory planned for, an exponent of {given['zipf']:g}."
    )
    where = f"Commit `{measured['commit']}`, {measured['at']}, {measured['machine']['cpu']}."
    return f"{costs}\n\n{sizes}\n\n{said} {where}"


def _table(columns: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [columns, ("---",) * len(columns), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
