"""What a sweep is to do, from its section of the configuration: a grid, a search, or a comparison at equal budgets."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from peftlab.errors import ConfigError
from peftlab.runs.record import RunRecord
from peftlab.sweep.grid import GridPlan
from peftlab.sweep.ledger import value_at
from peftlab.sweep.plan import Begun, Evaluation, Outcome, Plan, Proposal
from peftlab.sweep.points import Point
from peftlab.sweep.search import SearchPlan
from peftlab.sweep.space import METHOD, Choice, Dimension, Space, grid, is_method
from peftlab.sweep.spec import SweepSpec

DefaultOf = Callable[[str, Sequence[str]], Any]
"""Returns the value of the configuration at a dotted key, under some overrides."""

LEARNING_RATE = "optimizer.lr"
FACTORS = (1 / 3, 1.0, 3.0)
"""Of a method's own learning rate: its space where it has no other."""
UNTESTED = "budget.test=false"


def make_plan(
    spec: SweepSpec,
    space: Space,
    objectives: Mapping[str, str],
    default_of: DefaultOf,
    devices_per_trial: float = 1.0,
) -> Plan:
    """Return the plan of a sweep.

    Args:
        spec: what is to be done.
        space: what there is to choose from.
        objectives: by dotted key of the record, ``max`` or ``min``.
        default_of: for what depends on the configuration of a method.
        devices_per_trial: for how many devices an hour of a trial counts.

    Raises:
        ConfigError: that cannot be done over this space.
    """
    if spec.protocol == "equal_budget":
        return EqualBudgetPlan(spec, space, objectives, default_of, devices_per_trial)
    if spec.search == "grid":
        return GridPlan(grid(space))
    return SearchPlan(spec, space, objectives, devices_per_trial=devices_per_trial)


@dataclass(frozen=True)
class Finding:
    """What is known of a method: its choice, and what the runs with it scored."""

    method: str
    choice: Sequence[str]
    """The overrides of the best point."""
    about: Mapping[str, Any] = field(default_factory=dict)
    """What else is to stand in the table."""
    scores: Sequence[Mapping[str, float]] = ()
    """Of each run, by metric."""
    note: str = ""


