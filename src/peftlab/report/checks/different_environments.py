"""Runs in one table on other machines, with other packages or in another precision."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from peftlab.report.analysis.groups import Comparison
from peftlab.report.document import Finding
from peftlab.report.likeness import by_value, compared_runs, divides, fewest, is_compared, listed, places
from peftlab.report.study import Run

_DECIDES = {
    "precision": ("arithmetic precision", "rounding alone moves scores", "trainer.precision"),
    "packages_sha256": ("installed packages", "another version of a library may train otherwise", "packages.txt"),
    "effective_batch_size": ("effective batch sizes", "the batch size is part of the recipe", "data.batch_size"),
}
"""What may change a score: how a text calls it, why, and where it is set."""

_COSTS = {
    "accelerators": "accelerators",
    "cpu": "processors",
    "threads": "numbers of threads",
    "world_size": "numbers of processes",
}
"""What changes times and memory, and the last digits of a score."""


def check(comparison: Comparison) -> Iterator[Finding]:
    """Name the entries of the environment in which compared runs differ."""
    runs = compared_runs(comparison)
    for key, (what, why, where) in _DECIDES.items():
        grouped = by_value(runs, partial(_entry, key))
        if len(grouped) < 2 or is_compared(comparison, where):
            continue
        apart = divides(comparison, partial(_entry, key))
        yield Finding(
            "different_environments",
            "warning" if apart else "note",
            f"Runs in one table have different {what} ({listed(str(value)[:12] for value in grouped)}), and "
            f"{'so have the groups: ' if apart else 'every group has the same mixture: '}{why}. Run all with one "
            f"({where}).",
            places(fewest(grouped)),
        )
    for key, what in _COSTS.items():
        grouped = by_value(runs, partial(_entry, key))
        if len(grouped) < 2 or is_compared(comparison, "trainer"):
            continue
        apart = divides(comparison, partial(_entry, key))
        yield Finding(
            "different_environments",
            "warning" if apart else "note",
            f"Runs in one table had different {what} ({listed(grouped)}): their times"
            f"{', memory and money' if key == 'accelerators' else ''} cannot be compared"
            f"{' between groups' if apart else ' run by run'}, and last digits of scores may differ. Measure costs on "
            "one machine.",
            places(fewest(grouped)),
        )


def _entry(key: str, run: Run) -> Any:
    value = run.record.data["environment"].get(key)
    return (", ".join(value) or "none") if isinstance(value, list) else value
