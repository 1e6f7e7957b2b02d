"""Groups with too few seeds: the seed alone moves a score, by an amount that one or two runs do not show."""

from __future__ import annotations

from collections.abc import Iterator

from peftlab.report.analysis.groups import Comparison, Group
from peftlab.report.document import Finding
from peftlab.report.likeness import combines, compared, listed, places
from peftlab.report.numbers import plural

FEWEST = 3


def check(comparison: Comparison) -> Iterator[Finding]:
    """Name the tested groups with fewer than three seeds, but ensembles: they are held against their members."""
    tested = [group for group in comparison.groups if group.runs and not combines(group)]
    few = [group for group in tested if _seeds(group) < FEWEST]
    if few:
        each = listed(f"{group.name} ({plural(_seeds(group), 'seed')})" for group in few)
        yield Finding(
            "few_seeds",
            "error",
            f"Fewer than {FEWEST} seeds: {each}. What is the method and what the seed cannot be told apart, so nothing "
            f"is claimed of {'it' if len(few) == 1 else 'them'}. Add runs with other seeds: seed=0,1,2.",
            places(run for group in few for run in compared(group)),
        )


def _seeds(group: Group) -> int:
    """Return the number of seeds; of runs that record none, the number of runs."""
    return len(group.by_seed or group.runs)
