"""Cross-validations of which folds are missing: their scores are of other examples than those of whole ones."""

from __future__ import annotations

from collections.abc import Iterator

from peftlab.report.analysis.groups import Comparison, Group, fold_of
from peftlab.report.document import Finding
from peftlab.report.likeness import listed, places


def check(comparison: Comparison) -> Iterator[Finding]:
    """Name the seeds of which not all folds were tested."""
    for group in comparison.groups:
        if missing := _missing(group):
            each = listed(f"seed {seed} lacks {', '.join(folds)}" for seed, folds in missing.items())
            yield Finding(
                "incomplete_folds",
                "error",
                f"Folds are missing from the cross-validation of {group.name}: {each}. Its scores are of some of the "
                "examples only, which may be the easy ones. Run the folds that are missing, data.fold=...",
                places(run for seed in missing for run in group.by_seed[seed]),
            )


def _missing(group: Group) -> dict[int, list[str]]:
    missing: dict[int, list[str]] = {}
    for seed, runs in group.by_seed.items():
        there = {fold_of(run) for run in runs}
        lacking = [
            f"{n}/{of}" for of in sorted({of for _, of in there}) for n in range(1, of + 1) if (n, of) not in there
        ]
        if lacking:
            missing[seed] = lacking
    return missing
