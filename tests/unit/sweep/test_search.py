from __future__ import annotations

import itertools
import math
import random

import pytest

from peftlab.errors import ConfigError
from peftlab.sweep.plan import Evaluation, Outcome
from peftlab.sweep.search import IN_VAIN, SearchPlan
from peftlab.sweep.space import Space
from peftlab.sweep.spec import PruningSpec, SweepBudgetSpec, SweepSpec

LR = "lr=tag(log,interval(1e-5,1e-1))"
MAX = {"selection.value": "max"}
BOTH = {"selection.value": "max", "method.trainable_parameters": "min"}
FRACTIONS = [n / 9 for n in range(1, 10)]


def plan_of(*arguments, objectives=MAX, budget=None, pruning=None, extra=(), **spec):
    limits = SweepBudgetSpec(**(budget or {}))
    whole = SweepSpec(budget=limits, pruning=PruningSpec(**(pruning or {})), **{"search": "random"} | spec)
    return SearchPlan(whole, Space.parse(arguments, whole), objectives, extra=extra)


def numbers(proposal):
    return {key: float(value) for key, _, value in (text.partition("=") for text in proposal.overrides)}


def score(proposal):
    """A peak at lr=1e-3, and with b near 0."""
    at = numbers(proposal)
    return 1 - abs(math.log10(at["lr"]) + 3) / 4 - abs(at.get("b", 0.0)) / 100


def completed(value, steps=90, seconds=60.0):
    values = value if isinstance(value, tuple) else (value,)
    return Outcome("completed", values, tuple(Evaluation(f, f * values[0]) for f in FRACTIONS), steps, seconds)


FAILED = Outcome("failed", ())
INTERRUPTED = Outcome("interrupted", ())


def run(plan, value=score, limit=500):
    """One after another, to the end; the trials in the order in which they were proposed."""
    found = []
    while (proposal := plan.ask()) is not None:
        found.append(proposal)
        assert len(found) <= limit
        plan.tell(proposal, completed(value(proposal)))
    assert plan.over
    return found


def train(plan, proposal, done, peak=score):
    """Go on with a trial that has `done` validations behind it, until it is stopped or over; how many it has then."""
    for n in range(done, len(FRACTIONS)):
        fraction = FRACTIONS[n]
        if not plan.report(proposal, Evaluation(fraction, fraction * peak(proposal))) and fraction < 1:
            return n + 1
    return len(FRACTIONS)


def run_pruned(plan, workers=3, seed=0, peak=score, stop_after=None):
    """Several at a time, to the end; how many validations each has behind it, and the outcome."""
    draw = random.Random(seed)
    done, outcomes, running, proposals = {}, {}, [], 0
    while True:
        while len(running) < workers and (stop_after is None or proposals < stop_after):
            proposal = plan.ask()
            if proposal is None:
                break
            assert outcomes.get(proposal, FAILED).status != "completed", "nothing is run twice"
            proposals += 1
            running.append(proposal)
        if not running:
            return done, outcomes
        proposal = running.pop(draw.randrange(len(running)))
        done[proposal] = train(plan, proposal, done.get(proposal, 0), peak)
        so_far = tuple(Evaluation(f, f * peak(proposal)) for f in FRACTIONS[: done[proposal]])
        status = "completed" if done[proposal] == len(FRACTIONS) else "pruned"
        outcomes[proposal] = Outcome(status, (so_far[-1].value,), so_far, 10 * done[proposal], 6.0 * done[proposal])
        plan.tell(proposal, outcomes[proposal])


