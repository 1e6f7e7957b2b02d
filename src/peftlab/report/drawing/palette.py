"""The colours of pictures and of the page, on white paper and on a dark screen.

A picture is drawn in the colours of paper. On the page each of them becomes a CSS variable, so that the reader's choice
of light or dark holds for pictures too: no two colours of paper may be the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Colour:
    """One role, and its colour on paper and on a dark screen."""

    name: str
    """The name of its CSS variable, less the dashes."""
    paper: str
    dark: str


INK = Colour("ink", "#1b1f24", "#e6e8eb")
MUTED = Colour("muted", "#5b6470", "#a4acb8")
RULE = Colour("rule", "#d5dae0", "#3b424d")
PAPER = Colour("paper", "#ffffff", "#14171b")
ZONE = Colour("zone", "#e8edf3", "#252b34")
GOOD = Colour("good", "#1d7044", "#5fcf94")
WARN = Colour("warn", "#8a5a00", "#e5b454")
BAD = Colour("bad", "#b3261e", "#ff8a80")

SERIES = (
    Colour("series-1", "#1250e6", "#6e96fb"),
    Colour("series-2", "#cc4c10", "#c7660d"),
    Colour("series-3", "#2aa76d", "#3eea95"),
    Colour("series-4", "#cc6de3", "#855288"),
    Colour("series-5", "#513305", "#f7ca0d"),
    Colour("series-6", "#3b2390", "#6439ff"),
    Colour("series-7", "#70084c", "#cb0034"),
    Colour("series-8", "#747583", "#c4ceee"),
)
"""Told apart by readers with any colour vision, and at 3:1 or more against the background: a search for the largest
least difference in CIELAB under the simulations of Machado et al. (2009). Markers and dashes tell the series apart
too."""

MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<")
Dashes = Literal["-"] | tuple[float, tuple[float, ...]]
"""A line style of matplotlib's: solid, or the lengths of dashes and gaps after an offset."""

DASHES: tuple[Dashes, ...] = (
    "-",
    (0, (5, 1.5)),
    (0, (1.2, 1.2)),
    (0, (5, 1.5, 1.2, 1.5)),
)
COLOURS = (INK, MUTED, RULE, PAPER, ZONE, GOOD, WARN, BAD, *SERIES)


@dataclass(frozen=True)
class Style:
    """What tells one series from the others."""

    colour: str
    marker: str
    dashes: Dashes


def style(index: int) -> Style:
    """Return the style of the series at `index`; after 56 of them, styles repeat."""
    markers = MARKERS[(index + index // len(SERIES)) % len(MARKERS)]
    return Style(SERIES[index % len(SERIES)].paper, markers, DASHES[(index // len(SERIES) + index) % len(DASHES)])
