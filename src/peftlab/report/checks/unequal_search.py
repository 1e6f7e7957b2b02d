"""Methods that were tuned with different effort: the one that was tuned more looks better than it is."""

from __future__ import annotations

from collections.abc import Iterator

from peftlab.report.analysis.groups import Comparison, Group
from peftlab.report.document import Finding
from peftlab.report.likeness import listed, places
from peftlab.report.study import Run


def check(comparison: Comparison) -> Iterator[Finding]:
    """Compare what the searches of the tested groups cost, in full trainings; less than one is no difference."""
    tested = [group for group in comparison.groups if group.runs]
    spent = {group.name: _spent(group) for group in tested}
    if not spent or max(spent.values()) - min(spent.values()) < 1:
        return
    each = listed(f"{name} {cost:.3g}" for name, cost in spent.items())
    untuned = [name for name, cost in spent.items() if cost == 0]
    yield Finding(
        "unequal_search",
        "warning",
        f"The methods were tuned at unequal cost, in full trainings: {each}. "
        f"{f'{untuned[0]} was not tuned at all. ' if untuned else ''}A method looks the better the more was tried, so "
        "a difference may come from the search alone. sweep=equal_budget gives each the same.",
        places(run for group in tested for run in _trials(group)),
    )


def _spent(group: Group) -> float:
    return sum(_share(run) for run in _trials(group))


def _trials(group: Group) -> list[Run]:
    """Return the trials of a group's search, those that failed included."""
    return [*group.trials, *(run for run in group.lost if run.value("budget.test") is False)]


def _share(run: Run) -> float:
    """Return the share of a full training that a run took."""
    steps = run.record.data["cost"]["steps"] or max((one["step"] for one in run.record.events("validated")), default=0)
    planned = next((one["of"] for one in run.record.events("validated") if one.get("of")), None)
    return steps / planned if planned else float(run.status == "completed")
