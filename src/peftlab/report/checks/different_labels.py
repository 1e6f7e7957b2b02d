"""Runs in one table that tell different labels apart."""

from __future__ import annotations

from collections.abc import Iterator

from peftlab.report.analysis.groups import Comparison
from peftlab.report.document import Finding
from peftlab.report.likeness import by_value, compared_runs, fewest, listed, places


def check(comparison: Comparison) -> Iterator[Finding]:
    """Name the labels that only some runs have."""
    runs = compared_runs(comparison)
    grouped = by_value(runs, lambda run: tuple(sorted(run.record.data["data"]["labels"])) or None)
    if len(grouped) > 1:
        sets = [set(labels) for labels in grouped]
        only = sorted(set.union(*sets) - set.intersection(*sets))
        yield Finding(
            "different_labels",
            "error",
            f"Runs in one table have different label sets ({listed(only)} not in all): the tasks differ in difficulty, "
            "and macro scores are means over different classes. Train all runs with the same data.labels.",
            places(fewest(grouped)),
        )