class TestSequences:
    @pytest.mark.parametrize("search", ["random", "qmc"])
    @pytest.mark.parametrize("done", [0, 1, 5, 11])
    @pytest.mark.parametrize("arguments", [(LR, "a=x,y,z", "b=interval(1,4)"), ("a=range(0,4)", "b=x,y,z")])
    def test_an_interruption_changes_nothing(self, search, done, arguments):
        budget = {"trials": 12}
        whole = run(plan_of(*arguments, search=search, budget=budget), lambda _: 0.5)
        assert len(whole) == 12
        again = plan_of(*arguments, search=search, budget=budget)
        lost = whole[max(done - 2, 0) : done]  # in the midst of which it was interrupted
        again.recall([(p, completed(0.5)) for p in whole[: max(done - 2, 0)]] + [(p, INTERRUPTED) for p in lost])
        assert run(again, lambda _: 0.5) == [*lost, *whole[done:]]

    @pytest.mark.parametrize("search", ["random", "qmc"])
    def test_the_seed_decides(self, search):
        one, same, other = (run(plan_of(LR, search=search, seed=s, budget={"trials": 4})) for s in (0, 0, 1))
        assert one == same
        assert not set(one) & set(other)

    def test_qmc_is_balanced_at_a_power_of_two(self):
        found = run(plan_of(LR, "a=w,x,y,z", search="qmc", budget={"trials": 16}), lambda _: 0.5)
        given = [dict(text.split("=") for text in proposal.overrides) for proposal in found]
        assert sorted(int(4 * (math.log10(float(at["lr"])) + 5)) for at in given) == list(range(16))
        assert sorted(at["a"] for at in given) == sorted("wxyz" * 4)

    @pytest.mark.slow
    def test_random_numbers_fill_their_interval(self):
        found = run(plan_of("a=interval(0,3)", LR, budget={"trials": 400}), lambda _: 0.5)
        counts = [sum(numbers(proposal)["a"] == n for proposal in found) for n in range(4)]
        assert min(counts) > 70
        assert all(1e-5 <= numbers(proposal)["lr"] <= 1e-1 for proposal in found)


class TestEverySampler:
    SEARCHES = ("random", "qmc", "tpe", "cmaes")

    @pytest.mark.parametrize("search", [*SEARCHES, pytest.param("gp", marks=pytest.mark.slow)])
    def test_a_finite_space_is_gone_through_without_repetition(self, search):
        found = run(plan_of("lr=1e-4,1e-3,1e-2", "b=range(0,4)", search=search))
        assert len(found) == len(set(found)) == 12

    @pytest.mark.exhaustive
    @pytest.mark.parametrize("search", [*SEARCHES, pytest.param("gp", marks=pytest.mark.slow)])
    def test_spaces_of_methods(self, search):
        methods = {"lora": {"b": "interval(0,8)"}, "head": {"lr": "1e-2,1e-1"}}
        plan = plan_of("peft=lora,head,full", LR, search=search, methods=methods, budget={"trials": 20})
        found = run(plan, lambda proposal: 0.5)
        assert len(set(found)) == 20
        assert all(plan.covers(proposal) for proposal in found)
        assert len({proposal.overrides[0] for proposal in found}) == 3

    @pytest.mark.one_in(3, "exhaustive")
    @pytest.mark.slow
    @pytest.mark.parametrize("search", ["tpe", "cmaes", "gp"])
    def test_what_learns_does_better_than_chance(self, search):
        def mean_of_last(search):
            plan = plan_of(LR, "b=interval(-50.0,50.0)", search=search, budget={"trials": 40})
            last = run(plan)[-10:]
            return sum(map(score, last)) / len(last)

        assert mean_of_last(search) > mean_of_last("random") + 0.15

    @pytest.mark.parametrize("search", SEARCHES)
    def test_minimises_where_that_is_the_aim(self, search):
        plan = plan_of(LR, search=search, objectives={"selection.value": "min"}, budget={"trials": 12})
        found = run(plan, lambda proposal: -score(proposal))
        assert plan.best.values == (min(-score(proposal) for proposal in found),)

    @pytest.mark.slow
    @pytest.mark.parametrize("search", ["tpe", "cmaes"])
    def test_resumed_it_knows_what_it_had_known(self, search):
        def plan():
            return plan_of(LR, "b=interval(-50.0,50.0)", search=search, budget={"trials": 30})

        whole = run(plan())
        again = plan()
        again.recall([(proposal, completed(score(proposal))) for proposal in whole[:20]])
        assert len(again.points) == 20
        assert run(again) == whole[20:]

    def test_a_study_is_made_of_all_that_is_known(self):
        plan = plan_of(LR, "a=x,y", search="tpe", budget={"trials": 9})
        done = [plan.ask() for _ in range(4)]
        plan.tell(done[0], completed(0.25))
        plan.tell(done[1], FAILED)
        plan.tell(done[2], Outcome("pruned", (0.1,), (Evaluation(0.25, 0.1), Evaluation(0.5, 0.05))))
        trials = plan._sampler._study(plan.points, 4).trials
        assert [trial.state.name for trial in trials] == ["COMPLETE", "FAIL", "PRUNED", "RUNNING"]
        assert trials[0].values == [0.25]
        assert trials[2].intermediate_values == {250: 0.1, 500: 0.1}
        for trial, proposal in zip(trials, done, strict=True):
            at = dict(text.split("=") for text in proposal.overrides)
            assert trial.params == {"lr": float(at["lr"]), "a": "xy".index(at["a"])}


