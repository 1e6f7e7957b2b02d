"""Several tested runs for one seed of a group: test scores were seen for more points than the one that counts."""

from __future__ import annotations

from collections.abc import Iterator

from peftlab.report.analysis.groups import Comparison
from peftlab.report.document import Finding
from peftlab.report.likeness import compared, listed, places


def check(comparison: Comparison) -> Iterator[Finding]:
    """Name the groups with more tested runs than seeds."""
    extra = {
        group.name: [run for run in group.runs if run.seed is not None and run not in compared(group)]
        for group in comparison.groups
    }
    if several := [name for name, runs in extra.items() if runs]:
        yield Finding(
            "seen_tests",
            "note",
            f"More than one tested run for a seed in {listed(several)}: of each seed, the run with the best validation "
            "score counts. Test scores were seen for all of them, so a choice could have followed those. A search "
            "without the test split rules that out: sweep=equal_budget, or budget.test=false.",
            places(run for name in several for run in extra[name]),
        )
