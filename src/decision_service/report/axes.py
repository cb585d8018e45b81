"""Axes of figures: shares as per cent, on a plain or a logarithmic scale, months, and the square of a ROC."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from decision_service.report.drawing import DASHES, GREY

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.container import BarContainer

_TICKS_MAX: Final = 14
_DECADES_OF_FEW_TICKS: Final = 1.6  # a longer logarithmic scale gets two ticks a decade, a shorter one three


def tick_percent(share: float, _position: int | None = None) -> str:
    """0.025 as `2.5 %`."""
    return f"{round(100.0 * share, 8):.6g} %"


def shares(axis: Axis) -> None:
    """Fractions shown as per cent."""
    from matplotlib.ticker import FuncFormatter

    axis.set_major_formatter(FuncFormatter(tick_percent))


def log_shares(axis: Axis, low: float, high: float) -> None:
    """Fractions shown as per cent on a logarithmic scale from `low` to `high`."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    is_x = axis is axis.axes.xaxis
    (axis.axes.set_xscale if is_x else axis.axes.set_yscale)("log")
    axis.set_major_locator(LogLocator(subs=(1.0, 3.0) if math.log10(high / low) > _DECADES_OF_FEW_TICKS else (1, 2, 5)))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(tick_percent))
    (axis.axes.set_xlim if is_x else axis.axes.set_ylim)(low, high)


def diagonal_panel(ax: Axes, x_label: str, y_label: str) -> None:
    """The unit square, with the diagonal that a score without any knowledge would follow."""
    ax.plot([0.0, 1.0], [0.0, 1.0], color=GREY.stand_in, linewidth=1.0, linestyle=DASHES[2], gid="chance")
    ax.set(xlabel=x_label, ylabel=y_label, xlim=(-0.01, 1.01), ylim=(-0.01, 1.02))
    for axis in (ax.xaxis, ax.yaxis):
        shares(axis)


def month_ticks(ax: Axes, labels: Sequence[str]) -> None:
    """One tick for each label, or for every second, third ... where they would run into each other."""
    step = math.ceil(len(labels) / _TICKS_MAX)
    ax.set_xticks(range(0, len(labels), step), labels[::step])
    ax.margins(x=0.03)


def name_bars(bars: BarContainer) -> None:
    """An id for each bar, `bars-0` and so on."""
    for i, bar in enumerate(bars):
        bar.set_gid(f"bars-{i}")
