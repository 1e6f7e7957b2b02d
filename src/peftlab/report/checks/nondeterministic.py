"""Runs that the same command need not repeat to the last digit."""

from __future__ import annotations

from collections.abc import Iterator

from peftlab.report.analysis.groups import Comparison
from peftlab.report.document import Finding
from peftlab.report.likeness import compared_runs, listed, places
from peftlab.report.numbers import plural


def check(comparison: Comparison) -> Iterator[Finding]:
    """Name what is not deterministic in which runs."""
    parts: dict[str, None] = {}
    runs = []
    for run in compared_runs(comparison):
        environment = run.record.data["environment"]
        if environment["deterministic"] is False or environment["nondeterministic_parts"]:
            runs.append(run)
            parts |= dict.fromkeys(environment["nondeterministic_parts"] or ["trainer.deterministic=false"])
    if runs:
        yield Finding(
            "nondeterministic",
            "note",
            f"{plural(len(runs), 'run')} would not come out the same to the last digit if repeated ({listed(parts)}): "
            "the spread over seeds contains this. trainer.deterministic=true repeats to the bit where that is "
            "possible.",
            places(runs),
        )
