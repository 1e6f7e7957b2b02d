"""The score of each class or type of entity: a row a class, a dot a method, with intervals."""

from __future__ import annotations

from pydantic.dataclasses import dataclass

from peftlab.report.drawing.picture import Picture
from peftlab.report.drawing.quantities import STRICT, Axis, Interval


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Scored:
    """The score of a class."""

    type: str
    score: Interval


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Series:
    """The scores of a method; classes that it lacks are left out."""

    label: str
    types: list[Scored]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Data:
    """Scores a class and method."""

    x: Axis
    series: list[Series]


def draw(data: Data, picture: Picture) -> None:
    """Draw the methods of a class under each other."""
    rows = {
        series.label: {scored.type: scored.score for scored in series.types} for series in data.series
    }  # fmt: skip
    picture.grouped(data.x, rows)
