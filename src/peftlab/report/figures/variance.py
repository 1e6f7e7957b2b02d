"""Where the uncertainty of a mean score comes from: a bar a method, split by source."""

from __future__ import annotations

from typing import Any

from matplotlib.patches import Patch
from pydantic.dataclasses import dataclass

from peftlab.report.drawing.palette import PAPER, SERIES
from peftlab.report.drawing.picture import Picture
from peftlab.report.drawing.quantities import STRICT, Axis
from peftlab.report.drawing.scales import measure

NAMED = 0.06
"""Shares from here on have their number written into the bar."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Row:
    """The variances of a method, on any scale; None where it is unknown."""

    label: str
    seed: float
    cluster: float | None = None
    rest: float | None = None


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Data:
    """Variances by source."""

    unit: str = "documents"
    """What the test set is sampled by."""
    rows: list[Row]


def draw(data: Data, picture: Picture) -> None:
    """Draw the sources' shares next to each other."""
    axes = picture.rows([row.label for row in data.rows], around=1.1)
    axis = Axis(label="Share of the variance", unit="percent", log=False)
    sources = {"seed": "seed", "cluster": data.unit, "rest": "rest"}
    colours = dict(zip(sources, (SERIES[0], SERIES[1], SERIES[7]), strict=True))
    for place, row in enumerate(data.rows):
        variances = {source: getattr(row, source) or 0.0 for source in sources}
        total, left = sum(variances.values()), 0.0
        for source, variance in variances.items():
            share = variance / total if total else 0.0
            if share <= 0:
                continue
            look: dict[str, Any] = {"color": colours[source].paper, "edgecolor": PAPER.paper, "linewidth": 0.8}
            (bar,) = axes.barh(place, share, left=left, height=0.6, **look)
            picture.mark(bar, f"{row.label}, {sources[source]}: {axis.written(share)} of the variance")
            if share >= NAMED:
                middle = left + share / 2
                axes.text(middle, place, f"{100 * share:.0f}", color=PAPER.paper, ha="center", va="center", fontsize=8)
            left += share
    axes.set_xlim(0, 1)
    measure(axes, "x", axis)
    shown = [source for source in sources if any(getattr(row, source) for row in data.rows)]
    handles = [Patch(color=colours[source].paper, label=sources[source]) for source in shown]
    picture.figure.legend(handles=handles, loc="outside upper left", ncols=3, borderaxespad=0.2)
