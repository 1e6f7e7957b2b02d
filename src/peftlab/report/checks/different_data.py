"""Other data behind runs in one table, by their digests."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from peftlab.report.analysis.groups import Comparison
from peftlab.report.document import Finding
from peftlab.report.likeness import by_value, compared_runs, fewest, is_compared, places
from peftlab.report.numbers import plural
from peftlab.report.study import Run


def check(comparison: Comparison) -> Iterator[Finding]:
    """Name the splits whose digests differ."""
    runs = compared_runs(comparison)
    parts = dict.fromkeys(part for run in runs for part in run.record.data["identity"]["data_sha256"])
    for part in parts:
        grouped = by_value(runs, partial(_digest, part))
        if len(grouped) < 2:
            continue
        if part == "test":
            text = "they were scored on different examples, and their scores cannot be compared"
        else:
            text = "a difference between them may come from the data"
        compares = part != "test" and is_compared(
            comparison, "data", "budget.train_examples", "budget.per_class", "budget.half", "augment"
        )
        yield Finding(
            "different_data",
            "error" if part == "test" else "note" if compares else "warning",
            f"Runs in one table have different {part} data ({plural(len(grouped), 'digest')}): {text}. Report each "
            "version of the data alone, or run all on one.",
            places(fewest(grouped)),
        )


def _digest(part: str, run: Run) -> str:
    return str(run.record.data["identity"]["data_sha256"].get(part, "none"))
