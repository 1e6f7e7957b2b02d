"""What becomes of texts as a threshold rises: the shares that are answered, asked back and escalated."""

from __future__ import annotations

from pydantic.dataclasses import dataclass

from peftlab.report.drawing.palette import MUTED, style
from peftlab.report.drawing.picture import Picture
from peftlab.report.drawing.quantities import STRICT, Axis
from peftlab.report.drawing.scales import measure


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Point:
    """The shares at a threshold, which sum to 1; and of the answers, the share that is wrong, None without answers."""

    threshold: float
    answered: float
    asked: float
    escalated: float
    wrong_answers: float | None = None


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Data:
    """Shares over the threshold, and the threshold that the run has chosen."""

    x: Axis
    points: list[Point]
    chosen: float | None = None


def draw(data: Data, picture: Picture) -> None:
    """Draw the shares on top of each other, and the chosen threshold as a line."""
    axes = picture.axes()
    share = Axis(label="Texts", unit="percent", log=False)
    x = [point.threshold for point in data.points]
    answered = [point.answered for point in data.points]
    either = [point.answered + point.asked for point in data.points]
    for index, (low, high) in enumerate([([0.0] * len(x), answered), (answered, either), (either, [1.0] * len(x))]):
        axes.fill_between(x, low, high, color=style(index).colour, alpha=0.35, linewidth=0, step="post")
    texts = [
        f"from {data.x.written(point.threshold)}: answered {share.written(point.answered)}, asked "
        f"{share.written(point.asked)}, escalated {share.written(point.escalated)}"
        + ("" if point.wrong_answers is None else f"; of the answers, {share.written(point.wrong_answers)} are wrong")
        for point in data.points
    ]
    picture.dots(axes, x, answered, style(0), texts)
    if data.chosen is not None:
        axes.axvline(data.chosen, color=MUTED.paper, linewidth=1, linestyle=(0, (4, 2)))
    axes.set_ylim(0, 1)
    measure(axes, "x", data.x)
    measure(axes, "y", share)
    picture.legend(["answered", "asked", "escalated"])
