"""Trainings that left steps out because their loss or gradient was not finite."""

from __future__ import annotations

from collections.abc import Iterator

from peftlab.report.analysis.groups import Comparison
from peftlab.report.document import Finding
from peftlab.report.likeness import compared_runs, places
from peftlab.report.numbers import plural


def check(comparison: Comparison) -> Iterator[Finding]:
    """Count the steps that were left out."""
    left_out = {run: len(events) for run in compared_runs(comparison) if (events := run.record.course("step left out"))}
    if left_out:
        steps = sum(left_out.values())
        yield Finding(
            "left_out_steps",
            "note",
            f"{plural(steps, 'step')} of {plural(len(left_out), 'run')} {'was' if steps == 1 else 'were'} left out, "
            "because loss or gradient was not finite: the training was unstable, and shorter than that of the others. "
            "A smaller optimizer.lr, or trainer.precision=32-true, mends it.",
            places(left_out),
        )
