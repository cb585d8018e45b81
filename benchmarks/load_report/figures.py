"""The plots of load runs. Each draws numbers that stand in a table beside it too. Latencies in ms."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from decision_service.report import Figure
from decision_service.report.drawing import BLUE, DASHES, GREEN, GREY, INK, ORANGE, PALETTE, PURPLE, SERIES, WIDE, draw
from load_report.document import STAGES, Floats, Run, curve, intervals, number

if TYPE_CHECKING:
    from matplotlib.axes import Axes

CURVES_MAX: Final = 8
_STAGE_COLOURS: Final = (BLUE, ORANGE, GREEN, PURPLE, GREY)
_HATCHES: Final = ("", "", "", "", "", "////", "....")
_BAR: Final = 26.0  # points
_TEXT_SHARE: Final = 0.09  # of the width, which the text of a mark takes
_TEXT_LINES: Final = 4
_EDGE: Final = next(colour for colour in PALETTE if colour.name == "paper").stand_in


def percentiles(name: str, curves: Sequence[tuple[str, Run]], caption: str) -> Figure:
    """Latency by percentile, on the axis of HdrHistogram: each nine takes as much room as the one before."""
    drawn = [(label, *curve(run)) for label, run in curves[:CURVES_MAX]]
    drawn = [(label, x, y) for label, x, y in drawn if len(x)]

    def paint(axes: list[Axes]) -> str:
        ax = axes[0]
        for i, (label, x, y) in enumerate(drawn):
            ax.step(x, y / 1e3, where="post", label=label, gid=f"curve-{i}", **_line(i))
        _percentile_axis(ax, max((float(x[-1]) for _, x, _ in drawn), default=100.0))
        log_ms(ax)
        ax.set(ylabel="latency, ms")
        ax.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=4)
        said = (f"{label}: half within {_ms(x, y, 2)}, 99 of 100 within {_ms(x, y, 100)}" for label, x, y in drawn)
        return f"Latency by percentile. {'; '.join(said)}."

    return draw(name, (WIDE[0], 330.0), (1, 1), paint, caption)


def over_time(name: str, run: Run, caption: str) -> Figure:
    """p50, p99 and maximum of each interval, failures below, marks as upright lines."""
    rows = intervals(run)
    at = np.array([row["t_s"] for row in rows], np.float64)
    failed = np.array([row.get("failures", 0) for row in rows], np.float64)

    def paint(axes: list[Axes]) -> str:
        ax, below = axes
        for i, (field, label) in enumerate((("p50_us", "p50"), ("p99_us", "p99"), ("max_us", "max"))):
            values = np.array([row.get(field) if row["requests"] else math.nan for row in rows], np.float64) / 1e3
            ax.plot(at, values, label=label, gid=f"curve-{i}", **_line(i))
        below.bar(at, failed, width=_gap(at), align="center", color=ORANGE.stand_in)
        for mark, line in _lines_of(run.get("marks", []), float(at[-1])):
            for panel in axes:
                panel.axvline(mark["t_s"], color=INK, linewidth=1.0, linestyle=DASHES[2])
            ax.annotate(mark["text"], (mark["t_s"], 1.0), (3, -3 - 11 * line), xycoords=("data", "axes fraction"),
                        textcoords="offset points", va="top", fontsize=8.5, color=INK)  # fmt: skip
        log_ms(ax)
        ax.set(ylabel="latency, ms")
        ax.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=3)
        below.set(xlabel="seconds", ylabel="failures", ylim=(0.0, max(1.0, float(failed.max(initial=0.0)) * 1.1)))
        below.locator_params(axis="y", nbins=2, integer=True)
        marks = ", ".join(f"{mark['text']} at {mark['t_s']:g} s" for mark in run.get("marks", []))
        return f"Latency over time of {run['name']}. {failed.sum():,.0f} failures. {marks}".strip()

    heights = {"gridspec_kw": {"height_ratios": (4, 1)}, "sharex": True}
    return draw(name, (WIDE[0], 320.0), (2, 1), paint, caption, **heights)


def stages(name: str, runs: Sequence[tuple[str, Run]], caption: str) -> Figure:
    """Mean microseconds of each stage of a decision, one on the other, a bar a run."""

    def paint(axes: list[Axes]) -> str:
        ax, at = axes[0], np.arange(len(runs))
        begin = np.zeros(len(runs))
        for i, stage in enumerate(STAGES):
            mean = np.nan_to_num(np.array([number(run, "stages_us", stage, "mean") for _, run in runs]))
            colour = _STAGE_COLOURS[i % len(_STAGE_COLOURS)].stand_in
            bars = ax.barh(at, mean, left=begin, height=0.62, color=colour, edgecolor=_EDGE, linewidth=0.8,
                           hatch=_HATCHES[i], label=stage)  # fmt: skip
            for k, bar in enumerate(bars):
                bar.set_gid(f"{stage}-{k}")
            begin += mean
        for k, total in enumerate(begin):
            ax.annotate(f"{total:,.0f}", (total, k), (4, 0), textcoords="offset points", va="center", fontsize=8.5)
        ax.set(yticks=at, xlabel="us of a decision, mean", ylim=(len(runs) - 0.5, -0.5))
        ax.set_yticklabels([label for label, _ in runs], fontsize=8.5)
        ax.set_xlim(0.0, 1.1 * max(1.0, float(begin.max())))
        ax.grid(visible=False, axis="y")
        ax.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=len(STAGES), handlelength=1.2, columnspacing=1.2)
        return f"Stages of a decision. {'; '.join(f'{label} {total:,.0f} us' for (label, _), total in _totals(runs))}."

    return draw(name, (WIDE[0], 95.0 + _BAR * len(runs)), (1, 1), paint, caption)


def ramp(name: str, steps: Sequence[Run], knee: Run | None, caption: str) -> Figure:
    """What was asked for and what was served, and the latency at each rate; the knee is marked."""
    wanted = np.array([number(step, "wanted_per_s") for step in steps])
    served = np.array([number(step, "per_s") for step in steps])

    def paint(axes: list[Axes]) -> str:
        left, right = axes
        left.plot(wanted, wanted, color=GREY.stand_in, linestyle=DASHES[1], linewidth=1.2, label="asked for")
        left.plot(wanted, served, marker="o", label="served", gid="served", **_line(0))
        left.set(xlabel="asked for, a second", ylabel="served, a second", ylim=(0.0, None))
        for i, percentile in enumerate(("p50", "p99", "p99.9")):
            values = np.array([number(step, "latency_us", percentile) for step in steps]) / 1e3
            right.plot(wanted, values, marker="o", label=percentile, gid=f"curve-{i}", **_line(i))
        log_ms(right)
        right.set(xlabel="asked for, a second", ylabel="latency, ms")
        if knee is not None:
            for ax in axes:
                ax.axvline(knee["wanted_per_s"], color=INK, linewidth=1.0, linestyle=DASHES[2])
            right_of_it = knee["wanted_per_s"] < wanted[-1] / 2
            left.annotate(f"knee {knee['wanted_per_s']:,.0f}/s", (knee["wanted_per_s"], 0.0),
                          (4 if right_of_it else -4, 6), ha="left" if right_of_it else "right",
                          textcoords="offset points", fontsize=8.5, color=INK)  # fmt: skip
        for ax in axes:
            ax.set_xlim(0.0, 1.05 * float(wanted[-1]))
            ax.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=3)
        at = f"the knee is at {knee['wanted_per_s']:,.0f} a second" if knee else "no step was kept up with"
        return f"Rates from {wanted[0]:,.0f} to {wanted[-1]:,.0f} a second; {at}."

    return draw(name, (WIDE[0], 280.0), (1, 2), paint, caption)


def operations(name: str, rows: Sequence[tuple[Any, ...]], caption: str) -> Figure:
    """Rows of (operation, p50, p99, maximum) in ms, on one logarithmic scale."""

    def paint(axes: list[Axes]) -> str:
        ax, at = axes[0], np.arange(len(rows))
        ends = np.array([row[1:] for row in rows], np.float64)
        ax.hlines(at, ends[:, 0], ends[:, 2], color=GREY.stand_in, linewidth=1.4)
        for i, (label, marker, colour) in enumerate((("p50", "o", BLUE), ("p99", "D", ORANGE), ("max", "|", PURPLE))):
            ax.plot(ends[:, i], at, marker, color=colour.stand_in, label=label, gid=f"points-{i}", markersize=7)
        log_ms(ax, "x")
        ax.set(yticks=at, xlabel="latency, ms", ylim=(len(rows) - 0.5, -0.5))
        ax.set_yticklabels([row[0] for row in rows], fontsize=8.5)
        ax.grid(visible=False, axis="y")
        ax.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=3)
        return "Latency by operation. " + "; ".join(f"{r[0]}: p50 {r[1]:.3g} ms, p99 {r[2]:.3g} ms" for r in rows) + "."

    return draw(name, (WIDE[0], 85.0 + _BAR * len(rows)), (1, 1), paint, caption)


def deltas(name: str, rows: Sequence[tuple[str, float, float]], caption: str) -> Figure:
    """Relative differences (fractions) with the noise around zero as a bar behind each."""

    def paint(axes: list[Axes]) -> str:
        ax, at = axes[0], np.arange(len(rows))
        noise = np.array([100.0 * row[2] for row in rows])
        delta = np.array([100.0 * row[1] for row in rows])
        known = ~np.isnan(noise)
        ax.barh(at[known], 2 * noise[known], left=-noise[known], height=0.6, color=GREY.stand_in, alpha=0.35,
                label="noise")  # fmt: skip
        ax.plot(delta, at, "o", color=BLUE.stand_in, label="difference", gid="deltas")
        ax.axvline(0.0, color=INK, linewidth=1.0)
        ax.set(yticks=at, xlabel="second less first, % of the first", ylim=(len(rows) - 0.5, -0.5))
        ax.set_yticklabels([row[0] for row in rows], fontsize=8.5)
        most = 1.3 * max(5.0, float(np.abs(delta).max()))
        ax.set_xlim(-most, most)  # noise may reach beyond
        ax.grid(visible=False, axis="y")
        ax.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=2)
        return "Differences. " + "; ".join(f"{what} {100 * part:+.1f} %" for what, part, _ in rows) + "."

    return draw(name, (WIDE[0], 85.0 + 20.0 * len(rows)), (1, 1), paint, caption)


def log_ms(ax: Axes, axis: str = "y") -> None:
    """A logarithmic scale that writes 0.5, 1, 20 and not powers of ten."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    (ax.set_yscale if axis == "y" else ax.set_xscale)("log")
    low, high = ax.get_ylim() if axis == "y" else ax.get_xlim()
    ours = ax.yaxis if axis == "y" else ax.xaxis
    decades = math.log10(high / low)
    ours.set_major_locator(LogLocator(subs=(1.0,) if decades > 3 else (1.0, 3.0) if decades > 1.6 else (1, 2, 5)))
    ours.set_minor_locator(NullLocator())
    ours.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.6g}"))


