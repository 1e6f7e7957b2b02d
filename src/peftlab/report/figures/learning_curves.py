"""How a score or a loss moves during training: a line a method, with a band over its seeds."""

from __future__ import annotations

from pydantic.dataclasses import dataclass

from peftlab.report.drawing.palette import MUTED, style
from peftlab.report.drawing.picture import Picture
from peftlab.report.drawing.quantities import STRICT, Axis, Interval, check_lengths
from peftlab.report.drawing.scales import measure

MOST_MARKS = 40
"""Points of a line that show their value; more would lie on each other."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Series:
    """A line: `mean` at each `x`, with its band; None where nothing was measured."""

    label: str
    x: list[float]
    mean: list[float | None]
    low: list[float | None] | None = None
    high: list[float | None] | None = None

    def __post_init__(self) -> None:
        check_lengths(x=self.x, mean=self.mean, low=self.low, high=self.high)


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Data:
    """Lines over what was spent, such as steps or epochs."""

    x: Axis
    y: Axis
    series: list[Series]
    band: str = ""
    """What the band covers, such as "95 % interval over seeds"."""


def draw(data: Data, picture: Picture) -> None:
    """Draw a line and a band a series; a dot at the points that show their value."""
    axes = picture.axes()
    for index, series in enumerate(data.series):
        of = style(index)
        points = [
            (x, Interval(value=mean, low=low, high=high))
            for x, mean, low, high in zip(
                series.x,
                series.mean,
                series.low or [None] * len(series.x),
                series.high or [None] * len(series.x),
                strict=True,
            )
            if mean is not None
        ]
        if not points:
            continue
        x = [point for point, _ in points]
        axes.plot(x, [value.value for _, value in points], color=of.colour, linestyle=of.dashes)
        if series.low and series.high:
            low, high = zip(*(value.ends for _, value in points), strict=True)
            axes.fill_between(x, low, high, color=of.colour, alpha=0.16, linewidth=0)
        shown = points[:: -(-len(points) // MOST_MARKS)]
        picture.dots(
            axes,
            [point for point, _ in shown],
            [value.value for _, value in shown],
            of,
            [f"{series.label}: {data.x.label} {data.x.written(x)}, {value.written(data.y)}" for x, value in shown],
            markersize=4 if len(shown) < 20 else 3,
        )
    measure(axes, "x", data.x.linear(), [x for series in data.series for x in series.x])
    measure(axes, "y", data.y, [value for series in data.series for value in series.mean])
    if data.band:
        axes.set_title(f"Band: {data.band}", fontsize=8, fontweight="normal", color=MUTED.paper)
    picture.legend([series.label for series in data.series], lines=True)
