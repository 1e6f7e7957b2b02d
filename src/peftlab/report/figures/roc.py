"""Whom an attack recognises at how many false alarms: a line an attack, on logarithmic scales."""

from __future__ import annotations

from pydantic.dataclasses import dataclass

from peftlab.report.drawing.palette import MUTED, style
from peftlab.report.drawing.picture import Picture
from peftlab.report.drawing.quantities import STRICT, Axis, check_lengths
from peftlab.report.drawing.scales import measure

LEAST = 1e-4
"""Shares below it are drawn at the edge: 0 has no place on a logarithmic scale."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Series:
    """A curve: the share of hits `y` at each share of false alarms `x`."""

    label: str
    x: list[float]
    y: list[float]

    def __post_init__(self) -> None:
        check_lengths(x=self.x, y=self.y)


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Data:
    """ROC curves (Carlini et al. 2022, section IV, for the scales)."""

    series: list[Series]


def draw(data: Data, picture: Picture) -> None:
    """Draw the curves, and that of an attack that guesses; a dot where each crosses .1, 1 and 10 % of false alarms."""
    axes = picture.axes(height=3.9)
    alarms = Axis(label="False alarms", unit="percent", log=True)
    hits = Axis(label="Recognised", unit="percent", log=True)
    axes.plot([LEAST, 1], [LEAST, 1], color=MUTED.paper, linewidth=1, linestyle=(0, (4, 2)))
    for index, series in enumerate(data.series):
        of = style(index)
        x, y = ([max(value, LEAST) for value in values] for values in (series.x, series.y))
        axes.plot(x, y, color=of.colour, linestyle=of.dashes, drawstyle="steps-post", linewidth=1.2)
        marks = [
            (allowed, max((hit for alarm, hit in zip(series.x, y, strict=True) if alarm <= allowed), default=LEAST))
            for allowed in (0.001, 0.01, 0.1)
        ]
        texts = [f"{series.label}: {hits.written(y)} at {alarms.written(x)} of false alarms" for x, y in marks]
        picture.dots(axes, [x for x, _ in marks], [y for _, y in marks], of, texts, markersize=4)
    shown = [LEAST, 1.0]
    measure(axes, "x", alarms, shown)
    measure(axes, "y", hits, shown)
    axes.set_xlim(LEAST, 1)
    axes.set_ylim(LEAST, 1)
    picture.legend([series.label for series in data.series], lines=True)
