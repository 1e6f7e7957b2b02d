"""Runs in one table that tell different labels apart."""

from __future__ import annotations

from collections.abc import Iterator

from peftlab.report.analysis.groups import Comparison
from peftlab.report.document import Finding
from peftlab.report.likeness import by_value, compared_runs, fewest, listed, places
from peftlab.report.study import Run

HELD_OUT = "out_of_scope.held_out"


def check(comparison: Comparison) -> Iterator[Finding]:
    """Name the labels that only some runs have; where each seed draws those that are held out, say so once."""
    runs = compared_runs(comparison)
    grouped = by_value(runs, _labels)
    if len(grouped) < 2:
        return
    sets = [set(labels) for labels in grouped]
    only = sorted(set.union(*sets) - set.intersection(*sets))
    of_seeds = [by_value([run for run in runs if run.seed == seed], _labels) for seed in {run.seed for run in runs}]
    if all(isinstance(run.value(HELD_OUT), int) for run in runs) and max(map(len, of_seeds)) == 1:
        yield Finding(
            "different_labels",
            "warning",
            f"Each seed holds out labels of its own ({listed(only)} not in all), as {HELD_OUT} is a number and the "
            "seed draws them: all groups have the same labels at one seed, and the spread over seeds is that of the "
            f"draws as well. To hold out the same labels in all runs, name them: {HELD_OUT}=[a, b].",
            places(runs),
        )
    else:
        yield Finding(
            "different_labels",
            "error",
            f"Runs in one table have different label sets ({listed(only)} not in all): the tasks differ in difficulty, "
            "and macro scores are means over different classes. Train all runs with the same data.labels.",
            places(fewest(grouped)),
        )


def _labels(run: Run) -> tuple[str, ...] | None:
    return tuple(sorted(run.record.data["data"]["labels"])) or None
