"""Figures that compare two sides: before and after, new and lost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from decision_service.report.axes import name_bars, shares
from decision_service.report.blocks import UNKNOWN, Figure, percent
from decision_service.report.drawing import BLUE, ORANGE, draw

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_PAIR_HEIGHT = 27.0  # points
Pair = tuple[str, float, float]  # label, before, after


def pairs(name: str, values: Sequence[Pair], caption: str, x_label: str, *, as_share: bool = True) -> Figure:
    """Horizontal bars, before above after, first on top; NaN has no bar."""

    def text(value: float) -> str:
        if np.isnan(value):
            return UNKNOWN
        return percent(value) if as_share else f"{value:,.4g}"

    def paint(axes: list[Axes]) -> str:
        ax, at = axes[0], np.arange(len(values), dtype=float)
        for label, colour, shift, side in (("before", BLUE, -0.19, 1), ("after", ORANGE, 0.19, 2)):
            numbers = [float(value[side]) for value in values]
            drawn = ax.barh(at + shift, np.nan_to_num(numbers), color=colour.stand_in, height=0.36, label=label)
            if side == 1:
                name_bars(drawn)
            ax.bar_label(drawn, [text(number) for number in numbers], padding=3, fontsize=7.5)
        ax.set(yticks=at, xlabel=x_label, ylim=(len(values) - 0.4, -0.6))
        ax.set_yticklabels([value[0] for value in values], fontsize=8)
        ax.margins(x=0.16)
        ax.grid(visible=False, axis="y")
        ax.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=2)
        if as_share:
            shares(ax.xaxis)
        return f"{x_label}: " + "; ".join(f"{v[0]} {text(v[1])} before, {text(v[2])} after" for v in values) + "."

    return draw(name, (400.0, 62.0 + _PAIR_HEIGHT * len(values)), (1, 1), paint, caption)


def diverging(name: str, values: Sequence[tuple[str, float, float]], caption: str, x_label: str) -> Figure:
    """What came in to the right and what was lost to the left, by label; counts."""

    def paint(axes: list[Axes]) -> str:
        ax, at = axes[0], np.arange(len(values))
        new = ax.barh(at, [value[1] for value in values], color=ORANGE.stand_in, height=0.7, label="new")
        lost = ax.barh(at, [-value[2] for value in values], color=BLUE.stand_in, height=0.7, label="lost")
        name_bars(new)
        ax.bar_label(new, [f"+{value[1]:,.0f}" if value[1] else "" for value in values], padding=3, fontsize=7.5)
        ax.bar_label(lost, [f"−{value[2]:,.0f}" if value[2] else "" for value in values], padding=3, fontsize=7.5)
        ax.axvline(0.0, color=BLUE.stand_in, linewidth=0.8)
        ax.set(yticks=at, xlabel=x_label, ylim=(len(values) - 0.4, -0.6))
        ax.set_yticklabels([value[0] for value in values], fontsize=8)
        ax.margins(x=0.2)
        ax.grid(visible=False, axis="y")
        ax.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=2)
        return f"{x_label}: " + "; ".join(f"{v[0]} {v[1]:,.0f} new, {v[2]:,.0f} lost" for v in values) + "."

    return draw(name, (400.0, 62.0 + 16.0 * len(values)), (1, 1), paint, caption)
