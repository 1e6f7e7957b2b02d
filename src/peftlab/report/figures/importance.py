"""Which hyperparameter moves the score: a bar for each, as long as its share of the variance."""

from __future__ import annotations

from pydantic.dataclasses import dataclass

from peftlab.report.drawing.palette import INK, style
from peftlab.report.drawing.picture import Picture
from peftlab.report.drawing.quantities import STRICT, Axis
from peftlab.report.drawing.scales import measure


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Share:
    """A hyperparameter, and the share of the variance of the scores that it explains alone."""

    label: str
    share: float
    sd: float | None = None
    """How far the estimate varies, as over the trees of a forest."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Data:
    """Shares, from 0 to 1."""

    shares: list[Share]


def draw(data: Data, picture: Picture) -> None:
    """Draw a bar a hyperparameter, with its standard deviation as a line."""
    axes = picture.rows([share.label for share in data.shares], each=0.27)
    axis = Axis(label="Share of the variance explained", unit="percent", log=False)
    for row, share in enumerate(data.shares):
        (bar,) = axes.barh(row, share.share, height=0.6, color=style(0).colour)
        spread = "" if share.sd is None else f" ± {axis.written(share.sd)}"
        picture.mark(bar, f"{share.label}: {axis.written(share.share)}{spread}")
        if share.sd is not None:
            ends = max(0.0, share.share - share.sd), min(1.0, share.share + share.sd)
            axes.hlines(row, *ends, color=INK.paper, linewidth=1)
    axes.set_xlim(left=0)
    measure(axes, "x", axis, [share.share for share in data.shares])