def _line(i: int) -> dict[str, Any]:
    return {
        "color": SERIES[i % len(SERIES)].stand_in,
        "linestyle": DASHES[(i + i // len(SERIES)) % len(DASHES)],
    }


def _percentile_axis(ax: Axes, end: float) -> None:
    from matplotlib.ticker import FixedLocator, NullLocator

    shares = [(1.0, "0 %"), (2.0, "50 %")]
    shares += [(10.0**n, f"{100 - 100 / 10**n:.{max(0, n - 2)}f} %") for n in range(1, 9)]
    ax.set_xscale("log")
    ax.set_xlim(1.0, end * 1.15)
    ax.xaxis.set_major_locator(FixedLocator([at for at, _ in shares if at <= end * 1.15]))
    ax.set_xticklabels([label for at, label in shares if at <= end * 1.15])
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set(xlabel="share of requests answered within")


def _ms(x: Floats, y: Floats, at: float) -> str:
    return f"{y[min(int(np.searchsorted(x, at, side='right')) - 1, len(y) - 1)] / 1e3:.3g} ms"


def _lines_of(marks: Sequence[dict[str, Any]], seconds: float) -> list[tuple[dict[str, Any], int]]:
    """Each mark and the line that its text stands in: one below that of its neighbour if they would run together."""
    found: list[tuple[dict[str, Any], int]] = []
    for mark in marks:
        close = bool(found) and mark["t_s"] - found[-1][0]["t_s"] < _TEXT_SHARE * seconds
        found.append((mark, (found[-1][1] + 1) % _TEXT_LINES if close else 0))
    return found


def _gap(at: Floats) -> float:
    return 0.9 * float(np.median(np.diff(at))) if len(at) > 1 else 0.5


def _totals(runs: Sequence[tuple[str, Run]]) -> list[tuple[tuple[str, Run], float]]:
    return [
        ((label, run), float(np.nansum([number(run, "stages_us", stage, "mean") for stage in STAGES])))
        for label, run in runs
    ]
