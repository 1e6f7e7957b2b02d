"""Scores by different scorers in one table."""

from __future__ import annotations

from collections.abc import Iterator

from peftlab.report.analysis.groups import Comparison
from peftlab.report.document import Finding
from peftlab.report.likeness import by_value, compared_runs, fewest, places
from peftlab.report.numbers import plural
from peftlab.report.study import Run


def check(comparison: Comparison) -> Iterator[Finding]:
    """Name the scorers of the compared test score."""

    def scorers(run: Run) -> str | None:
        scores = run.record.scores("test", comparison.metric)
        return " and ".join(sorted({score["scorer"] for score in scores})) or None

    grouped = by_value(compared_runs(comparison), scorers)
    mixed = len(grouped) > 1 or any(" and " in name for name in grouped)
    if mixed:
        runs = fewest(grouped) if len(grouped) > 1 else tuple(run for runs in grouped.values() for run in runs)
        yield Finding(
            "different_scorers",
            "error",
            f"{comparison.metric} was computed by different scorers: {' and '.join(map(repr, grouped))}. How invalid "
            "tags or empty classes are treated moves a score by more than methods differ. Score all runs alike: "
            "peftlab evaluate, or report them apart.",
            places(runs),
        )
    odd = [run for run in compared_runs(comparison) if _differs(run, comparison.metric)]
    if odd and not mixed:
        yield Finding(
            "different_scorers",
            "warning",
            f"{plural(len(odd), 'run')} {'was' if len(odd) == 1 else 'were'} selected by another scorer of "
            f"{comparison.metric} than tested with: their validation and test scores cannot be compared with each "
            "other. Score both splits alike: peftlab evaluate.",
            places(odd),
        )


def _differs(run: Run, metric: str) -> bool:
    tested, selected = (
        {score["scorer"] for score in run.record.scores(split, metric)} for split in ("test", "validation")
    )
    return bool(tested and selected) and tested != selected