class TestSeveralObjectives:
    @pytest.mark.parametrize("search", ["random", "tpe"])
    def test_all_are_told(self, search):
        plan = plan_of(LR, search=search, objectives=BOTH, budget={"trials": 15})
        assert len(run(plan, lambda proposal: (score(proposal), numbers(proposal)["lr"]))) == 15
        assert all(len(point.values) == 2 for point in plan.points)

    def test_nothing_is_pruned(self):
        with pytest.raises(ConfigError, match="several objectives"):
            plan_of(LR, objectives=BOTH, prune="asha", budget={"trials": 3})

    def test_cmaes_knows_one_only(self):
        with pytest.raises(ConfigError, match=r"cmaes.*one objective.*tpe"):
            plan_of(LR, objectives=BOTH, search="cmaes", budget={"trials": 3})


class TestSeeds:
    def test_every_point_has_all(self):
        found = run(plan_of(LR, "seed=0,1,2", budget={"trials": 10}), lambda _: 0.5)
        assert len(found) == 9, "no point is begun that the budget does not have room for"
        for three in (
            itertools.batched(found, 3) if hasattr(itertools, "batched") else zip(*[iter(found)] * 3, strict=True)
        ):
            assert len({proposal.overrides[0] for proposal in three}) == 1
            assert [proposal.overrides[1] for proposal in three] == ["seed=0", "seed=1", "seed=2"]

    def test_the_value_is_the_mean_and_known_when_all_have_ended(self):
        plan = plan_of(LR, "seed=0,1", search="tpe", budget={"trials": 4})
        one, other = plan.ask(), plan.ask()
        plan.tell(one, completed(0.5))
        assert plan.points[0].state == "running"
        assert plan.best is None
        plan.tell(other, completed(0.75))
        assert plan.best.values == (0.625,)

    def test_where_one_fails_the_others_are_not_begun(self):
        plan = plan_of(LR, "seed=0,1,2", budget={"trials": 6})
        first = plan.ask()
        plan.tell(first, FAILED)
        assert plan.points[0].state == "failed"
        assert plan.ask().overrides[0] != first.overrides[0]

    def test_those_that_are_missing_are_made_up_for(self):
        whole = run(plan_of(LR, "seed=0,1,2", budget={"trials": 6}), lambda _: 0.5)
        again = plan_of(LR, "seed=0,1,2", budget={"trials": 6})
        again.recall([(whole[0], completed(0.5)), (whole[2], INTERRUPTED), (whole[4], completed(0.5))])
        found = run(again, lambda _: 0.5)
        assert found[0] == whole[2]
        assert sorted(found[1:], key=lambda p: p.overrides) == sorted(
            [whole[1], whole[3], whole[5]], key=lambda p: p.overrides
        )

    def test_nothing_is_pruned(self):
        with pytest.raises(ConfigError, match=r"asha.*several seeds.*one seed"):
            plan_of(LR, "seed=0,1", prune="asha", budget={"trials": 4})


