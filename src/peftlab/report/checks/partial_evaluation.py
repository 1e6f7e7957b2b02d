"""Scores of a sample of the split, or of a training that only tries whether things work."""

from __future__ import annotations

from collections.abc import Iterator

from peftlab.report.analysis.groups import Comparison
from peftlab.report.document import Finding
from peftlab.report.likeness import by_value, compared_runs, places
from peftlab.report.study import Run


def check(comparison: Comparison) -> Iterator[Finding]:
    """Name the runs that were scored on a part of the split, or on what they were trained on."""
    runs = compared_runs(comparison)
    for most, partial in by_value(runs, _sampled).items():
        yield Finding(
            "partial_evaluation",
            "warning",
            f"The splits were cut to {most:,} examples for scoring (budget.eval_examples): the scores are of a "
            "sample, with a larger error, and do not compare with scores on the whole split. "
            "budget.eval_examples=null scores all.",
            places(partial),
        )
    memorised = [run for run in runs if run.value("budget.overfit_batches") is not None]
    if memorised:
        yield Finding(
            "partial_evaluation",
            "error",
            "Runs were trained and validated on the same few batches (budget.overfit_batches), to see whether they "
            "memorise them: their scores say nothing of other texts. Leave them out of the report.",
            places(memorised),
        )


def _sampled(run: Run) -> int | None:
    """Return how many examples the test split was cut to; None if it has fewer."""
    most, rows = run.value("budget.eval_examples"), run.record.data["data"]["splits"].get("test", {}).get("rows")
    return most if isinstance(most, int) and (rows is None or rows >= most) else None
