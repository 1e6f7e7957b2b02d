"""Builds the plan of a sweep from its configuration: a grid, a search, or a comparison at equal budgets."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from typing_extensions import override

from peftlab.errors import ConfigError
from peftlab.report.numbers import possible
from peftlab.report.statistics.means import mean
from peftlab.runs.record import RunRecord
from peftlab.sweep.grid import GridPlan
from peftlab.sweep.ledger import value_at
from peftlab.sweep.plan import Evaluation, Outcome, Plan, Proposal
from peftlab.sweep.points import Point
from peftlab.sweep.search import SearchPlan
from peftlab.sweep.space import METHOD, Choice, Dimension, Space, grid, is_method
from peftlab.sweep.spec import SweepSpec

DefaultOf = Callable[[str, Sequence[str]], Any]
"""Returns the configuration value at a dotted key under given overrides."""

LEARNING_RATE = "optimizer.lr"
FACTORS = (1 / 3, 1.0, 3.0)
"""Factors of a method's own learning rate: its default space."""
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
        spec: the settings of the sweep.
        space: the points to try.
        objectives: ``max`` or ``min``, by dotted key of the record.
        default_of: looks up values that depend on the method.
        devices_per_trial: device hours per hour of a trial.

    Raises:
        ConfigError: the settings do not suit the space.
    """
    if spec.protocol == "equal_budget":
        return EqualBudgetPlan(spec, space, objectives, default_of, devices_per_trial)
    if spec.search == "grid":
        return GridPlan(grid(space))
    return SearchPlan(spec, space, objectives, devices_per_trial=devices_per_trial)


@dataclass(frozen=True)
class Finding:
    """The result of a method: its choice, and the scores of the runs with it."""

    method: str
    choice: Sequence[str]
    """The overrides of the best point."""
    about: Mapping[str, Any] = field(default_factory=dict)
    """Further columns of the table."""
    scores: Sequence[Mapping[str, float]] = ()
    """The scores of each run, by metric."""
    note: str = ""


class EqualBudgetPlan(Plan):
    """Tunes every method over its own space at equal cost, without the test split; then tests its choice.

    The cost counts full-run equivalents, including failed trials. Once a method's search is over, its best point is
    trained and tested with each of `SweepSpec.final_seeds`. A method without a space gets its own learning rate times
    1/3, 1 and 3.

    Raises:
        ConfigError: no method is swept or named, or the space of one is smaller than the budget.
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
        """Final runs of each method whose search is over."""
        self._asked: set[Proposal] = set()
        """Final runs proposed."""
        self._outcomes: dict[Proposal, Outcome] = {}
        """Outcomes of final runs."""

    @override
    def ask(self) -> Proposal | None:
        """Propose method by method, the final runs of each as soon as its search is over."""
        for method, search in self.searches.items():
            proposal = search.ask()
            if proposal is not None:
                self._searching[proposal] = search
                return proposal
            for final in self._finals_of(method):
                if final not in self._asked and final not in self._outcomes:
                    self._asked.add(final)
                    return final
        return None

    @property
    @override
    def over(self) -> bool:
        for method, search in self.searches.items():
            if not (search.over and search.is_idle):
                return False
            if not self._asked.union(self._outcomes).issuperset(self._finals_of(method)):
                return False
        return True

    @override
    def report(self, proposal: Proposal, evaluation: Evaluation) -> bool:
        """Record a validation; final runs are never stopped."""
        search = self._searching.get(proposal)
        return search is None or search.report(proposal, evaluation)

    @override
    def tell(self, proposal: Proposal, outcome: Outcome) -> None:
        if proposal in self._searching:
            self._searching[proposal].tell(proposal, outcome)
        else:
            self._outcomes[proposal] = outcome

    @override
    def recall(self, begun: Sequence[tuple[Proposal, Outcome]]) -> None:
        for search in self.searches.values():
            search.recall([(proposal, outcome) for proposal, outcome in begun if search.covers(proposal)])
        for proposal, outcome in begun:
            final = self._final(proposal)
            if final is not None and outcome.status == "completed":
                self._outcomes[final] = outcome

    @property
    @override
    def examples(self) -> Sequence[Proposal]:
        return [proposal for search in self.searches.values() for proposal in search.examples]

    @override
    def labels_of(self, proposal: Proposal) -> Mapping[str, str] | None:
        for search in self.searches.values():
            if (labels := search.labels_of(proposal)) is not None:
                return labels
        final = self._final(proposal)
        return None if final is None else final.labels

    @override
    def results(self, records: Iterable[RunRecord]) -> list[dict[str, Any]]:
        """Return one row per method, see `result_table`."""
        completed = [record for record in records if record.data["status"] == "completed"]
        first = next((record.data["selection"]["metric"] for record in completed), None)
        return result_table([self._finding(method, completed) for method in self.searches], first)

    def _finals_of(self, method: str) -> list[Proposal]:
        """Return the final runs of a method; none while its search runs or if it has no best point."""
        search = self.searches[method]
        if method not in self._finals:
            if not (search.over and search.is_idle) or search.best is None:
                return []
            overrides = search.space.overrides_of(search.best.params)
            labels = _labels("final", method)
            self._finals[method] = [Proposal((*overrides, f"seed={seed}"), labels) for seed in self._spec.final_seeds]
        return self._finals[method]

    def _final(self, proposal: Proposal) -> Proposal | None:
        """Return the proposal as a final run of any point, as the choice may be open; None if it is not one."""
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
        done = [outcome for final in finals if (outcome := self._outcomes.get(final)) is not None]
        better = max if next(iter(self._objectives.values())) == "max" else min
        about = {"validation": None if best is None else _value(best, better), "full_runs": search.spending.full_runs}
        choice = [] if best is None else _without(search.space.overrides_of(best.params), METHOD)
        tested = (self._record_of(final, records) for final in finals)
        scores = [_tested(record) for record in tested if record is not None]
        return Finding(method, choice, about, scores, _note(search, done, finals))

    def _record_of(self, final: Proposal, records: Sequence[RunRecord]) -> RunRecord | None:
        outcome = self._outcomes.get(final)
        if outcome is None or outcome.status != "completed":
            return None
        key = next(iter(self._objectives))
        for record in records:
            overrides = set(record.data["overrides"])
            same = overrides.issuperset(final.overrides) and UNTESTED not in overrides
            if same and value_at(record.data, key) == outcome.values[0]:
                return record
        return None