class TestBudget:
    @pytest.mark.parametrize(
        ("budget", "trials"),
        [
            ({"trials": 7}, 7),
            ({"steps": 90 * 7}, 7),
            ({"steps": 90 * 7 - 1}, 7),
            ({"hours": 7 / 60}, 7),
            ({"money": 7 / 60 * 2}, 7),
            ({"full_runs": 7}, 7),
            ({"full_runs": 7.9}, 7),
            ({"trials": 9, "steps": 90 * 4, "hours": 1.0}, 4),
        ],
    )
    def test_the_first_limit_ends_the_search(self, budget, trials):
        plan = plan_of(LR, budget=budget, price_per_device_hour=2.0)
        assert len(run(plan)) == trials
        again = plan_of(LR, budget=budget, price_per_device_hour=2.0)
        again.recall([(trial.proposal, completed(0.5)) for point in plan.points for trial in point.trials])
        assert again.over
        assert again.ask() is None

    def test_several_devices_count_as_many_hours(self):
        spec = SweepSpec(search="random", budget=SweepBudgetSpec(hours=8 / 60))
        plan = SearchPlan(spec, Space.parse([LR], spec), MAX, devices_per_trial=2.0)
        assert len(run(plan)) == 4

    @pytest.mark.parametrize("workers", [1, 3, 8])
    @pytest.mark.parametrize("prune", ["none", "asha", "hyperband", "successive_halving", "median"])
    def test_steps_are_exceeded_by_the_running_trials_at_most(self, prune, workers):
        plan = plan_of(LR, prune=prune, budget={"steps": 900})
        _, outcomes = run_pruned(plan, workers)
        steps = sum(outcome.steps for outcome in outcomes.values())
        assert 900 <= steps < 900 + workers * 90

    @pytest.mark.parametrize("workers", [1, 3, 8])
    @pytest.mark.parametrize("prune", ["none", "asha", "hyperband", "successive_halving", "median"])
    def test_full_runs_are_not_exceeded_and_spent(self, prune, workers):
        plan = plan_of(LR, prune=prune, budget={"full_runs": 10})
        done, _ = run_pruned(plan, workers)
        spent = sum(done.values()) / len(FRACTIONS)
        assert spent == pytest.approx(plan.spending.full_runs)
        dearest = 1.0 if prune in ("none", "median") else 2 / 3  # up to which a trial goes before it is judged again
        assert 10 - dearest < spent <= 10 + 1e-9

    def test_failed_trials_count(self):
        plan = plan_of(LR, budget={"full_runs": 5})
        count = 0
        while (proposal := plan.ask()) is not None:
            plan.tell(proposal, FAILED)
            count += 1
        assert count == 5

    def test_what_early_stopping_saves_is_spent(self):
        plan = plan_of(LR, budget={"full_runs": 4})
        half = Outcome("completed", (0.5,), (Evaluation(0.25, 0.4), Evaluation(0.5, 0.5)))
        count = 0
        while (proposal := plan.ask()) is not None:
            plan.tell(proposal, half)
            count += 1
        assert count == 7, "after which 0.5 is left, and the next might take 1"

    @pytest.mark.parametrize("fractions", [(), (0.7,), (0.3, 0.6, 0.9)])
    def test_training_after_the_last_validation_counts(self, fractions):
        plan = plan_of(LR, budget={"full_runs": 2})
        plan.tell(plan.ask(), Outcome("completed", (0.5,), tuple(Evaluation(f, 0.5) for f in fractions)))
        assert plan.spending.full_runs == 1.0

    def test_without_one_an_interval_is_refused(self):
        with pytest.raises(ConfigError, match=r"sweep.budget.*never ends"):
            plan_of(LR)

    def test_it_has_room_for_one_point(self):
        with pytest.raises(ConfigError, match=r"sweep.budget.trials = 2.*3"):
            plan_of(LR, "seed=0,1,2", budget={"trials": 2})

    @pytest.mark.parametrize(
        ("arguments", "budget", "total"),
        [
            ((LR,), {"trials": 9}, 9),
            (("a=1,2",), {"trials": 9}, 2),
            (("a=1,2", "seed=0,1"), {}, 4),
            ((LR,), {"steps": 9}, None),
        ],
    )
    def test_the_total_is_told_where_it_is_known(self, arguments, budget, total):
        assert plan_of(*arguments, budget=budget).total == total


