"""Test examples that are in the training split too."""

from __future__ import annotations

from collections.abc import Iterator

from peftlab.report import numbers
from peftlab.report.analysis.groups import Comparison
from peftlab.report.document import Finding
from peftlab.report.likeness import by_value, compared_runs, places
from peftlab.report.numbers import plural
from peftlab.report.study import Run

SMALL = 0.01
"""The share of the test split below which a leak is only noted."""


def check(comparison: Comparison) -> Iterator[Finding]:
    """Count the test texts that the training split holds."""
    grouped = by_value(compared_runs(comparison), _overlap)
    for (overlap, rows), runs in grouped.items():
        if not overlap:
            continue
        share = overlap / rows if rows else 1.0
        yield Finding(
            "leaked_rows",
            "note" if share < SMALL else "warning",
            f"{plural(overlap, 'test example')} of {rows:,} ({numbers.share(share)}) "
            f"{'is' if overlap == 1 else 'are'} in the training split too, by their text: these may "
            "be scored too well, and the more so where a method memorises. Drop them from training: "
            "data.clean={leaks: drop}.",
            places(runs),
        )


def _overlap(run: Run) -> tuple[int, int] | None:
    data = run.record.data["data"]
    overlap = data["train_test_overlap"]
    return None if overlap is None else (overlap, data["splits"].get("test", {}).get("rows") or 0)