def result_table(findings: Sequence[Finding], first: str | None = None) -> list[dict[str, Any]]:
    """Return a row per method: its choice, the number of runs, and the mean and SD of each metric.

    The metric `first` comes first, with the 95 % interval of its mean by Student's t, which treats the runs as a random
    sample over seeds. Scores of single classes (``entity_f1/LOC``) are left out. Undefined values are None, such as the
    spread of one run.
    """
    names = dict.fromkeys(name for finding in findings for scores in finding.scores for name in scores)
    shown = sorted((name for name in names if "/" not in name), key=lambda name: name != first)
    return [_row(finding, shown, first) for finding in findings]


def _row(finding: Finding, metrics: Sequence[str], first: str | None) -> dict[str, Any]:
    row: dict[str, Any] = {"method": finding.method, "choice": " ".join(finding.choice)}
    row |= {**finding.about, "n": len(finding.scores)}
    for name in metrics:
        values = [scores[name] for scores in finding.scores if math.isfinite(scores.get(name, math.nan))]
        about = mean(values) if values else None
        row[name], row[f"{name} SD"] = (None, None) if about is None else (about.value, about.sd)
        if name == first:
            ends = (None, None) if about is None else possible(about.low, about.high, name)
            row[f"{name} from"], row[f"{name} to"] = ends
    return row | {"note": finding.note}


def _labels(phase: str, method: str) -> dict[str, str]:
    return {"phase": phase, "method": method}


def _space_of(space: Space, method: str, default_of: DefaultOf) -> Space:
    """Return the tuning space of a method."""
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
    budget = spec.budget.full_runs
    if runs is not None and budget is not None and runs < math.floor(budget):
        raise ConfigError(
            f"sweep.budget.full_runs = {budget:g}: the space of {METHOD}={method} has room for {runs} only, and the "
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


def _value(point: Point, better: Callable[..., float]) -> float | None:
    """Return the score for which a point was chosen: of one that was stopped, the best of its validations."""
    if point.state == "completed":
        return point.values[0]
    known = [value for value in point.trials[0].evaluations.values() if not math.isnan(value)]
    return better(known) if known else None


def _tested(record: RunRecord) -> dict[str, float]:
    return {score["name"]: _number(score["value"]) for score in record.scores("test")}


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else math.nan


def _fixes(overrides: Iterable[str], key: str) -> bool:
    return any(text.lstrip("+").startswith(f"{key}=") for text in overrides)


def _without(overrides: Sequence[str], key: str) -> list[str]:
    return [text for text in overrides if not _fixes([text], key)]
