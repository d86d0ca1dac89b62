"""From a matplotlib figure to an SVG that belongs into our page: its colours, its fonts, the same bytes every time.

Plots are drawn in stand-in colours; in the SVG each becomes a CSS variable with a fallback, so that a plot follows the
page into dark mode and still has its colours when it stands alone.
"""

import io
import re
from collections.abc import Callable
from html import escape
from typing import Any, cast

import matplotlib as mpl
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from modelyard.reports.markup import Markup

INK, MUTED, LINE, PAPER = "#010203", "#020304", "#030405", "#040506"
ACCENT, SECOND, GOOD, BAD, WARN = "#050607", "#060708", "#070809", "#08090a", "#090a0b"
COLOURS = {
    INK: ("ink", "#1d1c1a"), MUTED: ("muted", "#6f6b64"), LINE: ("line", "#dedad2"), PAPER: ("paper", "#ffffff"),
    ACCENT: ("accent", "#2f5d8a"), SECOND: ("second", "#b0793a"), GOOD: ("good", "#3c7a57"), BAD: ("bad", "#b0413e"),
    WARN: ("warn", "#a9781f"),
}  # fmt: skip
"""Stand-in → CSS variable and its value in the light theme."""

SETTINGS = {
    "svg.fonttype": "none", "svg.hashsalt": "modelyard", "text.parse_math": False, "font.family": "DejaVu Sans",
    "font.size": 12, "axes.titlesize": 12.5, "axes.titlelocation": "left", "axes.titlecolor": INK, "text.color": INK,
    "axes.labelcolor": MUTED, "axes.labelsize": 12, "axes.edgecolor": LINE, "axes.facecolor": "none",
    "figure.facecolor": "none", "axes.spines.top": False, "axes.spines.right": False, "axes.linewidth": 1,
    "axes.grid": False, "grid.color": LINE, "grid.linewidth": 0.8, "axes.axisbelow": True, "xtick.color": LINE,
    "ytick.color": LINE, "xtick.labelcolor": MUTED, "ytick.labelcolor": MUTED, "xtick.labelsize": 12,
    "ytick.labelsize": 12, "lines.linewidth": 1.8, "lines.solid_capstyle": "round", "axes.unicode_minus": True,
}  # fmt: skip
WIDTH = 804
"""Of a plot that fills the column, in pixels."""
FONT = "font-family: var(--sans, system-ui, 'Segoe UI', sans-serif)"


def svg(width: int, height: int, draw: Callable[[Figure], None], *, label: str) -> Markup:
    """Draw a figure and give it as an SVG element.

    Args:
        width: in pixels at its full size; it shrinks with its place.
        height: in pixels.
        draw: fills the figure, in the stand-in colours.
        label: what the plot shows, for those who hear the page.
    """
    with mpl.rc_context(cast("Any", SETTINGS)):
        figure = Figure(figsize=(width / 72, height / 72), dpi=72)
        FigureCanvasSVG(figure)
        draw(figure)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return Markup(_own(buffer.getvalue(), width, height, label))


def _own(text: str, width: int, height: int, label: str) -> str:
    body = text[text.index("<svg") :]
    body = body[body.index(">") + 1 :]
    body = re.sub(r"<metadata>.*?</metadata>\s*", "", body, flags=re.DOTALL)
    for stand_in, (name, value) in COLOURS.items():
        body = body.replace(stand_in, f"var(--{name}, {value})")
    body = body.replace("font-family: 'DejaVu Sans'", FONT)
    body = _renamed(body)
    body = re.sub(r"\n\s*", "\n", body)
    wide = ' class="wide"' if width == WIDTH else ""
    head = (
        f'<svg{wide} viewBox="0 0 {width} {height}" role="img" aria-label="{escape(label)}" style="max-width:{width}px"'
    )
    return f'{head} xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink">{body.rstrip()}\n'


def _renamed(body: str) -> str:
    """Drop the ids that nobody refers to: several plots share a page, and `axes_1` would stand there often."""
    used = set(re.findall(r'(?:href="#|url\(#)([^")]+)', body))
    return re.sub(r' id="([^"]+)"', lambda found: found[0] if found[1] in used else "", body)
