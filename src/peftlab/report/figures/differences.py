"""How far methods are from the baseline: a forest plot, with the zone of differences that do not matter."""

from __future__ import annotations

from typing import Literal

from pydantic.dataclasses import dataclass

from peftlab.report.drawing.palette import BAD, GOOD, MUTED, ZONE, Style
from peftlab.report.drawing.picture import Picture
from peftlab.report.drawing.quantities import STRICT, Axis, Interval
from peftlab.report.drawing.scales import fit, measure

STYLES = {
    "better": Style(GOOD.paper, "D", "-"),
    "worse": Style(BAD.paper, "s", "-"),
}
"""Of verdicts that claim a difference; the others are drawn muted."""
OTHER = Style(MUTED.paper, "o", "-")


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Row:
    """A method: its score less the baseline's, and what the statistics say."""

    label: str
    difference: Interval
    verdict: str = ""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Data:
    """Differences to a baseline."""

    x: Axis
    baseline: str
    better: Literal["max", "min"] = "max"
    margin: float | None = None
    """Differences up to it count as a tie."""
    rows: list[Row]


def draw(data: Data, picture: Picture) -> None:
    """Draw a row a method, with its verdict at the right."""
    axes = picture.rows([row.label for row in data.rows])
    if data.margin:
        zone = axes.axvspan(-data.margin, data.margin, color=ZONE.paper, linewidth=0, zorder=0)
        picture.mark(zone, f"A tie: within {data.x.written(data.margin)} of {data.baseline}")
    picture.zero(axes)
    for place, row in enumerate(data.rows):
        verdict = f": {row.verdict}" if row.verdict else ""
        text = f"{row.label} less {data.baseline}: {row.difference.written(data.x)}{verdict}"
        picture.interval(axes, place, row.difference, STYLES.get(row.verdict, OTHER), text)
        axes.annotate(
            row.verdict, (1, place), xycoords=("axes fraction", "data"), xytext=(6, 0), textcoords="offset points",
            va="center", color=STYLES.get(row.verdict, OTHER).colour, fontsize=8,
        )  # fmt: skip
    measure(axes, "x", data.x)
    fit(axes, "x", [Interval(value=0.0), *(row.difference for row in data.rows)])
    direction = "better to the right" if data.better == "max" else "better to the left"
    axes.set_xlabel(f"{data.x.title}, less {data.baseline}: {direction}")
