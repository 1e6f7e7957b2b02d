"""What disturbances of the texts cost: a row a slice, a dot a method, with intervals."""

from __future__ import annotations

from pydantic.dataclasses import dataclass

from peftlab.report.drawing.picture import Picture
from peftlab.report.drawing.quantities import STRICT, Axis, Interval


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Changed:
    """The change of the score on a slice, such as texts with typing errors; a drop is negative."""

    slice: str
    change: Interval


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Series:
    """The changes of a method; slices that it lacks are left out."""

    label: str
    slices: list[Changed]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Data:
    """Changes a slice and method."""

    x: Axis
    series: list[Series]


def draw(data: Data, picture: Picture) -> None:
    """Draw the methods of a slice under each other, and where nothing changes."""
    rows = {series.label: {changed.slice: changed.change for changed in series.slices} for series in data.series}
    picture.zero(picture.grouped(data.x, rows))
