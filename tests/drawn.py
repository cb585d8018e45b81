"""Reading figures back: from the paths of an SVG to numbers, by the ticks a reader would go by.

Nothing here knows how a figure was drawn but for the ids that `report.plots` gives to data.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from decision_service.report import Figure, plots

Floats = npt.NDArray[np.float64]
SVG = "{http://www.w3.org/2000/svg}"


def small_figure(name: str = "lift") -> Figure:
    """A figure that is quick to draw."""
    return plots.lift(name, [3.0, 1.5, 0.5], "Lift of `points`.")


class Drawn:
    """A figure as a reader sees it: data as (x, y) in the units of the ticks of panel `panel`, where they are numbers,
    else in ticks from the first.
    """

    def __init__(self, figure: Figure, panel: int = 1, log: bool = False) -> None:
        self.name = figure.name
        self.root = ElementTree.fromstring(figure.svg)
        self.axes = self.group(f"axes_{panel}")
        self.log = log

    def group(self, gid: str) -> ElementTree.Element:
        """The element with an id."""
        return next(g for g in self.root.iter(SVG + "g") if g.get("id") == f"{self.name}-{gid}")

    def texts(self) -> list[str]:
        """All that is written in the figure."""
        return ["".join(text.itertext()) for text in self.root.iter(SVG + "text")]

    def line(self, gid: str) -> tuple[Floats, Floats]:
        """The corners of a line."""
        return self._values(_corners(next(self.group(gid).iter(SVG + "path"))))

    def shapes(self, gid: str) -> list[tuple[Floats, Floats]]:
        """The corners of each bar with an id that begins like this."""
        groups = (g for g in self.root.iter(SVG + "g") if re.fullmatch(rf"{self.name}-{gid}(-\d+)?", g.get("id") or ""))
        return [self._values(_corners(next(g.iter(SVG + "path")))) for g in groups]

    def markers(self, gid: str) -> tuple[Floats, Floats]:
        """Where markers stand."""
        uses = self.group(gid).iter(SVG + "use")
        return self._values(np.array([[float(use.get("x", "")), float(use.get("y", ""))] for use in uses]))

    def _values(self, points: Floats) -> tuple[Floats, Floats]:
        return self._scaled("x", points[:, 0]), self._scaled("y", points[:, 1])

    def _scaled(self, axis: str, at: Floats) -> Floats:
        ticks = [
            tick for tick in self.axes.iter(SVG + "g") if re.match(rf"{self.name}-{axis}tick_", tick.get("id", ""))
        ]
        where = np.array([float(next(tick.iter(SVG + "use")).get(axis, "")) for tick in ticks])
        numbers = [_number(tick) for tick in ticks]
        words, log = None in numbers, self.log and None not in numbers
        values = np.arange(len(ticks)) if words else np.array(numbers, np.float64)
        slope, offset = np.polyfit(where, np.log10(values) if log else values, 1)
        return 10.0 ** (slope * at + offset) if log else slope * at + offset


def _number(tick: ElementTree.Element) -> float | None:
    """What is written at a tick; None for a word."""
    text = "".join("".join(t.itertext()) for t in tick.iter(SVG + "text")).replace("−", "-").replace(",", "")
    match = re.fullmatch(r"(-?[\d.]+)( %)?", text)
    return None if match is None else float(match[1]) / (100.0 if match[2] else 1.0)


def _corners(path: ElementTree.Element) -> Floats:
    words = path.get("d", "").replace("z", "").split()
    assert set(words[::3]) <= {"M", "L"}, "a path of straight lines"
    return np.array([[float(x), float(y)] for x, y in zip(words[1::3], words[2::3], strict=True)])


def is_rising(values: Floats) -> bool:
    """Whether no value is below the one before it, but for the rounding of coordinates."""
    return all(b >= a - 1e-3 for a, b in pairwise(values))
