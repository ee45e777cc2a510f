"""Figures as SVG, to be put into a page: they take its text colour and need no script."""

from __future__ import annotations

import dataclasses
import io
import math
import re
import warnings
from collections.abc import Callable, Iterable
from typing import Any

import matplotlib
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

# Stands for the page's text colour, which SVG calls currentColor and matplotlib does not know.
INK = "#010203"
AMBER, BLUE, RED, GREEN = "#d97706", "#2563eb", "#dc2626", "#15803d"  # readable on light and dark
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "path.simplify": False,  # it would drop dots
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
}
WIDE, NARROW = 6.6, 3.3  # inches, of a figure and of one of three beside each other
_DRAWN_LENGTH = 60  # characters of a name


def render(draw: Callable[[], Figure], title: str, *, copy: str = "") -> Markup:
    """Draw a figure as an `<svg>` element.

    `title`: what the figure shows, for readers who do not see it.  `copy`: another word for each
    time that the same figure stands on a page, since ids must be unlike.
    """
    # The ids in it are the same in every run, and unlike another plot's on the page.
    with matplotlib.rc_context({**_STYLE, "svg.hashsalt": f"{title} {copy}"}):
        figure = draw()
        text = io.StringIO()
        with warnings.catch_warnings():
            # Text is only measured here: the reader's browser has a font for every script.
            warnings.filterwarnings("ignore", "Glyph .* missing", UserWarning)
            figure.savefig(text, format="svg", transparent=True, metadata={"Date": None})
    drawing = text.getvalue()
    drawing = drawing[drawing.index("<svg") :].replace(INK, "currentColor")
    label = Markup('<svg role="img" aria-label="{}" class="harness-plot" ').format(title)
    return label + Markup(_smaller(drawing).removeprefix("<svg "))


@dataclasses.dataclass(frozen=True)
class Drawing:
    """A figure as `<svg>`, and a sentence on how to read it."""

    svg: Markup
    reading: str

    def __html__(self) -> Markup:
        """As an element of a page."""
        return Markup(
            '<figure class="harness-figure">{}<figcaption>{}</figcaption></figure>'
        ).format(self.svg, self.reading)


def canvas(
    height: float, *, width: float = WIDE, margins: tuple[float, float] | None = None
) -> Figure:
    """An empty figure, `height` and `width` in inches.

    `margins`: inches at the left and above the axes, with little at the other sides; None:
    matplotlib measures what everything needs, which takes several times as long.
    """
    figure = Figure(figsize=(width, height), layout="constrained" if margins is None else None)
    FigureCanvasSVG(figure)
    if margins is not None:
        left, top = margins
        figure.subplots_adjust(
            left=left / width, right=1 - 0.1 / width, bottom=0.5 / height, top=1 - top / height
        )
    return figure


def dots(axes: Axes, x: Iterable[float], y: Iterable[float], **style: Any) -> None:
    """Draw dots as one path of strokes without length: a marker each would make a page heavy."""
    across = [value for one in x for value in (one, one, math.nan)]
    height = [value for one in y for value in (one, one, math.nan)]
    axes.plot(across, height, **{"solid_capstyle": "round", "linewidth": 4, **style})


def decades(values: Iterable[float], default: tuple[float, float]) -> tuple[float, float]:
    """The decades that hold all finite positive values, with at least two of them."""
    finite = [value for value in values if 0 < value < math.inf]
    low = 10.0 ** math.floor(math.log10(min(finite, default=default[0])))
    high = 10.0 ** math.ceil(math.log10(max(finite, default=default[1])))
    return low, max(high, 100 * low)


def clamp(values: Iterable[float], low: float, high: float) -> list[float]:
    """Values inside the limits; what is no number stands at the upper one, where it is seen."""
    return [high if value != value else min(max(value, low), high) for value in values]


def name(text: str) -> str:
    """A name as a label: its middle is left out when it is long, and it is no formula."""
    half = _DRAWN_LENGTH // 2
    short = text if len(text) <= _DRAWN_LENGTH else f"{text[:half]}...{text[-half:]}"
    return short.replace("$", r"\$")


def _smaller(drawing: str) -> str:
    """Without comments, metadata and digits that nobody sees: a tenth of a point is enough."""
    drawing = re.sub(r"<!--.*?-->|<metadata>.*?</metadata>", "", drawing, flags=re.DOTALL)
    # The only style in it repeats what SVG does anyway, and would apply to the whole page.
    drawing = re.sub(r"<style.*?</style>", "", drawing, flags=re.DOTALL)
    drawing = re.sub(
        r'(?<= )(d|x|y|transform|style|points)="([^"]*)"',
        lambda match: f'{match[1]}="{_rounded(match[2])}"',
        drawing,
    )
    drawing = re.sub(r">\s+<", "><", re.sub(r"\s+", " ", drawing))
    return re.sub(r"M ([\d.-]+ [\d.-]+) L \1(?= )", r"M \1h0", drawing)  # dots


def _rounded(text: str) -> str:
    return re.sub(r"-?\d+\.\d{2,}", lambda number: f"{float(number[0]):.1f}", text)
