"""How far the seed moves a score: a dot a seed, the mean and its interval a method."""

from __future__ import annotations

from pydantic.dataclasses import dataclass

from peftlab.report.drawing.palette import style
from peftlab.report.drawing.picture import Picture
from peftlab.report.drawing.quantities import STRICT, Axis, Interval
from peftlab.report.drawing.scales import fit, measure


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Seed:
    """The score of one run."""

    seed: int | None
    value: float


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Group:
    """The runs of a method."""

    label: str
    seeds: list[Seed]
    mean: Interval | None = None


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Data:
    """Scores of runs that differ in their seed only."""

    x: Axis
    groups: list[Group]


def draw(data: Data, picture: Picture) -> None:
    """Draw a row a method: its seeds above, the mean with its interval below."""
    axes = picture.rows([group.label for group in data.groups], each=0.36)
    for row, group in enumerate(data.groups):
        of = style(row)
        texts = [f"{group.label}, seed {run.seed}: {data.x.written(run.value)}" for run in group.seeds]
        values = [run.value for run in group.seeds]
        picture.dots(axes, values, [row - 0.16] * len(values), of, texts, marker="o", alpha=0.6, markersize=4)
        if group.mean is not None:
            picture.interval(axes, row + 0.18, group.mean, of, f"{group.label}, mean: {group.mean.written(data.x)}")
    measure(axes, "x", data.x, [run.value for group in data.groups for run in group.seeds])
    means = [group.mean for group in data.groups if group.mean is not None]
    fit(axes, "x", means + [Interval(value=run.value) for group in data.groups for run in group.seeds])
