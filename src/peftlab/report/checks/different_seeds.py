"""Groups whose runs have other seeds than those of the others."""

from __future__ import annotations

from collections.abc import Iterator

from peftlab.report.analysis.groups import Comparison
from peftlab.report.document import Finding
from peftlab.report.likeness import combines, compared, listed, places


def check(comparison: Comparison) -> Iterator[Finding]:
    """Name the seeds that some tested groups lack; ensembles have none of their own."""
    tested = [group for group in comparison.groups if group.runs and not combines(group)]
    seeds = {group.name: set(group.by_seed) for group in tested}
    every = set().union(*seeds.values()) if seeds else set()
    lacking = [group for group in tested if seeds[group.name] != every]
    if lacking:
        common = set.intersection(*seeds.values())
        has = listed(sorted(common)) if common else "none"
        each = listed(
            f"{group.name} lacks {' '.join(map(str, sorted(every - seeds[group.name])))}" for group in lacking
        )
        yield Finding(
            "different_seeds",
            "warning",
            f"The groups were run with different seeds (in common: {has}): {each}. Seeds may be easy or hard, or "
            "chosen by their scores, and tests of pairs need the same ones. Run every group with the same seeds.",
            places(run for group in lacking for run in compared(group)),
        )
