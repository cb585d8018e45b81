"""The figures of reports: how a score tells good from bad, what it gives, and how that moves.

Every function takes numbers that are already computed and draws just these, so that what a figure shows can be checked
against them. Shares and probabilities are fractions and are shown as per cent. `bad` means defaulted; points rise as
risk falls. Labels of data are taken as they are. Raises ReportExtraMissing where matplotlib is absent.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from decision_service.report.axes import diagonal_panel, log_shares, month_ticks, name_bars, shares
from decision_service.report.blocks import Figure, percent
from decision_service.report.drawing import BLUE, DASHES, GREY, INK, NARROW, ORANGE, PAPER, SERIES, WIDE, draw

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Floats = Sequence[float] | npt.NDArray[np.float64]

_BAR_HEIGHT: Final = 15.0  # points
_RESPONSE_COLUMNS: Final = 4
_RESPONSE_HEIGHT: Final = 125.0  # points
_TITLE_MAX: Final = 26  # letters over a small panel


@dataclass(frozen=True, slots=True)
class Curve:
    """A named line through (x, y); NaN breaks it."""

    label: str
    x: Floats
    y: Floats

    @property
    def area(self) -> float:
        """The area below it, by trapezoids."""
        return float(np.trapezoid(np.asarray(self.y), np.asarray(self.x)))


@dataclass(frozen=True, slots=True)
class Group:
    """Some rows of like prediction: mean prediction, observed rate and the interval it stands for."""

    predicted: float
    observed: float
    low: float
    high: float
    rows: int


@dataclass(frozen=True, slots=True)
class Response:
    """What the mean prediction does while one input moves; `kept` is False where it breaks its promise."""

    label: str
    x: Floats
    y: Floats
    kept: bool = True


@dataclass(frozen=True, slots=True)
class GradeBar:
    """One grade: its share of rows, the rate of bads in it (NaN if it has no rows) and the mean PD."""

    name: str
    share: float
    observed: float
    predicted: float


def roc(name: str, curves: Sequence[Curve], caption: str) -> Figure:
    """True against false positive rate; x and y run from 0 to 1. The legend says the area below each as drawn."""
    labels = [f"{curve.label}: AUC {curve.area:.3f}" for curve in curves]

    def paint(axes: list[Axes]) -> str:
        diagonal_panel(axes[0], "good customers taken for bad", "bad customers found")
        _curves(axes[0], curves, labels)
        axes[0].legend(loc="lower right")
        return f"ROC curves. {'; '.join(labels)}."

    return draw(name, NARROW, (1, 1), paint, caption)


def ks(name: str, goods: Curve, bads: Curve, caption: str, x_label: str = "points") -> Figure:
    """Cumulated shares over the same x; the gap is marked where it is widest."""
    gaps = np.abs(np.asarray(bads.y) - np.asarray(goods.y))
    i = int(np.argmax(gaps))
    at, gap = float(goods.x[i]), float(gaps[i])

    def paint(axes: list[Axes]) -> str:
        ax = axes[0]
        for k, (curve, colour) in enumerate(((goods, BLUE), (bads, ORANGE))):
            ax.step(curve.x, curve.y, where="post", color=colour.stand_in, linestyle=DASHES[k], label=curve.label,
                    gid=f"curve-{k}")  # fmt: skip
        ends = sorted((float(goods.y[i]), float(bads.y[i])))
        ax.plot(
            [at, at], ends, color=INK, linewidth=1.2, marker="_", gid="gap", label=f"KS {percent(gap)} at {at:,.4g}"
        )
        shares(ax.yaxis)
        ax.set(xlabel=x_label, ylabel="share with at most so many", ylim=(0.0, 1.02))
        ax.legend(loc="best")
        return f"Cumulated shares of {goods.label} and {bads.label}; widest gap {percent(gap)} at {at:,.4g} {x_label}."

    return draw(name, NARROW, (1, 1), paint, caption)


def gains(name: str, curves: Sequence[Curve], caption: str) -> Figure:
    """Share of bads found (y) among the riskiest share of all rows (x), both from 0 to 1."""

    def paint(axes: list[Axes]) -> str:
        diagonal_panel(axes[0], "share of customers, riskiest first", "share of the bad among them")
        _curves(axes[0], curves, [curve.label for curve in curves])
        axes[0].legend(loc="lower right")
        tops = (
            f"{c.label}: the riskiest 10 % hold {percent(float(np.interp(0.1, c.x, c.y)))} of the bad" for c in curves
        )
        return f"Cumulated gains. {'; '.join(tops)}."

    return draw(name, NARROW, (1, 1), paint, caption)


def lift(name: str, lifts: Floats, caption: str) -> Figure:
    """Bad rate of each group, riskiest first, as a multiple of the overall one."""

    def paint(axes: list[Axes]) -> str:
        ax = axes[0]
        numbers = np.arange(1, len(lifts) + 1)
        name_bars(ax.bar(numbers, lifts, color=BLUE.stand_in, width=0.72))
        ax.axhline(1.0, color=INK, linewidth=1.0, linestyle=DASHES[1])
        for number, value in zip(numbers, lifts, strict=True):
            ax.annotate(f"{value:.2f}", (number, value), (0, 2), textcoords="offset points", ha="center", fontsize=8)
        ax.grid(visible=False, axis="x")
        ax.set(xlabel="tenth of customers, riskiest first", ylabel="lift", xticks=numbers)
        return f"Lift by tenths, riskiest first: {', '.join(f'{x:.2f}' for x in lifts)}."

    return draw(name, NARROW, (1, 1), paint, caption)


def calibration(name: str, groups: Sequence[Group], caption: str) -> Figure:
    """Observed rate against mean prediction, both on logarithmic scales. A rate of 0 stands at the lower edge as a
    triangle.
    """
    x = np.array([group.predicted for group in groups])
    y = np.array([group.observed for group in groups])
    low, high = (np.array([getattr(group, end) for group in groups]) for end in ("low", "high"))

    def paint(axes: list[Axes]) -> str:
        ax, floor = axes[0], _floor([*x, *y])
        ends = (floor, min(1.0, 1.4 * float(max(x.max(), high.max()))))
        ax.plot(ends, ends, color=GREY.stand_in, linewidth=1.0, linestyle=DASHES[1], label="as predicted")
        ax.vlines(x, np.maximum(low, floor), high, color=BLUE.stand_in, linewidth=1.2, label="95 % interval")
        ax.plot(x[y > 0], y[y > 0], "o", color=BLUE.stand_in, label="observed", gid="observed")
        if np.any(y <= 0):
            ax.plot(x[y <= 0], np.full(int(np.sum(y <= 0)), floor), "v", color=BLUE.stand_in, clip_on=False,
                    label="none observed", gid="none-observed")  # fmt: skip
        for axis in (ax.xaxis, ax.yaxis):
            log_shares(axis, *ends)
        ax.set(xlabel="mean predicted PD", ylabel="share that went bad")
        ax.legend(loc="upper left", title=_counts(groups), title_fontsize=8, alignment="left")
        return (
            "Calibration. "
            + "; ".join(f"predicted {percent(g.predicted, 2)}, observed {percent(g.observed, 2)}" for g in groups)
            + "."
        )

    return draw(name, NARROW, (1, 1), paint, caption)


def distribution(name: str, edges: Floats, parts: Sequence[tuple[str, Floats]], caption: str, x_label: str) -> Figure:
    """Shares of each part (good and bad, before and after) in the bins between `edges`; one share fewer than edges."""

    def paint(axes: list[Axes]) -> str:
        ax = axes[0]
        for i, (label, share) in enumerate(parts):
            colour = SERIES[i].stand_in
            ax.stairs(share, edges, fill=True, color=colour, alpha=0.18)
            ax.stairs(share, edges, color=colour, linewidth=1.6, linestyle=DASHES[i], label=label, gid=f"part-{i}")
        shares(ax.yaxis)
        ax.set(xlabel=x_label, ylabel="share of rows")
        ax.legend(loc="best")
        tops = (f"{label} most often at {edges[int(np.argmax(share))]:,.4g}" for label, share in parts if len(share))
        return f"Distribution by {x_label}: {'; '.join(tops)}."

    return draw(name, NARROW, (1, 1), paint, caption)


def lines(
    name: str,
    ticks: Sequence[str],
    series: Sequence[tuple[str, Floats]],
    caption: str,
    y_label: str,
    marks: Sequence[tuple[str, float]] = (),
    as_share: bool = False,
) -> Figure:
    """Values over months or days, NaN where there is none; `marks` are levels with a name."""

    def paint(axes: list[Axes]) -> str:
        ax, at = axes[0], np.arange(len(ticks))
        for i, (label, values) in enumerate(series):
            ax.plot(at, np.asarray(values, np.float64), color=SERIES[i].stand_in, linestyle=DASHES[i], marker="o",
                    label=label, gid=f"curve-{i}")  # fmt: skip
        for label, level in marks:
            ax.axhline(level, color=GREY.stand_in, linewidth=1.0, linestyle=DASHES[2])
            ax.annotate(label, (1.0, level), (-2, 2), xycoords=("axes fraction", "data"), textcoords="offset points",
                        ha="right", fontsize=8, color=INK)  # fmt: skip
        month_ticks(ax, ticks)
        if as_share:
            shares(ax.yaxis)
        ax.set(ylabel=y_label)
        ax.set_ylim(bottom=min(0.0, ax.get_ylim()[0]))
        ax.legend(loc="upper left", bbox_to_anchor=(0.0, 1.14), ncols=len(series))
        return (
            f"{y_label} from {ticks[0]} to {ticks[-1]}. "
            + "; ".join(_ends(label, v, as_share) for label, v in series)
            + "."
        )

    return draw(name, WIDE, (1, 1), paint, caption)


def bars(name: str, values: Sequence[tuple[str, float]], caption: str, x_label: str, as_share: bool = False) -> Figure:
    """Horizontal bars with their values, first on top."""
    size = (NARROW[0], 46.0 + _BAR_HEIGHT * len(values))

    def text(value: float) -> str:
        return percent(value) if as_share else f"{value:,.4g}"

    def paint(axes: list[Axes]) -> str:
        ax, at = axes[0], np.arange(len(values))
        drawn = ax.barh(at, [value for _, value in values], color=BLUE.stand_in, height=0.7)
        name_bars(drawn)
        ax.bar_label(drawn, [text(value) for _, value in values], padding=3, fontsize=8)
        ax.set(yticks=at, xlabel=x_label, ylim=(len(values) - 0.4, -0.6))
        ax.set_yticklabels([label for label, _ in values], fontsize=8)
        ax.margins(x=0.14)
        ax.grid(visible=False, axis="y")
        if as_share:
            shares(ax.xaxis)
        return f"{x_label}: " + "; ".join(f"{label} {text(value)}" for label, value in values) + "."

    return draw(name, size, (1, 1), paint, caption)


def responses(name: str, panels: Sequence[Response], caption: str, y_label: str = "mean PD") -> Figure:
    """A small panel for each input, all on one scale."""
    rows = math.ceil(len(panels) / _RESPONSE_COLUMNS)
    size = (WIDE[0], _RESPONSE_HEIGHT * rows)

    def paint(axes: list[Axes]) -> str:
        for i, (ax, panel) in enumerate(zip(axes, panels, strict=False)):
            colour, dash = (BLUE, DASHES[0]) if panel.kept else (ORANGE, DASHES[1])
            ax.plot(panel.x, panel.y, color=colour.stand_in, linestyle=dash, gid=f"curve-{i}")
            ax.set_title(_short(panel.label), fontsize=8.5)
            ax.tick_params(labelsize=8)
            ax.locator_params(axis="x", nbins=4)
            shares(ax.yaxis)
            if i % _RESPONSE_COLUMNS == 0:
                ax.set_ylabel(y_label, fontsize=8.5)
        for ax in axes[len(panels) :]:
            ax.set_visible(False)
        broken = [panel.label for panel in panels if not panel.kept]
        return f"Response to {', '.join(p.label for p in panels)}. Not monotone: {', '.join(broken) or 'none'}."

    return draw(name, size, (rows, _RESPONSE_COLUMNS), paint, caption, sharey=True)


def grades(name: str, rows: Sequence[GradeBar], caption: str) -> Figure:
    """The share of each grade, and beside it what was predicted for it and what came."""

    def paint(axes: list[Axes]) -> str:
        at, names = np.arange(len(rows)), [row.name for row in rows]
        drawn = axes[0].barh(at, [row.share for row in rows], color=BLUE.stand_in, height=0.65)
        name_bars(drawn)
        axes[0].bar_label(drawn, [percent(row.share) for row in rows], padding=3, fontsize=8)
        axes[0].set(yticks=at, yticklabels=names, xlabel="share of rows", ylim=(len(rows) - 0.5, -0.5))
        axes[0].margins(x=0.2)
        shares(axes[0].xaxis)
        _predicted_and_observed(axes[1], rows)
        for ax in axes:
            ax.grid(visible=False, axis="y")
        return (
            "Grades. "
            + "; ".join(
                f"{r.name}: {percent(r.share)} of rows, bad rate {percent(r.observed, 2)}, "
                f"mean PD {percent(r.predicted, 2)}"
                for r in rows
            )
            + "."
        )

    return draw(name, (WIDE[0], 50.0 + 26.0 * len(rows)), (1, 2), paint, caption, sharey=True)


def _predicted_and_observed(ax: Axes, rows: Sequence[GradeBar]) -> None:
    at = np.arange(len(rows))
    predicted, observed = np.array([row.predicted for row in rows]), np.array([row.observed for row in rows])
    known = np.concatenate((predicted, observed))
    known = known[np.isfinite(known)]
    floor = _floor(known.tolist())
    ax.plot(np.maximum(observed, floor), at, "o", color=BLUE.stand_in, label="share that went bad", gid="observed")
    ax.plot(predicted, at, "D", color=ORANGE.stand_in, markerfacecolor=PAPER.stand_in, label="mean PD", gid="predicted")
    log_shares(ax.xaxis, floor, min(1.0, 1.6 * float(known.max())))
    ax.set(xlabel="bad rate and mean PD")
    ax.legend(loc="best")


def _curves(ax: Axes, curves: Sequence[Curve], labels: Sequence[str]) -> None:
    for i, (curve, label) in enumerate(zip(curves, labels, strict=True)):
        style: dict[str, Any] = {"color": SERIES[i].stand_in, "linestyle": DASHES[i], "label": label}
        ax.plot(np.asarray(curve.x), np.asarray(curve.y), gid=f"curve-{i}", **style)


def _floor(values: Sequence[float]) -> float:
    """Where a logarithmic scale that must show these may begin: below the least above zero."""
    return 0.6 * min((value for value in values if value > 0.0), default=1e-4)


def _counts(groups: Sequence[Group]) -> str:
    rows = [group.rows for group in groups]
    each = f"{min(rows):,}" if min(rows) == max(rows) else f"{min(rows):,} to {max(rows):,}"
    return f"{len(groups)} groups of {each} rows"


def _ends(label: str, values: Floats, as_share: bool) -> str:
    def text(value: float) -> str:
        return percent(value, 2) if as_share else f"{value:.4g}"

    known = [value for value in values if not math.isnan(value)]
    return (
        f"{label}: {text(known[0])} to {text(known[-1])}, at most {text(max(known))}"
        if known
        else f"{label}: no values"
    )


def _short(label: str) -> str:
    return label if len(label) <= _TITLE_MAX else label[: _TITLE_MAX - 1] + "…"
