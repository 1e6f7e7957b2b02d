"""Runs that are copies of one another and stand for independent repetitions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from peftlab.report.analysis.groups import Comparison
from peftlab.report.document import Finding
from peftlab.report.likeness import by_value, compared_runs, listed, places
from peftlab.report.numbers import plural
from peftlab.report.study import Run

_PREDICTIONS = "predictions/test.jsonl"


def check(comparison: Comparison) -> Iterator[Finding]:
    """Name the runs of different seeds or groups with the same predictions, probabilities included."""
    runs = compared_runs(comparison)
    for what, value_of in (("predictions on the test split", _predictions), ("identity", _identity)):
        for same in by_value(runs, value_of).values():
            if len(same) > 1:
                yield Finding(
                    "duplicated_runs",
                    "error",
                    f"{plural(len(same), 'run')} have the same {what}, to the last digit (seeds "
                    f"{listed(run.seed for run in same)}): copies count as one repetition, and as several they make "
                    "the spread too small. Leave the copies out, or train them again.",
                    places(same),
                )


def _predictions(run: Run) -> str | None:
    """Return the digest of the test predictions; without them, all test scores, loss included."""
    files: Sequence[dict[str, str]] = run.record.data["files"]
    listed_there = [file["sha256"] for file in files if file["path"] == _PREDICTIONS]
    if listed_there:
        return listed_there[0]
    scores = sorted(f"{score['name']} {score['value']!r}" for score in run.record.scores("test"))
    return " ".join(scores) if run.record.scores("test", "loss") else None


def _identity(run: Run) -> str | None:
    identity: str | None = run.record.data["identity"]["sha256"]
    return identity
