"""The scale report: what was measured, what it adds up to, what breaks first, how evenly load falls."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from decision_service.core.limits import PARTITIONS_MAX
from decision_service.report import Block, Facts, Figure, Report, Section, Table, Text, write_html
from decision_service.report.drawing import BLUE, DASHES, GREY, INK, SERIES, WIDE, draw
from scale.model import CUSTOMERS, MEANINGS, RATES, RESOURCES

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Document = Mapping[str, Any]
_DECISION_ROWS: Final = (
    ("service_cpu_us", "CPU of the service, us"), ("store_cpu_us", "CPU of the store, us"), ("scripts", "scripts run"),
    ("commands", "commands, those inside scripts too"), ("store_net_in", "bytes to the store"),
    ("store_net_out", "bytes from the store"), ("aof_bytes", "append-only file, bytes"), ("fsyncs", "fsyncs"),
    ("used_memory", "memory, bytes"),
)  # fmt: skip


def write(document: Document, path: Path) -> None:
    """The page at `path`. Raises ReportExtraMissing."""
    write_html(report(document), path)


def report(document: Document) -> Report:
    """The report on a scale document (`run.document`)."""
    measured = document["measured"]
    return Report(
        "Scale on paper",
        f"From figures measured at commit `{measured['commit']}`, {measured['at']}.",
        (
            Section("What it takes", tuple(_sizes(document))),
            Section("What breaks first", tuple(_breaks(document))),
            Section("What matters most", tuple(_sensitivity(document))),
            Section("How evenly load falls", tuple(_balance(document["balance"]))),
            Section("What was measured", tuple(_measured(measured))),
            Section("Assumptions", tuple(_assumptions(document))),
        ),
    )


def count(number: float) -> str:
    """10 M, 1 B, 100 k."""
    for size, letter in ((1_000_000_000, " B"), (1_000_000, " M"), (1_000, " k")):
        if number >= size:
            return f"{number / size:,.3g}{letter}"
    return f"{number:,.3g}"


def broken_by(cell: Mapping[str, Any]) -> str:
    """What breaks first, in words."""
    name = cell["breaks_first"]
    if cell["feasible"]:
        return f"{name} asks for most shards"
    if name == "partitions":
        return "not possible: more shards than partitions"
    return f"not possible: busiest partition full at {cell['highest_per_s'][name]:,.0f}/s"


def size_cells(cell: Mapping[str, Any]) -> tuple[str, ...]:
    """One size as a row: customers, rate, memory, shards, servers, cores of service and store, network, knee, what
    breaks first."""
    return (
        count(cell["customers"]),
        f"{cell['rate_per_s']:,.0f}",
        f"{cell['memory_gb']:,.0f}",
        *((f"{cell[name]:,}" for name in ("shards", "servers")) if cell["breaks_first"] != "partition" else "––"),
        f"{cell['service_cores']:,.0f}",
        f"{cell['store_cores']:,.1f}",
        f"{cell['network_gbit']:,.2f}",
        f"{cell['knee_per_s']:,.0f}",
        broken_by(cell),
    )


SIZE_COLUMNS: Final = (
    "customers", "decisions/s", "memory GB", "shards", "store servers", "service cores", "store cores",
    "network Gbit/s", "knee/s", "breaks first",
)  # fmt: skip


def _sizes(document: Document) -> Iterator[Block]:
    cells = document["model"]["cells"]
    yield _shards_figure(cells)
    yield Table(
        SIZE_COLUMNS,
        tuple(size_cells(cell) for cell in cells),
        note="Cores are planned for at the share of `busy_core_max`. The knee is the rate from which on work, or a "
        "full partition, and no longer memory, decides. Store servers are primaries and replicas. "
        "There can be no more shards than partitions: "
        f"{document['balance']['partitions']:,} here; the setting `partitions` allows {PARTITIONS_MAX:,} and is fixed "
        "at the first start of a store (`--partitions` works that out).",
    )


def _breaks(document: Document) -> Iterator[Block]:
    model = document["model"]
    yield Text("How many shards each resource would ask for if it were the only one:")
    yield Table(
        ("customers", "decisions/s", *RESOURCES, "kept for the archive GB", "connections to a shard"),
        tuple(
            (
                count(cell["customers"]),
                f"{cell['rate_per_s']:,.0f}",
                *(f"{cell['shards_for'][name]:,.2f}" for name in RESOURCES),
                f"{cell['memory_kept_gb']:,.0f}",
                f"{cell['connections_of_a_shard']:,}",
            )
            for cell in model["cells"]
        ),
    )
    yield Text(
        "The highest rates of all decisions that no number of shards raises. The busiest partition must fit one core "
        "of the store: beyond that all its customers wait. Decisions on one customer wait for each other: beyond that "
        "this customer waits. Every payment to one payee reads and appends to one log (counted as if it cost the store "
        "as much as the whole decision): beyond that decisions come on the rung `no_links`."
    )
    yield Table(
        ("customers", "exponent", "busiest partition full at/s", "busiest customer waits from/s",
         "busiest payee full at/s"),
        tuple(
            (count(row["customers"]), f"{row['exponent']:g}",
             *(f"{row[name]:,.0f}" for name in ("partition", "customer", "payee")))
            for row in model["highest"]
        ),
        note="Rates of everybody together, by the exponent of Zipf's law.",
    )  # fmt: skip


def _sensitivity(document: Document) -> Iterator[Block]:
    model = document["model"]
    yield Table(
        ("assumption, doubled", "now", "shards of all sizes, times"),
        tuple((name, f"{model['assumptions'][name]:g}", f"{factor:.2f}") for name, factor in model["sensitivity"]),
    )
    first, second = (name for name, _ in model["sensitivity"][:2])
    by = {(row[first], row[second]): row for row in model["varied"]}
    factors = sorted({key[0] for key in by})
    yield Table(
        (f"{first} \\ {second}", *(f"x {factor:g}" for factor in factors)),
        tuple(
            (f"x {one:g}", *(f"{by[one, other]['shards']:,}" for other in factors)) for one in factors
        ),
        title=f"Shards for {count(CUSTOMERS[1])} customers at {RATES[1]:,}/s while the two most important ones move",
    )  # fmt: skip


def _balance(balance: Document) -> Iterator[Block]:
    rows = [row for row in balance["customers"] if row["count"] == CUSTOMERS[0]]
    yield _imbalance_figure(rows, balance["partitions"])
    shards = list(rows[0]["hottest_shard"]["slots"])
    for way, title in (
        ("partitions", "Shards have equally many partitions"),
        ("slots", "Shards have equal ranges of slots, as cluster tools cut them"),
    ):
        yield Table(
            ("exponent", *(f"on {n}" for n in shards), "shards before imbalance dominates"),
            tuple(
                (f"{row['exponent']:g}", *(f"{row['hottest_shard'][way][n]:.2f}" for n in shards),
                 f"{row['shards_fed'][way]}")
                for row in rows
            ),
            title=f"Busiest shard over the mean, {count(CUSTOMERS[0])} customers. {title}",
            note="Imbalance dominates from 1.5 on: a third of the fleet idles.",
        )  # fmt: skip
    yield Table(
        ("what", "how many", "exponent", "busiest one", "busiest partition", "an even partition"),
        tuple(
            (sort, count(row["count"]), f"{row['exponent']:g}", f"{100 * row['hottest_share']:.2g} %",
             f"{100 * row['hottest_partition_share']:.2f} %", f"{100 / balance['partitions']:.2f} %")
            for sort in ("customers", "payees")
            for row in balance[sort]
        ),
        title="Shares of all decisions",
        note="Nobody draws a hundred times a second: an exponent of 1.0 or 1.2 over customers is a stress, not a "
        "forecast. Over payees and shops it is usual.",
    )  # fmt: skip


def _measured(measured: Document) -> Iterator[Block]:
    machine = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in measured["machine"].items())
    histories = measured["histories"]
    yield Facts(
        (
            ("machine", machine),
            ("allocator of the store", measured["allocator"]),
            ("HTTP request and answer, bytes",
             f"{measured['http']['request_bytes']:,.0f} and {measured['http']['response_bytes']:,.0f}"),
            ("one customer, decisions/s one after the other", measured["one_customer"]["per_s_one_connection"]),
            ("one customer, decisions/s on eight connections", measured["one_customer"]["per_s_eight_connections"]),
            ("decisions/s of one connection", measured["one_connection"]["per_s"]),
            ("fsyncs of a decision on one connection", measured["one_connection"]["fsyncs"]),
            ("a full payee log costs the store more, us", measured["hot_payee"]["store_cpu_us"]),
            ("a full payee log costs the service more, us", measured["hot_payee"]["service_cpu_us"]),
            ("connections of one worker to its server", measured["connections_per_worker"]),
        )
    )  # fmt: skip
    yield Table(
        ("of a decision", *(f"{int(events):,} events" for events in histories), "one event"),
        tuple(
            (label, *(_figure(row["decision"][name]) for row in histories.values()), _figure(measured["event"][name]))
            for name, label in _DECISION_ROWS
        ),
        note="32 connections. Memory of a decision includes its event in logs, which grow by doubling; an event here "
        "comes in a call of its own.",
    )
    yield Table(
        ("bytes of a customer", *(f"{int(events):,} events" for events in histories)),
        tuple(
            (label, *(_figure(row[name]) for row in histories.values()))
            for name, label in (
                ("record_bytes", "event log: its records and header"),
                ("log_bytes", "event log: memory, after appends"),
                ("log_bytes_as_loaded", "event log: memory, as loaded at once"),
                ("meta_bytes", "version, facility, attributes"),
                ("used_memory_per_customer", "all memory as loaded, entity logs too"),
                ("aof_bytes_per_event", "append-only file for each event loaded"),
            )
        ),
    )  # fmt: skip
    size = measured["bytes"]
    yield Table(
        ("kind of key", "keys", "bytes each"),
        tuple((kind, f"{row['keys']:,}", f"{row['bytes']:,.0f}") for kind, row in size["keys"].items()),
        note=f"An outbox entry: {size['outbox_entry']:,.0f} bytes. A record of an entity log: "
        f"{size['entity_record']:,.0f} bytes. An event in the outbox: {size['outbox_event']:,.0f} bytes. The server "
        f"uses {size['used_over_keys']:.2f} times the bytes of its keys.",
    )
    base = next(row for events, row in histories.items() if events == "200")["decision"]["by_command"]
    yield Table(
        ("command", "of a decision"),
        tuple((f"`{name}`", f"{calls:.2f}") for name, calls in sorted(base.items(), key=lambda row: -row[1])),
        title="Commands, 200 events",
    )


def _assumptions(document: Document) -> Iterator[Block]:
    given = document["model"]["assumptions"]
    yield Table(("assumption", "value", "what it is"), tuple((n, f"{given[n]:g}", MEANINGS[n]) for n in given))


def _figure(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _shards_figure(cells: Sequence[Mapping[str, Any]]) -> Figure:
    """Shards by number of customers, a line for each rate; a cross where it is not possible."""

    def paint(axes: list[Axes]) -> str:
        ax, cores = axes
        for i, rate in enumerate(RATES):
            row = [cell for cell in cells if cell["rate_per_s"] == rate]
            style: dict[str, Any] = {"color": SERIES[i].stand_in, "linestyle": DASHES[i], "marker": "o"}
            ax.plot(*_shards_of(row), label=f"{rate:,}/s", gid=f"curve-{i}", **style)
            ax.plot(*_shards_of([cell for cell in row if not cell["feasible"]]), "x", color=INK, markersize=10)
        ax.axhline(1.0, color=GREY.stand_in, linewidth=1.0, linestyle=DASHES[2])
        _log_axis(ax, "x", "customers")
        _log_axis(ax, "y", "shards asked for (below 1: one)")
        ax.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=3, columnspacing=1.2)
        one = [cell for cell in cells if cell["customers"] == CUSTOMERS[0]]
        at = np.arange(len(one))
        cores.bar(at - 0.2, [c["service_cores"] for c in one], 0.38, color=BLUE.stand_in, label="service")
        cores.bar(at + 0.2, [c["store_cores"] for c in one], 0.38, color=SERIES[1].stand_in, hatch="////",
                  edgecolor="#0a0b07", label="store, replicas too")  # fmt: skip
        _log_axis(cores, "y", "cores")
        cores.set_xticks(at, [f"{c['rate_per_s']:,.0f}/s" for c in one])
        cores.set(xlabel="peak rate")
        cores.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=2)
        return "Shards by customers and rate, cores by rate. " + "; ".join(
            f"{count(c['customers'])} at {c['rate_per_s']:,.0f}/s: {c['shards']:,}" for c in cells
        )

    caption = "A cross: not possible with these partitions (see what breaks first); drawn is what its memory asks for."
    return draw("shards", (WIDE[0], 300.0), (1, 2), paint, caption)


def _shards_of(cells: Sequence[Mapping[str, Any]]) -> tuple[list[float], list[float]]:
    """Customers, and the shards asked for; by memory alone where it is not possible."""
    needs = (cell["shards_for"] for cell in cells)
    return (
        [cell["customers"] for cell in cells],
        [max(need.values()) if cell["feasible"] else need["memory"] for cell, need in zip(cells, needs, strict=True)],
    )


def _imbalance_figure(rows: Sequence[Mapping[str, Any]], partitions: int) -> Figure:
    """Busiest shard over the mean by shards: a panel for each way."""

    def paint(axes: list[Axes]) -> str:
        for ax, (way, title) in zip(axes, (("partitions", "equal partitions"), ("slots", "equal slots")), strict=True):
            for i, row in enumerate(rows):
                by = row["hottest_shard"][way]
                ax.plot([int(n) for n in by], list(by.values()), color=SERIES[i].stand_in, linestyle=DASHES[i],
                        marker="o", label=f"exponent {row['exponent']:g}", gid=f"{way}-{i}")  # fmt: skip
            ax.axhline(1.5, color=GREY.stand_in, linewidth=1.0, linestyle=DASHES[2])
            ax.set_title(title)
            _log_axis(ax, "x", "shards")
            _log_axis(ax, "y", "busiest shard over the mean")
        axes[0].legend(loc="upper left")
        return f"Imbalance of {partitions} partitions over shards. " + "; ".join(
            f"exponent {row['exponent']:g}: up to {row['shards_fed']['partitions']} shards before a third idles"
            for row in rows
        )

    caption = "Dotted at 1.5: above it a third of the fleet idles."
    return draw("imbalance", (WIDE[0], 300.0), (1, 2), paint, caption, sharey=True)


def _log_axis(ax: Axes, which: str, label: str) -> None:
    from matplotlib.ticker import FuncFormatter, NullLocator

    (ax.set_xscale if which == "x" else ax.set_yscale)("log")
    axis = ax.xaxis if which == "x" else ax.yaxis
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: count(value) if value >= 1_000 else f"{value:g}"))
    (ax.set_xlabel if which == "x" else ax.set_ylabel)(label)
