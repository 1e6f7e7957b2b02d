"""Whether a model is right as often as it says: accuracy against confidence, and how many answers each bin has."""

from __future__ import annotations

from pydantic.dataclasses import dataclass

from peftlab.report.drawing.palette import MUTED, style
from peftlab.report.drawing.picture import WIDTH, Picture
from peftlab.report.drawing.quantities import STRICT, Axis
from peftlab.report.drawing.scales import measure


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Bin:
    """The answers whose confidence lies in a bin; an empty one has neither mean."""

    low: float
    high: float
    number: int
    confidence: float | None = None
    accuracy: float | None = None


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Series:
    """A method, with its expected calibration error."""

    label: str
    ece: float
    bins: list[Bin]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Data:
    """A reliability diagram (Guo et al. 2017)."""

    series: list[Series]
    x: str = "Confidence"
    """What stands below: the probability of the answer, or of an event."""
    y: str = "Accuracy"
    """What stands beside: how often it came true."""


def draw(data: Data, picture: Picture) -> None:
    """Draw the diagram above, the numbers of answers below."""
    picture.figure.set_size_inches(WIDTH, 4.6)
    above, below = picture.figure.subplots(2, 1, sharex=True, height_ratios=(3.2, 1))
    confidence = Axis(label=data.x, unit="percent", log=False)
    accuracy = Axis(label=data.y, unit="percent", log=False)
    answers = Axis(label="Answers", unit="count", log=False)
    above.axline((0, 0), slope=1, color=MUTED.paper, linewidth=1, linestyle=(0, (4, 2)))
    for index, series in enumerate(data.series):
        of = style(index)
        bins = [one for one in series.bins if one.confidence is not None and one.accuracy is not None]
        x = [one.confidence or 0.0 for one in bins]
        y = [one.accuracy or 0.0 for one in bins]
        above.plot(x, y, color=of.colour, linestyle=of.dashes, linewidth=1.2)
        texts = [
            f"{series.label}: {data.x.lower()} {confidence.written(one.confidence or 0.0)}, "
            f"{data.y.lower()} {accuracy.written(one.accuracy or 0.0)}, {one.number:,} answers"
            for one in bins
        ]
        picture.dots(above, x, y, of, texts)
        edges = [one.low for one in series.bins] + [one.high for one in series.bins[-1:]]
        below.stairs([one.number for one in series.bins], edges, color=of.colour, linestyle=of.dashes, linewidth=1.2)
    used = [one for series in data.series for one in series.bins if one.number]
    left = min((one.low for one in used), default=0.0)
    below.set_xlim(left - 0.02, 1.02)
    above.set_ylim(min([left, *(one.accuracy or 0.0 for one in used)]) - 0.02, 1.02)
    below.set_ylim(bottom=0)
    measure(above, "y", accuracy)
    measure(below, "x", confidence)
    measure(below, "y", answers, most=3)
    picture.legend([f"{series.label} (ECE {100 * series.ece:.2f} %)" for series in data.series], lines=True)
    if len(data.series) == 1:
        above.set_title(f"ECE {100 * data.series[0].ece:.2f} %", fontsize=8, fontweight="normal", color=MUTED.paper)
