"""Are the runs of a comparison alike in what is not compared? Values by run and by group, and how a text names them."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any

from peftlab.report import numbers
from peftlab.report.analysis.groups import Comparison, Group
from peftlab.report.study import Run

SHOWN = 4
"""How many values or names a text lists."""


def compared(group: Group) -> tuple[Run, ...]:
    """Return the runs of a group that its scores come from: one a seed."""
    return group.final or group.runs


def compared_runs(comparison: Comparison) -> list[Run]:
    """Return the runs that the scores of a comparison come from."""
    return [run for group in comparison.groups for run in compared(group)]


def by_value(runs: Iterable[Run], value_of: Callable[[Run], Hashable]) -> dict[Any, list[Run]]:
    """Return the runs by a value that they should share, the most frequent first; runs without one are left out."""
    grouped: dict[Any, list[Run]] = {}
    for run in runs:
        if (value := value_of(run)) is not None:
            grouped.setdefault(value, []).append(run)
    return dict(sorted(grouped.items(), key=lambda item: -len(item[1])))


def divides(comparison: Comparison, value_of: Callable[[Run], Hashable]) -> bool:
    """Return whether groups differ in the values that their runs have: a difference in score may come from that."""
    values = {frozenset(by_value(compared(group), value_of)) for group in comparison.groups if group.runs}
    return len(values - {frozenset()}) > 1


def combines(group: Group) -> bool:
    """Return whether each model of a group was computed from several runs: the seed is that of none of them."""
    return bool(group.runs) and all(len(run.parents) > 1 for run in group.runs)


def is_compared(comparison: Comparison, *keys: str) -> bool:
    """Return whether one of `keys`, or a key below it, makes the groups."""
    return any(one == key or one.startswith(f"{key}.") for one in comparison.keys for key in keys)


def listed(values: Iterable[Any]) -> str:
    """Return the first few of `values` as text."""
    return numbers.listed([str(value) for value in values], SHOWN)


def places(runs: Iterable[Run]) -> tuple[str, ...]:
    """Return where the reader finds `runs`."""
    return tuple(run.place for run in runs)


def seed_of(run: Run, runs: Iterable[Run]) -> str:
    """Return ``seed 1``, by which a figure tells `runs` apart; with the id of the run, where several have that seed."""
    several = sum(other.seed == run.seed for other in runs) > 1
    return f"seed {run.seed}, {run.id}" if several else f"seed {run.seed}"


def fewest(grouped: dict[Any, list[Run]]) -> tuple[Run, ...]:
    """Return the runs of all values but the most frequent."""
    _, *others = grouped.values()
    return tuple(run for runs in others for run in runs)


def names(groups: Sequence[Group]) -> str:
    """Return the names of `groups` as text."""
    return listed(group.name for group in groups)
