"""Groups some of which may stop early, and some not."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from peftlab.report.analysis.groups import Comparison
from peftlab.report.document import Finding
from peftlab.report.likeness import by_value, compared_runs, divides, fewest, is_compared, places
from peftlab.report.study import Run

_OURS = "peftlab.callbacks."
"""Callbacks that only show something."""


def check(comparison: Comparison) -> Iterator[Finding]:
    """Name the runs whose rule to stop early differs from that of most."""
    runs = [run for run in compared_runs(comparison) if run.config]
    if divides(comparison, _rule) and not is_compared(comparison, "callbacks"):
        yield Finding(
            "early_stopping",
            "warning",
            "The groups may stop early by different rules, or only some of them may: the others overfit or train on "
            "where these stop. Give all groups the same callbacks.early_stopping.",
            places(fewest(by_value(runs, _rule))),
        )


def stops_early(run: Run) -> bool:
    """Return whether a callback in the run's configuration may end it before its budget."""
    return bool(_stopping(run))


def _rule(run: Run) -> str | None:
    return repr(_stopping(run)) if run.config and run.record.derived is None else None


def _stopping(run: Run) -> dict[str, Any]:
    callbacks = run.config.get("callbacks")
    return {
        str(name): one
        for name, one in (callbacks.items() if isinstance(callbacks, dict) else ())
        if isinstance(one, dict) and not str(one.get("_target_")).startswith(_OURS)
    }
