"""How shares move over time: a line a series with its band, the baseline in grey, and red marks where alerts open."""

from __future__ import annotations

from datetime import datetime

from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from pydantic.dataclasses import dataclass

from peftlab.report.drawing.palette import BAD, MUTED, ZONE, style
from peftlab.report.drawing.picture import Picture
from peftlab.report.drawing.quantities import STRICT, Axis, Interval, check_lengths
from peftlab.report.drawing.scales import measure

MOST_MARKS = 40
"""Windows of a line that show their value, besides those with an alert."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Series:
    """A line: a share in each window, with its band; None where there were too few texts."""

    label: str
    share: list[float | None]
    low: list[float | None]
    high: list[float | None]
    alerts: list[int]
    """The places of the windows in which an alert has opened."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Data:
    """Shares in windows."""

    windows: list[datetime]
    """When each begins."""
    baseline: tuple[int, int]
    """The places of the first and the last window of what is normal."""
    y: Axis
    series: list[Series]
    band: str = ""

    def __post_init__(self) -> None:
        for one in self.series:
            check_lengths(windows=self.windows, share=one.share, low=one.low, high=one.high)


def draw(data: Data, picture: Picture) -> None:
    """Draw a line and a band a series, with a larger mark where an alert has opened."""
    axes = picture.axes()
    times = [window.replace(tzinfo=None) for window in data.windows]
    first, last = data.baseline
    if times:
        axes.axvspan(times[first], times[last], color=ZONE.paper, linewidth=0, zorder=0)  # type: ignore[arg-type]
    every = -(-len(times) // MOST_MARKS) or 1
    for index, one in enumerate(data.series):
        of = style(index)
        known = [n for n, share in enumerate(one.share) if share is not None]
        low, high = ([float("nan") if value is None else value for value in ends] for ends in (one.low, one.high))
        share = [float("nan") if value is None else value for value in one.share]
        axes.plot(times, share, color=of.colour, linestyle=of.dashes)  # type: ignore[arg-type]
        axes.fill_between(times, low, high, color=of.colour, alpha=0.16, linewidth=0)  # type: ignore[arg-type]
        for places, look in (
            ([n for n in known if n % every == 0 and n not in one.alerts], {"markersize": 3}),
            ([n for n in known if n in one.alerts], {"markersize": 9, "color": BAD.paper}),
        ):
            texts = [_text(data, one, n) for n in places]
            picture.dots(axes, [times[n] for n in places], [share[n] for n in places], of, texts, **look)  # type: ignore[misc]
    measure(axes, "y", data.y, [value for one in data.series for value in one.share])
    locator = AutoDateLocator(maxticks=7)  # type: ignore[no-untyped-call]
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))  # type: ignore[no-untyped-call]
    if data.band:
        axes.set_title(f"Band: {data.band}", fontsize=8, fontweight="normal", color=MUTED.paper)
    picture.legend([one.label for one in data.series], lines=True)


def _text(data: Data, one: Series, place: int) -> str:
    share = one.share[place]
    assert share is not None
    value = Interval(value=share, low=one.low[place], high=one.high[place]).written(data.y)
    return f"{one.label}, {data.windows[place]:%Y-%m-%d %H:%M}: {value}{', alert' if place in one.alerts else ''}"
