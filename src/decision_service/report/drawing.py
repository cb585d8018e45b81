"""From matplotlib to SVG for a report: the page's colours, letters that stay letters, the same bytes on every run.

A drawing is made with stand-in colours (`INK`, `PALETTE`), which become `currentColor` and CSS variables: so one SVG is
readable on a light page, on a dark one and on paper. `standing_alone` gives the same drawing for a file of its own, on
white. Colours are few, of Okabe and Ito's palette for all kinds of sight, and never the only difference: lines differ
in their dashes too.

Lines that stand for data carry an id, `<figure>-<gid>`, by which tests read them back. Coordinates are rounded to
1/100 point. Only matplotlib's object interface is used: no state is left behind, and matplotlibrc has no say.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from xml.sax.saxutils import escape

from decision_service.report.blocks import Figure
from decision_service.report.extra import needing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas


@dataclass(frozen=True, slots=True)
class Colour:
    """What a drawing calls a colour (`stand_in`), and what it is on a light and on a dark page."""

    name: str
    stand_in: str
    light: str
    dark: str


INK: Final = "#010203"  # becomes currentColor
BLUE: Final = Colour("blue", "#0a0b01", "#0072b2", "#56b4e9")
ORANGE: Final = Colour("orange", "#0a0b02", "#d55e00", "#f0a04b")
GREEN: Final = Colour("green", "#0a0b03", "#00805c", "#3cc79a")
PURPLE: Final = Colour("purple", "#0a0b04", "#a5407a", "#e094c0")
GREY: Final = Colour("grey", "#0a0b05", "#707a8a", "#8f9aab")
FAINT: Final = Colour("faint", "#0a0b06", "#dfe3ea", "#333b49")
PAPER: Final = Colour("paper", "#0a0b07", "#ffffff", "#14181f")
PALETTE: Final = (BLUE, ORANGE, GREEN, PURPLE, GREY, FAINT, PAPER)
SERIES: Final = (BLUE, ORANGE, GREEN, PURPLE)
DASHES: Final = ("-", (0, (6, 2)), (0, (1.5, 1.5)), (0, (6, 2, 1.5, 2)))

NARROW: Final = (400.0, 300.0)  # points
WIDE: Final = (720.0, 270.0)
_POINTS_PER_INCH: Final = 72.0
_INK_ON_PAPER: Final = "#1f2430"
_LETTERS: Final = "font-family: 'DejaVu Sans', Verdana, sans-serif"  # of about the same width
_SIZE: Final = re.compile(r' width="[^"]*" height="[^"]*"(?= viewBox)')
_GLOBAL_STYLE: Final = re.compile(r"<defs>\s*<style[^>]*>.*?</style>\s*</defs>\s*", re.DOTALL)  # would style the page
_NO_ROTATION: Final = re.compile(r' transform="rotate\(-0 [^"]*\)"')
_COORDINATES: Final = re.compile(r'( d| x| y| transform)="([^"]*)"')
_LONG_NUMBER: Final = re.compile(r"-?\d+\.\d{3,}")
_VARIABLE: Final = re.compile(r"var\(--plot-[a-z]+, (#[0-9a-f]{6})\)")

_STYLE: Final[dict[str, Any]] = {
    "svg.fonttype": "none",
    "font.family": ["DejaVu Sans"],
    "font.size": 10.0,
    "axes.titlesize": 10.0,
    "axes.labelsize": 10.0,
    "xtick.labelsize": 9.0,
    "ytick.labelsize": 9.0,
    "legend.fontsize": 9.0,
    "legend.frameon": False,
    "legend.handlelength": 2.4,
    "lines.linewidth": 1.8,
    "lines.markersize": 5.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.linewidth": 0.7,
    "grid.color": FAINT.stand_in,
    "axes.edgecolor": GREY.stand_in,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.labelcolor": INK,
    "text.color": INK,
    "text.parse_math": False,  # a dollar in a label is a dollar
    "path.simplify": True,
    "path.simplify_threshold": 0.1,  # pixels of 1/72 inch
}


@contextmanager
def _our_style(name: str) -> Iterator[None]:
    with needing("matplotlib"):
        import matplotlib as mpl
    style: Any = _STYLE | {"svg.hashsalt": name}
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(style)
        yield


def draw(
    name: str,
    size: tuple[float, float],
    panels: tuple[int, int],
    paint: Callable[[list[Axes]], str],
    caption: str,
    **layout: Any,
) -> Figure:
    """A figure of `size` points with rows x columns of axes that `paint` fills; it gives the words for who cannot see.

    `layout` goes to matplotlib's `subplots`. Raises ReportExtraMissing.
    """
    with _our_style(name):
        from matplotlib.figure import Figure as Canvas

        canvas = Canvas(
            figsize=(size[0] / _POINTS_PER_INCH, size[1] / _POINTS_PER_INCH), dpi=_POINTS_PER_INCH, layout="constrained"
        )
        alt = paint(list(canvas.subplots(*panels, squeeze=False, **layout).flat))
        return Figure(name, _svg(canvas, name), caption, alt)


def _svg(canvas: Canvas, name: str) -> str:
    file = io.BytesIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    canvas.savefig(file, format="svg", transparent=True, metadata=nothing)
    return _in_page_colours(_tidy(file.getvalue().decode(), name))


def _tidy(svg: str, name: str) -> str:
    """The `svg` element alone, its ids unique in a page, its size left to the page, its numbers short."""
    svg = svg[svg.index("<svg") :]
    svg = _SIZE.sub(r' stroke-linejoin="round"', svg, count=1)
    svg = _GLOBAL_STYLE.sub("", svg, count=1)
    svg = _NO_ROTATION.sub("", svg)
    svg = svg.replace("font-family: 'DejaVu Sans'", _LETTERS)
    svg = re.sub(r'\bid="([^"]+)"', rf'id="{name}-\1"', svg)
    svg = re.sub(r'(href="#|url\(#)', rf"\1{name}-", svg)
    svg = _COORDINATES.sub(lambda m: f'{m[1]}="{_LONG_NUMBER.sub(_short, " ".join(m[2].split()))}"', svg)
    return "\n".join(line.strip() for line in svg.splitlines() if line.strip()) + "\n"


def _short(number: re.Match[str]) -> str:
    return f"{round(float(number[0]), 2) + 0.0:.2f}".rstrip("0").rstrip(".")


def _in_page_colours(svg: str) -> str:
    svg = svg.replace(INK, "currentColor")
    for colour in PALETTE:
        svg = svg.replace(colour.stand_in, f"var(--plot-{colour.name}, {colour.light})")
    return svg


def standing_alone(figure: Figure) -> str:
    """The drawing as a file of its own, in plain colours on white, for a viewer that knows no page."""
    svg = _VARIABLE.sub(r"\1", figure.svg).replace("currentColor", _INK_ON_PAPER)
    head, end, rest = svg.partition(">")
    paper = f'<rect width="100%" height="100%" fill="{PAPER.light}"/>'
    return f'<?xml version="1.0" encoding="utf-8"?>\n{head}{end}\n<title>{escape(figure.alt)}</title>\n{paper}{rest}'
