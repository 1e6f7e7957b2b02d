"""Predictions for other examples, or with other gold answers, though the data is the same by its digest."""

from __future__ import annotations

from collections.abc import Hashable, Iterator

from peftlab.report.analysis.groups import Comparison, fold_of
from peftlab.report.document import Finding
from peftlab.report.likeness import by_value, compared_runs, fewest, places
from peftlab.report.numbers import plural
from peftlab.report.recount import Recount, recount
from peftlab.report.study import Run
from peftlab.runs.decisions import SCOPE


def check(comparison: Comparison) -> Iterator[Finding]:
    """Name the runs whose predictions are for other examples than those of most runs, or for too few."""
    runs = compared_runs(comparison)
    for part in dict.fromkeys(map(_part, runs)):
        grouped = by_value([run for run in runs if _part(run) == part], lambda run: _gold(recount(run, "test")))
        if len(grouped) > 1:
            yield Finding(
                "different_examples",
                "error",
                f"The predictions on the test split have {plural(len(grouped), 'set')} of examples and gold answers: "
                "runs cannot be compared example by example, and their scores are of different tests. Score all of "
                "them on the same file: peftlab evaluate.",
                places(fewest(grouped)),
            )
    short = [run for run in runs if _differs(run, recount(run, "test"))]
    if short:
        yield Finding(
            "different_examples",
            "error",
            f"The predictions of {plural(len(short), 'run')} are not as many as the test split has examples by the "
            "record: some were left out or added. Put back the files that the run left, or run it again.",
            places(short),
        )


def _part(run: Run) -> Hashable:
    """Return what decides which examples are in the test split: the fold, and the labels that are held out.

    `different_labels` speaks of the latter.
    """
    scope = run.record.extensions.get(SCOPE)
    held_out = scope.get("held_out") if isinstance(scope, dict) else None
    return fold_of(run), str(held_out or "")


def _gold(evidence: Recount | None) -> str | None:
    return None if evidence is None else evidence.gold_sha256


def _differs(run: Run, evidence: Recount | None) -> bool:
    rows = run.record.data["data"]["splits"].get("test", {}).get("rows")
    return evidence is not None and evidence.fault is None and rows is not None and evidence.rows != rows
