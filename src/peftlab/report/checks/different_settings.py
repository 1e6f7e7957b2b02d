"""Settings other than the compared ones in which the groups differ: any of them may make the difference."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from peftlab.report.analysis.groups import Comparison, Group
from peftlab.report.document import Finding
from peftlab.report.likeness import compared, listed, places
from peftlab.runs.identity import deciding_part, leaves

_RECIPE = (
    *("data", "model", "adapter", "task", "peft._target_", "peft.name", "budget", "trainer", "augment", "regularizer"),
    *("semi", "privacy", "federated", "out_of_scope"),
)
"""Sections and keys that are the same for all groups unless they are what is compared."""
_TUNED = ("optimizer", "scheduler", "peft")
"""Sections that belong to a method's own recipe where it was tuned."""
_ELSEWHERE = ("budget.test", "trainer.precision", "budget.eval_examples")
"""Keys that other checks report."""


def check(comparison: Comparison) -> Iterator[Finding]:
    """Name the keys that have one value in some groups and another in others."""
    tested = [group for group in comparison.groups if group.runs]
    values = [_values(group) for group in tested]
    keys = dict.fromkeys(key for of_group in values for key in of_group)
    differing = [key for key in keys if len({frozenset(of_group.get(key, ())) for of_group in values if of_group}) > 1]
    made_by = {key for group in tested for key in group.values}  # of computed models the method, too
    differing = [key for key in differing if not _is_within(key, made_by)]
    recipe = [key for key in differing if _is_within(key, _RECIPE)]
    tuned = [key for key in differing if _is_within(key, _TUNED) and key not in recipe]
    runs = places(run for group in tested for run in compared(group))
    if recipe:
        yield Finding(
            "different_settings",
            "warning",
            f"The groups differ in more than is compared: {listed(recipe)}. A difference between them may come from "
            "that. Give all groups the same values, or make them part of the comparison (--by).",
            runs,
        )
    if tuned:
        yield Finding(
            "different_settings",
            "note",
            f"Each group has its own {listed(tuned)}: what is compared are recipes, and not the methods at one "
            "setting.",
            runs,
        )


def _is_within(key: str, sections: Iterable[str]) -> bool:
    return any(f"{key}.".startswith(f"{section}.") for section in sections)


def _values(group: Group) -> dict[str, set[Any]]:
    """Return the values of each deciding key in the compared runs of a group; none without configurations."""
    values: dict[str, set[Any]] = {}
    for run in compared(group):
        for key, value in leaves(deciding_part(run.config)):
            if key not in _ELSEWHERE:
                values.setdefault(key, set()).add(str(value))
    return values