class EqualBudgetPlan(Plan):
    """Tunes every method over its own space at the same cost, without looking at the test split; then tests its choice.

    The cost is counted in full-run equivalents, failed trials included. Once a method's search is over, its best point
    is run with each of `SweepSpec.final_seeds`, and tested. A method without a space has its own learning rate, a third
    of it, and three times as much.

    Raises:
        ConfigError: there is no method to choose, or the space of one holds fewer points than the budget wants.
    """

    def __init__(
        self,
        spec: SweepSpec,
        space: Space,
        objectives: Mapping[str, str],
        default_of: DefaultOf,
        devices_per_trial: float = 1.0,
    ) -> None:
        methods = space.methods or ((space.method,) if space.method else ())
        if not methods:
            raise ConfigError(f"sweep.protocol = 'equal_budget': which methods? {METHOD}=lora,head,full")
        if default_of("budget.test", []) is False:
            raise ConfigError("budget.test = false: equal_budget tests each method's choice; budget.test=true")
        self._spec, self._objectives = spec, objectives
        self.searches: dict[str, SearchPlan] = {}
        for method in methods:
            own = _space_of(space, method, default_of)
            _check_size(own, method, spec)
            self.searches[method] = SearchPlan(
                spec,
                own,
                objectives,
                extra=(UNTESTED,),
                labels=_labels("search", method),
                devices_per_trial=devices_per_trial,
            )
        self._searching: dict[Proposal, SearchPlan] = {}
        self._finals: dict[str, list[Proposal]] = {}
        """By method whose search is over."""
        self._asked: set[Proposal] = set()
        """Of the finals."""
        self._told: dict[Proposal, Outcome] = {}
        """Of the finals."""

    def ask(self) -> Proposal | None:
        """See `Plan.ask`: method by method, the final runs of each as soon as its search is over."""
        for method, search in self.searches.items():
            proposal = search.ask()
            if proposal is not None:
                self._searching[proposal] = search
                return proposal
            for final in self._finals_of(method):
                if final not in self._asked and final not in self._told:
                    self._asked.add(final)
                    return final
        return None

    @property
    def over(self) -> bool:
        """See `Plan.over`."""
        for method, search in self.searches.items():
            if not (search.over and search.is_idle):
                return False
            if not self._asked.union(self._told).issuperset(self._finals_of(method)):
                return False
        return True

    def report(self, proposal: Proposal, evaluation: Evaluation) -> bool:
        """See `Plan.report`; final runs are not stopped."""
        search = self._searching.get(proposal)
        return search is None or search.report(proposal, evaluation)

    def tell(self, proposal: Proposal, outcome: Outcome) -> None:
        """See `Plan.tell`."""
        if proposal in self._searching:
            self._searching[proposal].tell(proposal, outcome)
        else:
            self._told[proposal] = outcome

    def recall(self, past: Sequence[tuple[Proposal, Outcome]], unfinished: Sequence[Begun] = ()) -> None:
        """See `Plan.recall`."""
        for search in self.searches.values():
            begun = [one for one in unfinished if search.covers(one[0])]
            search.recall([(proposal, outcome) for proposal, outcome in past if search.covers(proposal)], begun)
        for proposal, outcome in past:
            final = self._final(proposal)
            if final is not None and outcome.status == "completed":
                self._told[final] = outcome

    @property
    def examples(self) -> Sequence[Proposal]:
        """See `Plan.examples`: those of all methods."""
        return [proposal for search in self.searches.values() for proposal in search.examples]

    def labels_of(self, proposal: Proposal) -> Mapping[str, str] | None:
        """See `Plan.labels_of`."""
        for search in self.searches.values():
            if (labels := search.labels_of(proposal)) is not None:
                return labels
        final = self._final(proposal)
        return None if final is None else final.labels

    def results(self, records: Iterable[RunRecord]) -> list[dict[str, Any]]:
        """See `Plan.results`: one row a method, see `result_table`."""
        there = [record for record in records if record.data["status"] == "completed"]
        first = next((record.data["selection"]["metric"] for record in there), None)
        return result_table([self._finding(method, there) for method in self.searches], first)

    def _finals_of(self, method: str) -> list[Proposal]:
        """Return the final runs of a method; none while its search goes on, or where it found nothing."""
        search = self.searches[method]
        if method not in self._finals:
            if not (search.over and search.is_idle) or search.best is None:
                return []
            overrides = search.space.overrides_of(search.best.params)
            labels = _labels("final", method)
            self._finals[method] = [Proposal((*overrides, f"seed={seed}"), labels) for seed in self._spec.final_seeds]
        return self._finals[method]

    def _final(self, proposal: Proposal) -> Proposal | None:
        """Return the proposal if it might be a final run: of any point, for the choice may not be known yet."""
        *overrides, seed = proposal.overrides or ("",)
        if seed not in {f"seed={one}" for one in self._spec.final_seeds}:
            return None
        for method, search in self.searches.items():
            parsed = search.space.params_of([*overrides, *(f"seed={one}" for one in search.space.seeds[:1])])
            if parsed is not None:
                return Proposal((*search.space.overrides_of(parsed[0]), seed), _labels("final", method))
        return None

    def _finding(self, method: str, records: Sequence[RunRecord]) -> Finding:
        search, finals = self.searches[method], self._finals_of(method)
        best = search.best
        done = [outcome for final in finals if (outcome := self._told.get(final)) is not None]
        about = {"validation": None if best is None else _value(best), "full_runs": search.spending.full_runs}
        choice = [] if best is None else _without(search.space.overrides_of(best.params), METHOD)
        found = (self._record_of(final, records) for final in finals)
        scores = [_tested(record) for record in found if record is not None]
        return Finding(method, choice, about, scores, _note(search, done, finals))

    def _record_of(self, final: Proposal, records: Sequence[RunRecord]) -> RunRecord | None:
        outcome = self._told.get(final)
        if outcome is None or outcome.status != "completed":
            return None
        key = next(iter(self._objectives))
        for record in records:
            given = set(record.data["overrides"])
            same = given.issuperset(final.overrides) and UNTESTED not in given
            if same and value_at(record.data, key) == outcome.values[0]:
                return record
        return None


