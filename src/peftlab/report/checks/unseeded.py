"""Runs whose record has no seed: they can be neither paired nor repeated."""

from __future__ import annotations

from collections.abc import Iterator

from peftlab.report.analysis.groups import Comparison
from peftlab.report.document import Finding
from peftlab.report.likeness import places
from peftlab.report.numbers import plural


def check(comparison: Comparison) -> Iterator[Finding]:
    """Name the tested runs without a seed."""
    runs = [run for run in comparison.runs if run.seed is None]
    if runs:
        yield Finding(
            "unseeded",
            "warning",
            f"No seed is recorded of {plural(len(runs), 'tested run')}: they cannot be paired with runs of other "
            "groups, nor repeated, and do not count. Run them again with this version, which records the seed.",
            places(runs),
        )
