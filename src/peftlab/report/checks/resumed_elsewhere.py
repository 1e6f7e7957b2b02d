"""Runs that went on in another environment than they began in."""

from __future__ import annotations

from collections.abc import Iterator

from peftlab.report.analysis.groups import Comparison
from peftlab.report.document import Finding
from peftlab.report.likeness import compared_runs, listed, places
from peftlab.report.numbers import plural


def check(comparison: Comparison) -> Iterator[Finding]:
    """Name the runs that were resumed elsewhere, and what differed."""
    runs = []
    keys: dict[str, None] = {}
    for run in compared_runs(comparison):
        for event in run.record.events("resumed"):
            if isinstance(elsewhere := event.get("elsewhere"), dict) and elsewhere:
                keys |= dict.fromkeys(map(str, elsewhere))
                runs.append(run)
    if runs:
        yield Finding(
            "resumed_elsewhere",
            "note",
            f"{plural(len(set(places(runs))), 'run')} went on in another environment ({listed(keys)}): last digits "
            "may differ from those of an uninterrupted run, and times are sums over both.",
            tuple(dict.fromkeys(places(runs))),
        )
