"""More labels to choose a checkpoint by than to train on."""

from __future__ import annotations

from collections.abc import Iterator

from peftlab.report.analysis.groups import Comparison
from peftlab.report.document import Finding
from peftlab.report.likeness import compared_runs, listed, places
from peftlab.runs.label_budget import label_budget_of


def check(comparison: Comparison) -> Iterator[Finding]:
    """Name the runs that were selected on more labels than they were trained on (Perez, Kiela and Cho 2021)."""
    budgets = [(run, label_budget_of(run.record)) for run in compared_runs(comparison)]
    beyond = [(run, budget) for run, budget in budgets if budget is not None and budget.exceeds]
    if beyond:
        said = listed(dict.fromkeys(budget.said() for _, budget in beyond))
        yield Finding(
            "label_budget",
            "warning",
            f"Runs read more labels to choose by than to learn from: {said}. Validation labels are labels too: whoever "
            "has them could train on them. Choose by as many as are trained on (budget.validation_per_class), or by "
            "none (budget.select=last callbacks=[progress]).",
            places(run for run, _ in beyond),
        )
