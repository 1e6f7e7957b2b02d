"""Runs that were meant to count and do not: failed, interrupted, pruned. What is left may be the lucky ones."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from peftlab.report.analysis.groups import Comparison, Group
from peftlab.report.document import Finding
from peftlab.report.likeness import places
from peftlab.report.numbers import plural
from peftlab.report.study import Run
from peftlab.runs.identity import deciding_part, leaves


def check(comparison: Comparison) -> Iterator[Finding]:
    """Name the runs without the compared test score whose seed no other run of the group makes up for."""
    for group in comparison.groups:
        lost = [run for run in (*group.lost, *_pruned(group)) if _was_final(run) and run.seed not in group.by_seed]
        if lost:
            how = ", ".join(f"{number} {status}" for status, number in Counter(run.status for run in lost).items())
            seeds = ", ".join(sorted({str(run.seed) for run in lost}))
            yield Finding(
                "lost_runs",
                "warning",
                f"{plural(len(lost), 'run')} of {group.name} {'is' if len(lost) == 1 else 'are'} missing from its "
                f"scores ({how}; seed {seeds}): if they ended because they went badly, its mean is too good. Resume "
                "them (peftlab resume RUN), or report the failures as part of the result.",
                places(lost),
            )
        unscored = [run for run in group.final if comparison.score(run) is None]
        if unscored and any(comparison.score(run) is not None for run in comparison.runs):
            seeds = ", ".join(str(run.seed) for run in unscored)
            yield Finding(
                "lost_runs",
                "warning",
                f"{plural(len(unscored), 'tested run')} of {group.name} {'has' if len(unscored) == 1 else 'have'} no "
                f"test {comparison.metric}, or one that is not a number (seed {seeds}): if that is because training "
                "went badly, the mean of the others is too good. Run them again, or report them as part of the result.",
                places(unscored),
            )
        failed = [run for run in group.lost if not _was_final(run)]
        if failed:
            yield Finding(
                "lost_runs",
                "note",
                f"{plural(len(failed), 'trial')} of the search of {group.name} did not complete. They count in its "
                "cost, and not as points that were tried.",
                places(failed),
            )


def _was_final(run: Run) -> bool:
    return run.value("budget.test") is not False


def _pruned(group: Group) -> list[Run]:
    """Return the pruned runs that differ from a tested one in the seed alone; others were trials of a search."""
    pruned = [run for run in group.trials if run.status == "pruned" and _was_final(run)]
    recipes = {_recipe(run) for run in group.runs} if pruned else set()
    return [run for run in pruned if _recipe(run) in recipes]


def _recipe(run: Run) -> str:
    """Return what decides the result of a run, but for its seed."""
    decides = leaves(deciding_part(run.config)) if run.config else run.overrides.items()
    return repr(sorted(((key, value) for key, value in decides if key != "seed"), key=lambda leaf: leaf[0]))