def result_table(findings: Sequence[Finding], first: str | None = None) -> list[dict[str, Any]]:
    """Return a row for each method: its choice, how many runs there are, and the mean and SD of each metric.

    The metric `first` comes first, with the 95 % interval of its mean by Student's t, which takes the runs for a random
    sample of those that other seeds would give. Scores of single classes (``entity_f1/LOC``) are left out. What cannot
    be told is None: the spread of one run.
    """
    names = dict.fromkeys(name for finding in findings for scores in finding.scores for name in scores)
    shown = sorted((name for name in names if "/" not in name), key=lambda name: name != first)
    return [_row(finding, shown, first) for finding in findings]


def _row(finding: Finding, metrics: Sequence[str], first: str | None) -> dict[str, Any]:
    row: dict[str, Any] = {"method": finding.method, "choice": " ".join(finding.choice)}
    row |= {**finding.about, "n": len(finding.scores)}
    for name in metrics:
        values = [scores[name] for scores in finding.scores if math.isfinite(scores.get(name, math.nan))]
        row[name] = statistics.fmean(values) if values else None
        row[f"{name} SD"] = statistics.stdev(values) if len(values) > 1 else None
        if name == first:
            row[f"{name} from"], row[f"{name} to"] = interval(values)
    return row | {"note": finding.note}


def interval(values: Sequence[float]) -> tuple[float | None, float | None]:
    """Return the 95 % interval of the mean by Student's t; nothing where there are fewer than two values."""
    if len(values) < 2:
        return None, None
    from scipy import stats

    half = float(stats.t.ppf(0.975, len(values) - 1)) * statistics.stdev(values) / math.sqrt(len(values))
    mean = statistics.fmean(values)
    return mean - half, mean + half


def _labels(phase: str, method: str) -> dict[str, str]:
    return {"phase": phase, "method": method}


def _space_of(space: Space, method: str, default_of: DefaultOf) -> Space:
    """Return the space in which a method is tuned."""
    own = space.within(method)
    if not all(is_method(one.key) for one in own.dimensions) or _fixes(space.fixed, LEARNING_RATE):
        return own
    rate = default_of(LEARNING_RATE, [f"{METHOD}={method}"])
    if not isinstance(rate, int | float) or not rate > 0:
        raise ConfigError(
            f"{METHOD}={method}: {LEARNING_RATE} is {rate!r}, around which nothing can be tried; give the method "
            f'a space, sweep.methods={{{method}: {{{LEARNING_RATE}: "1e-4,3e-4"}}}}'
        )
    rates = Choice(LEARNING_RATE, tuple(repr(float(f"{rate * factor:.3g}")) for factor in FACTORS), ordered=True)
    dimensions: tuple[Dimension, ...] = (*own.dimensions, rates)
    return Space(own.fixed, dimensions, {}, own.seeds, method)


def _check_size(space: Space, method: str, spec: SweepSpec) -> None:
    runs = None if space.size is None else space.size * len(space.seeds or (None,))
    wanted = spec.budget.full_runs
    if runs is not None and wanted is not None and runs < math.floor(wanted):
        raise ConfigError(
            f"sweep.budget.full_runs = {wanted:g}: the space of {METHOD}={method} has room for {runs} only, and the "
            f"methods would not be tuned at equal cost. Widen sweep.methods.{method}, or lower the budget"
        )


def _note(search: SearchPlan, done: Sequence[Outcome], finals: Sequence[Proposal]) -> str:
    states = [trial.state for point in search.points for trial in point.trials]
    failed = states.count("failed")
    notes = []
    if search.best is None:
        notes.append(f"the search found nothing: {failed} of {len(states)} trials failed")
    elif failed:
        notes.append(f"{failed} of {len(states)} trials of the search failed")
    if lost := sum(outcome.status == "failed" for outcome in done):
        notes.append(f"{lost} of {len(finals)} final runs failed")
    return "; ".join(notes)


def _value(point: Point) -> float | None:
    """Return what a point was chosen for."""
    if point.state == "completed":
        return point.values[0]
    return next(reversed(point.trials[0].evaluations.values()), None)


def _tested(record: RunRecord) -> dict[str, float]:
    return {score["name"]: _number(score["value"]) for score in record.scores("test")}


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else math.nan


def _fixes(overrides: Iterable[str], key: str) -> bool:
    return any(text.lstrip("+").startswith(f"{key}=") for text in overrides)


def _without(overrides: Sequence[str], key: str) -> list[str]:
    return [text for text in overrides if not _fixes([text], key)]
