"""What a score costs: a point a method, and the front of those that no other beats at the same price."""

from __future__ import annotations

import textwrap
from typing import Literal

from pydantic.dataclasses import dataclass

from peftlab.report.drawing.palette import MUTED, style
from peftlab.report.drawing.picture import Picture, shortened
from peftlab.report.drawing.quantities import STRICT, Axis, Interval
from peftlab.report.drawing.scales import far, fit, measure

MANY = 16
"""Points: of more, only those on the front are named, as names would hide the points."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Point:
    """A method: its price, of which less is better, and its score."""

    label: str
    x: float
    y: Interval


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Data:
    """Scores against a price, such as trainable parameters, seconds, bytes or money."""

    x: Axis
    y: Axis
    better: Literal["max", "min"] = "max"
    points: list[Point]


def draw(data: Data, picture: Picture) -> None:
    """Draw the points with their intervals, and the front as steps; names where they fit, and those on the front.

    Points that are far from the rest stand at the edge, and above the plot with their values.
    """
    axes = picture.axes(3.9)
    measure(axes, "x", data.x, [point.x for point in data.points])
    measure(axes, "y", data.y, [end for point in data.points for end in point.y.ends])
    corners = front(data)
    if len(corners) > 1:
        axes.step(
            [point.x for point in corners],
            [point.y.value for point in corners],
            where="post",
            color=MUTED.paper,
            linewidth=1,
            linestyle=(0, (4, 2)),
            zorder=2,
        )
    outliers = far([point.y for point in data.points])
    fit(axes, "y", [point.y for point in data.points if point.y not in outliers])
    bottom, top = axes.get_ylim()
    for index, point in enumerate(data.points):
        of = style(index)
        axes.vlines(point.x, *point.y.ends, color=of.colour, linewidth=1.2, zorder=3)
        on = "on the front" if point in corners else "not on the front"
        text = (
            f"{point.label}: {data.y.label} {point.y.written(data.y)}; {data.x.label} {data.x.written(point.x)}; {on}"
        )
        if point.y in outliers:
            edge, marker = (bottom, "v") if point.y.value < bottom else (top, "^")
            picture.dots(axes, [point.x], [edge], of, [text], markersize=6, marker=marker)
        else:
            picture.dots(axes, [point.x], [point.y.value], of, [text], markersize=6)
    axes.margins(x=0.12)
    axes.set_ylim(bottom, top)
    if outliers:
        beyond = [
            f"{shortened(point.label)} {data.y.written(point.y.value)}" for point in data.points if point.y in outliers
        ]
        text = "\n".join(textwrap.wrap(f"Beyond the axis, at its edge: {', '.join(beyond)}", 100))
        axes.set_title(text, fontsize=8, fontweight="normal", color=MUTED.paper, pad=8)
    others = [point for point in data.points if point not in corners and len(data.points) <= MANY]
    inside = [point for point in corners if point.y not in outliers]
    named = [(point.x, point.y.value, point.label) for point in [*inside, *others] if point.y not in outliers]
    picture.beside(axes, named, needed=len(inside))


def front(data: Data) -> list[Point]:
    """Return the points that no other beats in score at the same price or less, cheapest first."""
    sign = 1 if data.better == "max" else -1
    kept: list[Point] = []
    for point in sorted(data.points, key=lambda point: (point.x, -sign * point.y.value)):
        if not kept or sign * point.y.value > sign * kept[-1].y.value:
            kept.append(point)
    return kept
