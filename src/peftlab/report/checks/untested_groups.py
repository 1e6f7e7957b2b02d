"""Groups without a test score beside groups that have some."""

from __future__ import annotations

from collections.abc import Iterator

from peftlab.report.analysis.groups import Comparison
from peftlab.report.document import Finding
from peftlab.report.likeness import names, places


def check(comparison: Comparison) -> Iterator[Finding]:
    """Name the groups that were never tested."""
    untested = [group for group in comparison.groups if not group.runs]
    if not untested:
        return
    runs = places(run for group in untested for run in group.everything)
    if len(untested) == len(comparison.groups):
        yield Finding(
            "untested_groups",
            "warning",
            "No run has a test score (budget.test=false, or none was completed): all that can be compared are the "
            "validation scores that selected the checkpoints, which are too good. Test the choice: budget.test=true.",
            runs,
        )
        return
    yield Finding(
        "untested_groups",
        "warning",
        f"No run of {names(untested)} has a test score, so the comparison is without "
        f"{'it' if len(untested) == 1 else 'them'}: a method may be missing because it did badly. Test its choice "
        "too: budget.test=true.",
        runs,
    )