class TestPruning:
    @pytest.mark.one_in(4, "slow")
    @pytest.mark.parametrize("search", ["random", "tpe", "cmaes"])
    @pytest.mark.parametrize("prune", ["asha", "hyperband", "successive_halving", "median"])
    def test_costs_less_and_ends(self, search, prune):
        plan = plan_of(LR, search=search, prune=prune, budget={"trials": 30})
        done, outcomes = run_pruned(plan)
        assert len(done) == 30
        assert plan.over
        finished = [proposal for proposal, outcome in outcomes.items() if outcome.status == "completed"]
        assert finished
        assert sum(done.values()) < 30 * 9 * (0.9 if prune == "median" else 0.6)
        assert plan.best.values[0] == max(score(proposal) for proposal in finished)

    def test_a_promoted_trial_is_the_same_proposal(self):
        plan = plan_of(LR, prune="asha", budget={"trials": 3}, pruning={"min_fraction": 0.3})
        trials = [plan.ask() for _ in range(3)]
        for n, proposal in enumerate(trials[:2]):
            assert not plan.report(proposal, Evaluation(1 / 3, 0.5 - n / 10))
            plan.tell(proposal, Outcome("pruned", (0.5 - n / 10,), (Evaluation(1 / 3, 0.5 - n / 10),)))
        assert plan.ask() is None
        assert not plan.over
        assert not plan.report(trials[2], Evaluation(1 / 3, 0.1))
        plan.tell(trials[2], Outcome("pruned", (0.1,), (Evaluation(1 / 3, 0.1),)))
        assert plan.ask() == trials[0]
        plan.tell(trials[0], completed(0.9))
        assert plan.over

    @pytest.mark.parametrize("prune", ["asha", "successive_halving", "hyperband", "median"])
    @pytest.mark.parametrize("stop_after", [5, 12, 25])
    def test_resumed_nothing_is_lost_or_repeated(self, prune, stop_after):
        def plan():
            return plan_of(LR, prune=prune, budget={"trials": 20})

        done, outcomes = run_pruned(plan(), stop_after=stop_after)
        again = plan()
        again.recall(list(outcomes.items()))
        assert all(again.covers(proposal) for proposal in outcomes)
        while (proposal := again.ask()) is not None:
            assert outcomes.get(proposal, FAILED).status != "completed"
            done[proposal] = train(again, proposal, done.get(proposal, 0))
            so_far = tuple(Evaluation(f, f * score(proposal)) for f in FRACTIONS[: done[proposal]])
            status = "completed" if done[proposal] == len(FRACTIONS) else "pruned"
            outcomes[proposal] = Outcome(status, (so_far[-1].value,), so_far)
            again.tell(proposal, outcomes[proposal])
        assert again.over
        assert len(outcomes) == 20
        assert any(outcome.status == "completed" for outcome in outcomes.values())

    def test_asha_judges_as_before_after_an_interruption(self):
        def plan():
            return plan_of(LR, prune="asha", budget={"trials": 40})

        whole = plan()
        _, outcomes = run_pruned(whole, workers=1, stop_after=20)
        again = plan()
        again.recall(list(outcomes.items()))
        _, rest = run_pruned(whole, workers=1)
        _, rest_again = run_pruned_from(again, outcomes)
        assert rest.keys() == rest_again.keys()

    def test_an_interrupted_trial_is_judged_by_what_it_had_shown(self):
        early = (Evaluation(1 / 3, 0.9),)
        rule = {"prune": "asha", "pruning": {"eta": 3, "min_fraction": 1 / 3}, "budget": {"trials": 9}}
        whole = plan_of(LR, **rule)
        trials = [whole.ask() for _ in range(3)]
        assert not whole.report(trials[0], Evaluation(1 / 3, 0.1))
        assert not whole.report(trials[1], Evaluation(1 / 3, 0.2))
        assert whole.report(trials[2], early[0])
        assert whole.report(trials[2], Evaluation(2 / 3, 0.05))
        again = plan_of(LR, **rule)
        past = [(t, Outcome("pruned", (s,), (Evaluation(1 / 3, s),))) for t, s in zip(trials, (0.1, 0.2), strict=False)]
        again.recall([*past, (trials[2], Outcome("interrupted", (), early))])
        assert again.ask() == trials[2]
        assert again.report(trials[2], Evaluation(2 / 3, 0.05))
        assert again.spending.full_runs == pytest.approx(whole.spending.full_runs)

    def test_what_was_stopped_goes_on_where_nothing_is_stopped_any_more(self):
        plan = plan_of(LR, budget={"trials": 1})
        proposal = plan_of(LR, budget={"trials": 1}).ask()
        plan.recall([(proposal, Outcome("pruned", (0.1,), (Evaluation(0.3, 0.1),)))])
        assert plan.ask() == proposal

    def test_nan_is_never_the_best(self):
        plan = plan_of(LR, prune="asha", budget={"trials": 9})
        _, outcomes = run_pruned(plan, peak=lambda p: math.nan if numbers(p)["lr"] > 1e-3 else score(p))
        assert any(math.isnan(outcome.values[0]) for outcome in outcomes.values())
        assert numbers(plan.best.trials[0].proposal)["lr"] <= 1e-3


