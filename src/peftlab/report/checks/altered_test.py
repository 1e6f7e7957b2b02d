"""Test examples that were dropped or cut before they were scored, or a part of the split that stands for it."""

from __future__ import annotations

from collections.abc import Iterator

from peftlab.report.analysis.groups import Comparison
from peftlab.report.document import Finding
from peftlab.report.likeness import by_value, compared_runs, places
from peftlab.report.numbers import plural
from peftlab.report.study import Run

SMALL = 0.01
"""The share of the test split below which it is only noted."""


def check(comparison: Comparison) -> Iterator[Finding]:
    """Count the dropped and the truncated test examples."""
    for (rows, dropped, truncated), runs in by_value(compared_runs(comparison), _altered).items():
        if dropped:
            yield Finding(
                "altered_test",
                "note" if dropped < SMALL * (rows + dropped) else "warning",
                f"{plural(dropped, 'example')} of the test split of {rows + dropped:,} "
                f"{'was' if dropped == 1 else 'were'} dropped before scoring: the scores are of the rest, and do not "
                "compare with scores on the whole split. data.duplicates=keep scores all.",
                places(runs),
            )
        if truncated:
            yield Finding(
                "altered_test",
                "note" if truncated < SMALL * rows else "warning",
                f"{plural(truncated, 'test text')} of {rows:,} {'was' if truncated == 1 else 'were'} cut at "
                "data.max_tokens: the model did not see the rest. Raise data.max_tokens, or split long texts: "
                "data.long=split, where the task can.",
                places(runs),
            )


def _altered(run: Run) -> tuple[int, int, int] | None:
    test = run.record.data["data"]["splits"].get("test", {})
    dropped, truncated = sum(number or 0 for number in test.get("dropped", {}).values()), test.get("truncated")
    return test.get("rows") or 0, dropped, truncated if isinstance(truncated, int) else 0
