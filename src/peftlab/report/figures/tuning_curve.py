"""How good the best of k trials is at the median: a line a method over its tuning budget, with a band."""

from __future__ import annotations

import statistics

from pydantic.dataclasses import dataclass

from peftlab.report.drawing.palette import MUTED, style
from peftlab.report.drawing.picture import Picture
from peftlab.report.drawing.quantities import STRICT, Axis, Interval, check_lengths
from peftlab.report.drawing.scales import measure

LEAST_FREE = 0.25
"""Share of the plot that bands leave free, at least, to be drawn."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Series:
    """The best score after each number of trials; a bound of None is unknown: no trial speaks against any value."""

    label: str
    budget: list[int]
    best: list[float | None]
    low: list[float | None]
    high: list[float | None]

    def __post_init__(self) -> None:
        check_lengths(budget=self.budget, best=self.best, low=self.low, high=self.high)


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Data:
    """Lines over the number of trials."""

    y: Axis
    series: list[Series]


def draw(data: Data, picture: Picture) -> None:
    """Draw a line and a band a series; where a bound is unknown, the band goes to the edge of the plot.

    Bands that leave nearly nothing free would say nothing and hide the lines: one sentence stands for them.
    """
    axes = picture.axes()
    is_wide = _free(data) < LEAST_FREE
    known = [
        value
        for series in data.series
        for values in ((series.best,) if is_wide else (series.best, series.low, series.high))
        for value in values
        if value is not None
    ]
    if known:
        around = 0.06 * (max(known) - min(known)) or 0.01
        axes.set_ylim(min(known) - around, max(known) + around)
    bottom, top = axes.get_ylim()
    trials = Axis(label="Trials", unit="count")
    for index, series in enumerate(data.series):
        of = style(index)
        low = [bottom if value is None else value for value in series.low]
        high = [top if value is None else value for value in series.high]
        if not is_wide:
            axes.fill_between(
                series.budget, low, high, color=of.colour, alpha=min(0.12, 0.3 / len(data.series)), linewidth=0
            )
        for bound in () if is_wide else (series.low, series.high):
            kept = [(x, y) for x, y in zip(series.budget, bound, strict=True) if y is not None]
            axes.plot([x for x, _ in kept], [y for _, y in kept], color=of.colour, linewidth=0.6, alpha=0.7)
        points = [
            (budget, Interval(value=best, low=lower, high=upper))
            for budget, best, lower, upper in zip(series.budget, series.best, series.low, series.high, strict=True)
            if best is not None
        ]
        x, y = [budget for budget, _ in points], [best.value for _, best in points]
        axes.plot(x, y, color=of.colour, linestyle=of.dashes)
        texts = [f"{series.label}, best of {budget}: {best.written(data.y)}" for budget, best in points]
        picture.dots(axes, x, y, of, texts, markersize=4)
    measure(axes, "x", trials)
    measure(axes, "y", data.y)
    if is_wide:
        text = "Not drawn: bands that span nearly the whole axis, as so few trials say little"
        axes.set_title(text, fontsize=8, fontweight="normal", color=MUTED.paper)
    picture.legend([series.label for series in data.series], lines=True)


def _free(data: Data) -> float:
    """Return the mean share of the height of all values that the bands leave free."""
    values = [
        value
        for series in data.series
        for of_series in (series.best, series.low, series.high)
        for value in of_series
        if value is not None
    ]
    if not values or min(values) == max(values):
        return 1.0
    bottom, top = min(values), max(values)
    widths = [
        ((top if high is None else high) - (bottom if low is None else low)) / (top - bottom)
        for series in data.series
        for low, high in zip(series.low, series.high, strict=True)
    ]
    return 1 - statistics.fmean(widths)
