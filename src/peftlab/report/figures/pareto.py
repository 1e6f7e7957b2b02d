"""What a score costs: a point a method, and the front of those that no other beats at the same price."""

from __future__ import annotations

from typing import Literal

from pydantic.dataclasses import dataclass

from peftlab.report.drawing.palette import MUTED, style
from peftlab.report.drawing.picture import Picture
from peftlab.report.drawing.quantities import STRICT, Axis, Interval
from peftlab.report.drawing.scales import fit, measure


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
    """Draw the points with their intervals, and the front as steps; names where they fit, and those on the front."""
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
    for index, point in enumerate(data.points):
        of = style(index)
        axes.vlines(point.x, *point.y.ends, color=of.colour, linewidth=1.2, zorder=3)
        on = "on the front" if point in corners else "not on the front"
        text = (
            f"{point.label}: {data.y.label} {point.y.written(data.y)}; {data.x.label} {data.x.written(point.x)}; {on}"
        )
        picture.dots(axes, [point.x], [point.y.value], of, [text], markersize=6)
    axes.margins(x=0.12)
    fit(axes, "y", [point.y for point in data.points])
    others = [point for point in data.points if point not in corners]
    named = [(point.x, point.y.value, point.label) for point in [*corners, *others]]
    picture.beside(axes, named, needed=len(corners))


def front(data: Data) -> list[Point]:
    """Return the points that no other beats in score at the same price or less, cheapest first."""
    sign = 1 if data.better == "max" else -1
    kept: list[Point] = []
    for point in sorted(data.points, key=lambda point: (point.x, -sign * point.y.value)):
        if not kept or sign * point.y.value > sign * kept[-1].y.value:
            kept.append(point)
    return kept