def run_pruned_from(plan, outcomes):
    done = {proposal: len(outcome.evaluations) for proposal, outcome in outcomes.items()}
    found = {}
    while (proposal := plan.ask()) is not None:
        done[proposal] = train(plan, proposal, done.get(proposal, 0))
        so_far = tuple(Evaluation(f, f * score(proposal)) for f in FRACTIONS[: done[proposal]])
        status = "completed" if done[proposal] == len(FRACTIONS) else "pruned"
        found[proposal] = Outcome(status, (so_far[-1].value,), so_far)
        plan.tell(proposal, found[proposal])
    return done, found


class TestInVain:
    def test_a_search_ends_where_nothing_works(self):
        plan = plan_of(LR, budget={"hours": 1.0})
        for _ in range(IN_VAIN):
            assert not plan.over
            plan.tell(plan.ask(), FAILED)
        assert plan.ask() is None
        assert plan.over

    def test_it_goes_on_where_something_does(self):
        plan = plan_of(LR, budget={"hours": 1.0})
        for number in range(3 * IN_VAIN):
            plan.tell(plan.ask(), completed(0.5) if number % (IN_VAIN - 1) == 0 else FAILED)
        assert not plan.over


def test_examples_have_every_option():
    plan = plan_of(LR, "peft=lora,head", "a=x,y,z", "seed=3,4", budget={"trials": 6}, extra=["budget.test=false"])
    examples = [set(proposal.overrides) for proposal in plan.examples]
    assert all(plan.covers(proposal) for proposal in plan.examples)
    assert all({"seed=3", "budget.test=false"} < example for example in examples)
    for method in ("peft=lora", "peft=head"):
        assert all(any({method, option} < example for example in examples) for option in ("a=x", "a=y", "a=z"))
    low, high = sorted({text for example in examples for text in example if text.startswith("lr=")})
    assert low != high


class TestRecall:
    def test_what_is_of_another_search_is_left_out(self):
        plan = plan_of(LR, budget={"trials": 3}, extra=["budget.test=false"])
        first = plan.ask()
        assert first.overrides[-1] == "budget.test=false"
        other = plan_of(LR, budget={"trials": 3}).ask()
        again = plan_of(LR, budget={"trials": 3}, extra=["budget.test=false"])
        assert again.covers(first)
        assert not again.covers(other)
        again.recall([(other, completed(0.5)), (first, INTERRUPTED)])
        assert len(again.points) == 1
        assert again.ask() == first

    @pytest.mark.parametrize("prune", ["none", "hyperband"])
    def test_an_interrupted_trial_keeps_its_place(self, prune):
        def plan():
            return plan_of(LR, prune=prune, budget={"trials": 20})

        whole = plan()
        begun = [whole.ask() for _ in range(12)]
        again = plan()
        again.recall([(p, INTERRUPTED if n in (0, 5) else completed(0.5)) for n, p in enumerate(begun)])
        assert [point.params for point in again.points] == [point.params for point in whole.points]
        assert [again.ask() for _ in range(2)] == [begun[0], begun[5]]

    def test_a_trial_keeps_the_overrides_that_it_was_made_with(self):
        plan = plan_of("a=1e-4,1e-3", "b=x,y")
        old = type(plan.ask())(("b=y", "a=1e-4"))
        again = plan_of("a=1e-4,1e-3", "b=x,y")
        again.recall([(old, INTERRUPTED)])
        assert again.ask() == old
        again.tell(old, completed(0.5))
        assert len(run(again, lambda _: 0.5)) == 3

    def test_a_larger_budget_goes_on(self):
        few = run(plan_of(LR, budget={"trials": 3}))
        more = plan_of(LR, budget={"trials": 8})
        more.recall([(proposal, completed(0.5)) for proposal in few])
        assert few + run(more) == run(plan_of(LR, budget={"trials": 8}))

    def test_cmaes_wants_numbers(self):
        with pytest.raises(ConfigError, match=r"cmaes.*numbers.*tpe"):
            plan_of("a=x,y", search="cmaes")


def test_a_budget_below_one_point_is_refused():
    space = Space.parse(["optimizer.lr=1,2,3", "seed=0,1,2"], SweepSpec())
    budget = SweepBudgetSpec(full_runs=2)
    with pytest.raises(ConfigError, match=r"sweep\.budget\.full_runs = 2: a point takes 3"):
        SearchPlan(SweepSpec(search="random", budget=budget), space, {"selection.value": "max"})
