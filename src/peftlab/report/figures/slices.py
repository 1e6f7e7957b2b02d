"""The score against one hyperparameter: a dot a trial."""

from __future__ import annotations

from pydantic.dataclasses import dataclass

from peftlab.report.drawing.palette import MUTED, style
from peftlab.report.drawing.picture import Picture, legend_lines, shortened
from peftlab.report.drawing.quantities import STRICT, Axis
from peftlab.report.drawing.scales import measure

MOST_LABELS = 16
"""Series that a reader can tell apart; more look alike, and only their marks name them."""
MOST_LINES = 5
"""Lines of a legend; a longer one, as of long names, would be larger than the plot."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Point:
    """A trial: the value of the hyperparameter, the score, and the series that it belongs to."""

    x: float | str
    y: float
    label: str = ""
    note: str = ""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Data:
    """Trials; values that are texts become categories, in order of first appearance."""

    x: Axis
    y: Axis
    points: list[Point]


def draw(data: Data, picture: Picture) -> None:
    """Draw the trials of each series in its style."""
    axes = picture.axes(3.1)
    categories = list(dict.fromkeys(str(point.x) for point in data.points))
    is_number = all(not isinstance(point.x, str) for point in data.points)
    labels = list(dict.fromkeys(point.label for point in data.points))
    is_named = len(labels) <= MOST_LABELS and legend_lines(labels) <= MOST_LINES
    for index, label in enumerate(labels):
        points = [point for point in data.points if point.label == label]
        x = [float(point.x) if is_number else categories.index(str(point.x)) for point in points]
        texts = [
            ", ".join(part for part in (label, point.note, f"{data.x.label} {_shown(data.x, point.x)}") if part)
            + f": {data.y.written(point.y)}"
            for point in points
        ]
        picture.dots(
            axes,
            x,
            [point.y for point in points],
            style(index if is_named else 0),
            texts,
            alpha=0.85 if is_named else 0.5,
        )
    measure(axes, "y", data.y, [point.y for point in data.points])
    if is_number:
        measure(axes, "x", data.x, [float(point.x) for point in data.points])
    else:
        axes.set_xticks(range(len(categories)), [shortened(category) for category in categories])
        axes.set_xlim(-0.5, len(categories) - 0.5)
        axes.set_xlabel(data.x.label)
    if is_named:
        picture.legend(labels)
    else:
        text = f"{len(labels)} series, not told apart"
        axes.set_title(text, fontsize=8, fontweight="normal", color=MUTED.paper)


def _shown(axis: Axis, value: float | str) -> str:
    """Return the value of a hyperparameter as the reader sees it."""
    return value if isinstance(value, str) else axis.written(value)
