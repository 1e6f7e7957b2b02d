"""How far explanations are better than chance: a row an explainer, a dot a run, with intervals."""

from __future__ import annotations

from pydantic.dataclasses import dataclass

from peftlab.report.drawing.picture import Picture
from peftlab.report.drawing.quantities import STRICT, Axis, Interval


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Explained:
    """By how much the faithfulness of an explainer exceeds that of random orders."""

    explainer: str
    above: Interval


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Series:
    """The explainers of a run; those that it lacks are left out."""

    label: str
    explainers: list[Explained]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Data:
    """Explainers a run."""

    x: Axis
    series: list[Series]


def draw(data: Data, picture: Picture) -> None:
    """Draw the runs of an explainer under each other, and where it is no better than chance."""
    rows = {series.label: {one.explainer: one.above for one in series.explainers} for series in data.series}
    picture.zero(picture.grouped(data.x, rows))
