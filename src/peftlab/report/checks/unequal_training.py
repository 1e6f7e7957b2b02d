"""Groups that were trained for longer than others, or less far than planned."""

from __future__ import annotations

from collections.abc import Iterator

from peftlab.report.analysis.groups import Comparison
from peftlab.report.checks.early_stopping import stops_early
from peftlab.report.document import Finding
from peftlab.report.likeness import compared, compared_runs, divides, is_compared, listed, places
from peftlab.report.numbers import plural
from peftlab.report.study import Run

SAME = 0.02
"""Relative difference of steps that rounding to whole batches explains."""


def check(comparison: Comparison) -> Iterator[Finding]:
    """Compare the budgets of the groups, and what was left of them."""
    spans = {group.name: _span(compared(group)) for group in comparison.groups if group.runs}
    if (
        divides(comparison, _planned)
        and not is_compared(comparison, "budget", "data")
        and _differ([last for _, last in spans.values()])
    ):
        each = listed(f"{name} {first:,}" for name, (first, _) in spans.items())
        passes = {str(run.value("budget.max_passes")) for run in compared_runs(comparison)}
        equal = len(passes) == 1 and passes != {"None"}
        yield Finding(
            "unequal_training",
            "note" if equal else "warning",
            f"The groups were trained for different numbers of steps ({each})"
            + (
                f", since all have {passes.pop()} passes over the data, those of regularisers included: they are "
                "compared at equal compute, and not at equal steps."
                if equal
                else ": a difference may come from the length of the training alone. Give all the same budget "
                "(budget.max_epochs, budget.max_steps), or the same number of passes (budget.max_passes)."
            ),
            places(run for group in comparison.groups for run in compared(group)),
        )
    short = [run for run in compared_runs(comparison) if _fell_short(run)]
    if short:
        yield Finding(
            "unequal_training",
            "warning",
            f"{plural(len(short), 'completed run')} ended before the planned number of steps, and nothing in the "
            "configuration may stop early: its learning-rate schedule was cut. Run it again.",
            places(short),
        )


def _planned(run: Run) -> int | None:
    """Return the steps of the whole training as planned; None if no validation says so."""
    return next((event["of"] for event in run.record.events("validated") if event.get("of")), None)


def _span(runs: tuple[Run, ...]) -> tuple[int, int]:
    steps = [_planned(run) or 0 for run in runs]
    return min(steps), max(steps)


def _differ(steps: list[int]) -> bool:
    return max(steps) - min(steps) > SAME * max(steps)


def _fell_short(run: Run) -> bool:
    planned, steps = _planned(run), run.record.data["cost"]["steps"]
    if not planned or steps is None or not run.config:
        return False
    return steps < planned and not stops_early(run)
