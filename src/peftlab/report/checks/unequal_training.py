"""Groups that were trained for longer than others, or less far than planned."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence

from peftlab.reading.json_form import Form, has_form
from peftlab.report.analysis.groups import Comparison
from peftlab.report.checks.early_stopping import stops_early
from peftlab.report.document import Finding
from peftlab.report.likeness import compared, compared_runs, divides, is_compared, listed, places
from peftlab.report.numbers import plural
from peftlab.report.study import Run

_REGULARIZERS: Form = {"*": {"step": "count", "passes": "count"}}
_AGAIN = ("sam", "asam")
"""The regularisers that have the whole step computed again, with the passes of the others."""

SAME = 0.02
"""Relative difference of steps or passes that rounding to whole batches explains."""


def check(comparison: Comparison) -> Iterator[Finding]:
    """Compare the budgets of the groups, and what was left of them."""
    spans = {group.name: _span(compared(group)) for group in comparison.groups if group.runs}
    unequal = divides(comparison, _planned) and _differ([last for _, last in spans.values()])
    passes_of = {group.name: _passes(compared(group)) for group in comparison.groups if group.runs}
    if unequal and not is_compared(comparison, "budget", "data"):
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
    elif not unequal and passes_of and _differ(list(passes_of.values())):
        each = listed(f"{name} {number:.3g}" for name, number in passes_of.items())
        yield Finding(
            "unequal_training",
            "note",
            f"A step of some groups makes more passes over its examples than one of others ({each}), those of "
            "regularisers and teachers included: they are compared at equal steps, and not at equal compute, as they "
            "would be with the same number of passes (budget.max_passes).",
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
    """Return the steps of the whole training as planned; those that it took, if it ended without any validation."""
    planned: int | None = next((event["of"] for event in run.record.events("validated") if event.get("of")), None)
    return run.record.data["cost"]["steps"] if planned is None and run.status == "completed" else planned


def _passes(runs: tuple[Run, ...]) -> float:
    """Return how many passes a step of these runs makes over its examples, on average.

    A record has those of each regulariser, and the first step that it acted in.
    """
    means = []
    for run in runs:
        steps = run.record.data["cost"]["steps"]
        recorded = run.record.extensions.get("regularizers", {})
        passes, times = 1.0, 1
        for name, each in recorded.items() if steps and has_form(recorded, _REGULARIZERS) else ():
            if name in _AGAIN:
                times += each["passes"]
            else:
                passes += each["passes"] * max(0, steps - each["step"] + 1) / steps
        means.append(passes * times)
    return statistics.fmean(means)


def _span(runs: tuple[Run, ...]) -> tuple[int, int]:
    steps = [_planned(run) or 0 for run in runs]
    return min(steps), max(steps)


def _differ(numbers: Sequence[float]) -> bool:
    return max(numbers) - min(numbers) > SAME * max(numbers)


def _fell_short(run: Run) -> bool:
    planned, steps = _planned(run), run.record.data["cost"]["steps"]
    if not planned or steps is None or not run.config:
        return False
    return steps < planned and not stops_early(run)
