"""What a model achieves in groups of examples: a row a metric, a dot a group, with intervals."""

from __future__ import annotations

from pydantic.dataclasses import dataclass

from peftlab.report.drawing.picture import Picture
from peftlab.report.drawing.quantities import STRICT, Axis, Interval


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Measured:
    """A metric of a group."""

    metric: str
    value: Interval


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Group:
    """The metrics of a group of examples; those for which it is too small are left out."""

    label: str
    metrics: list[Measured]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Data:
    """Values a metric and group."""

    x: Axis
    groups: list[Group]


def draw(data: Data, picture: Picture) -> None:
    """Draw the groups of a metric under each other."""
    picture.grouped(data.x, {group.label: {one.metric: one.value for one in group.metrics} for group in data.groups})
