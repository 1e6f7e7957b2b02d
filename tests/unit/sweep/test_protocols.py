from __future__ import annotations

import math
import statistics
from pathlib import Path

import pytest

from peftlab.errors import ConfigError
from peftlab.runs.record import RunRecord
from peftlab.sweep.grid import GridPlan
from peftlab.sweep.plan import Evaluation, Outcome, Proposal
from peftlab.sweep.protocols import Finding, make_plan, result_table
from peftlab.sweep.search import SearchPlan
from peftlab.sweep.space import Space
from peftlab.sweep.spec import SweepBudgetSpec, SweepSpec

MAX = {"selection.value": "max"}
RATES = {"lora": 1.5e-3, "head": 1e-3, "full": 2e-5}
WIDE = {"optimizer.lr": "tag(log, interval(1e-5, 1e-1))"}
FAILED = Outcome("failed", ())
INTERRUPTED = Outcome("interrupted", ())


def default_of(key, overrides):
    if key == "budget.test":
        return True
    assert key == "optimizer.lr"
    return RATES[overrides[0].removeprefix("peft=")]


def plan_of(*arguments, full_runs=3, default_of=default_of, **spec):
    spec = {"protocol": "equal_budget", "search": "tpe", "budget": SweepBudgetSpec(full_runs=full_runs)} | spec
    whole = SweepSpec(**spec)
    return make_plan(whole, Space.parse(arguments, whole), MAX, default_of)


def completed(value, reached=1.0):
    fractions = [reached * n / 4 for n in range(1, 5)]
    return Outcome("completed", (value,), tuple(Evaluation(fraction, value * fraction) for fraction in fractions))


def score(proposal):
    rate = next(float(text.partition("=")[2]) for text in proposal.overrides if text.startswith("optimizer.lr"))
    return 1 - abs(math.log10(rate) + 3) / 10 + int(proposal.overrides[-1].partition("=")[2] == "2") / 1000


def run(plan, outcome_of=lambda proposal: completed(score(proposal)), at_once=1):
    """To the end, so many at once; the outcomes in the order in which the trials were proposed."""
    outcomes, running = {}, []
    while True:
        while len(running) < at_once and (proposal := plan.ask()) is not None:
            assert proposal not in outcomes
            outcomes[proposal] = None
            running.append(proposal)
        if not running:
            assert plan.over
            return outcomes
        proposal = running.pop(0)
        outcomes[proposal] = outcome_of(proposal)
        plan.tell(proposal, outcomes[proposal])


def of(outcomes, method, phase):
    return [p for p in outcomes if p.labels == {"method": method, "phase": phase}]


def record_of(proposal, outcome, **scores):
    metrics = [{"name": name, "split": "test", "value": value} for name, value in scores.items()]
    data = {
        "status": outcome.status,
        "overrides": ["+experiment=ner_lora", *proposal.overrides],
        "selection": {"metric": "entity_f1", "value": outcome.values[0]},
        "metrics": [*metrics, {"name": "entity_f1", "split": "validation", "value": 9.0}],
    }
    return RunRecord(Path(), data)


class TestMakePlan:
    def test_a_grid(self):
        plan = make_plan(SweepSpec(), Space.parse(["a=1,2", "seed=0,1"], SweepSpec()), MAX, default_of)
        assert isinstance(plan, GridPlan)
        assert [proposal.overrides for proposal in plan.proposals] == [
            *(("a=1", "seed=0"), ("a=1", "seed=1"), ("a=2", "seed=0"), ("a=2", "seed=1"))
        ]

    def test_a_grid_of_one(self):
        plan = make_plan(SweepSpec(), Space.parse(["peft=lora"], SweepSpec()), MAX, default_of)
        assert [proposal.overrides for proposal in plan.proposals] == [()]

    @pytest.mark.parametrize("done", range(5))
    def test_an_interrupted_grid_goes_on_in_order(self, done):
        space = Space.parse(["a=1,2", "seed=0,1"], SweepSpec())
        whole = list(run(make_plan(SweepSpec(), space, MAX, default_of), lambda _: completed(0.5)))
        again = make_plan(SweepSpec(), space, MAX, default_of)
        last = [(whole[3], INTERRUPTED)] if done < 3 else []
        again.recall([*((proposal, completed(0.5)) for proposal in whole[:done]), *last])
        rest = list(run(again, lambda _: completed(0.5)))
        assert rest == ([whole[3], *whole[done:3]] if done < 3 else whole[done:])

    def test_a_search(self):
        spec = SweepSpec(search="random", budget=SweepBudgetSpec(trials=3))
        plan = make_plan(spec, Space.parse(["a=interval(0,9)"], spec), MAX, default_of)
        assert isinstance(plan, SearchPlan)
        assert plan.total == 3


class TestEqualBudget:
    @pytest.mark.parametrize("at_once", [1, 4])
    def test_each_method_is_tuned_then_tested(self, at_once):
        outcomes = run(plan_of("peft=lora,head,full"), at_once=at_once)
        for method, rate in RATES.items():
            searched, finals = of(outcomes, method, "search"), of(outcomes, method, "final")
            rates = [float(p.overrides[1].partition("=")[2]) for p in searched]
            assert sorted(rates) == pytest.approx([rate / 3, rate, rate * 3], rel=1e-3)
            assert {(p.overrides[0], p.overrides[2]) for p in searched} == {(f"peft={method}", "budget.test=false")}
            best = max(searched, key=lambda p: outcomes[p].values[0]).overrides[:2]
            assert [p.overrides for p in finals] == [(*best, f"seed={seed}") for seed in (1, 2, 3)]
        assert len(outcomes) == 3 * (3 + 3)

    def test_the_default_space_is_around_the_methods_own_rate(self):
        plan = plan_of("peft=lora,full")
        rates = {method: search.space.dimensions[-1].texts for method, search in plan.searches.items()}
        assert {method: list(map(float, texts)) for method, texts in rates.items()} == {
            "lora": [5e-4, 1.5e-3, 4.5e-3],
            "full": [6.67e-6, 2e-5, 6e-5],
        }

    def test_spaces_of_methods_and_common_ones(self):
        methods = {"lora": {"peft.r": "interval(2,64)", "optimizer.lr": "1e-3,2e-3"}}
        plan = plan_of("peft=lora,head", "model.dropout=interval(0.0,0.3)", methods=methods, space=WIDE)
        keys = {m: [one.key for one in search.space.dimensions] for m, search in plan.searches.items()}
        assert keys["head"] == ["peft", "model.dropout", "optimizer.lr"]
        assert sorted(keys["lora"]) == ["model.dropout", "optimizer.lr", "peft", "peft.r"]

    @pytest.mark.one_in(5, "slow")
    @pytest.mark.parametrize("prune", ["none", "asha", "hyperband", "successive_halving", "median"])
    @pytest.mark.parametrize("at_once", [pytest.param(1, marks=pytest.mark.slow), 5])
    def test_the_budget_is_equal(self, prune, at_once):
        plan = plan_of("peft=lora,head,full", space=WIDE, full_runs=8, prune=prune)
        spent = dict.fromkeys(RATES, 0.0)
        done, running = {}, []
        while True:
            while len(running) < at_once and (proposal := plan.ask()) is not None:
                running.append(proposal)
            if not running:
                break
            proposal = running.pop(0)
            value, goes_on = score(proposal) * (1 + len(running) / 100), True
            while goes_on and done.get(proposal, 0) < 9:
                done[proposal] = done.get(proposal, 0) + 1
                fraction = done[proposal] / 9
                goes_on = plan.report(proposal, Evaluation(fraction, fraction * value))
            seen = tuple(Evaluation(n / 9, n / 9 * value) for n in range(1, done[proposal] + 1))
            plan.tell(proposal, Outcome("completed" if done[proposal] == 9 else "pruned", (value,), seen))
        assert plan.over
        for proposal, n in done.items():
            if proposal.labels["phase"] == "search":
                spent[proposal.labels["method"]] += n / 9
            else:
                assert n == 9
        finals = [proposal.labels["method"] for proposal in done if proposal.labels["phase"] == "final"]
        assert sorted(finals) == sorted([*RATES] * 3)
        dearest = 1.0 if prune in ("none", "median") else 2 / 3
        assert all(8 - dearest < cost <= 8 + 1e-9 for cost in spent.values()), spent
        if prune == "none":
            assert set(spent.values()) == {8.0}

    def test_failed_trials_count(self):
        def outcome_of(proposal):
            return FAILED if proposal.overrides[0] == "peft=full" else completed(score(proposal))

        plan = plan_of("peft=lora,full", space=WIDE, full_runs=5)
        outcomes = run(plan, outcome_of)
        assert len(of(outcomes, "full", "search")) == len(of(outcomes, "lora", "search")) == 5

    def test_a_method_that_cannot_be_trained_is_told_of(self):
        def outcome_of(proposal):
            return FAILED if proposal.overrides[0] == "peft=full" else completed(score(proposal))

        plan = plan_of("peft=lora,full")
        outcomes = run(plan, outcome_of)
        assert of(outcomes, "full", "final") == []
        records = [record_of(p, o, entity_f1=0.5) for p, o in outcomes.items() if o.status == "completed"]
        rows = {row["method"]: row for row in plan.results(records)}
        assert rows["full"]["note"] == "the search found nothing: 3 of 3 trials failed"
        assert (rows["full"]["n"], rows["full"]["choice"], rows["full"]["entity_f1"]) == (0, "", None)
        assert (rows["lora"]["n"], rows["lora"]["note"]) == (3, "")

    def test_a_choice_that_was_stopped_has_the_score_that_it_was_chosen_for(self):
        def outcome_of(proposal):
            seen = Evaluation(0.06, score(proposal)), Evaluation(0.12, 0.1)
            return completed(0.5) if proposal.labels["phase"] == "final" else Outcome("pruned", (0.5,), seen)

        plan = plan_of("peft=lora", space=WIDE, prune="asha", full_runs=0.3)
        searched = of(run(plan, outcome_of), "lora", "search")
        (row,) = plan.results([])
        assert row["validation"] == max(map(score, searched)) > 0.5

    def test_final_runs_are_not_stopped(self):
        plan = plan_of("peft=lora", prune="median", full_runs=3)
        for proposal in run(plan):
            if proposal.labels["phase"] == "final":
                assert plan.report(proposal, Evaluation(0.5, -100.0))

    @pytest.mark.parametrize("done", [0, 1, 4, 7, 9, 12, 16, 18])
    def test_interrupted_it_goes_on(self, done):
        outcomes = run(plan_of("peft=lora,head", "seed=0,4", full_runs=6, search="random"))
        whole = list(outcomes)
        assert len(whole) == 2 * (6 + 3)
        again = plan_of("peft=lora,head", "seed=0,4", full_runs=6, search="random")
        assert all(again.labels_of(Proposal(proposal.overrides)) == proposal.labels for proposal in whole)
        past = [(Proposal(p.overrides), outcomes[p]) for p in whole[: max(done - 1, 0)]]
        again.recall(past + [(Proposal(p.overrides), INTERRUPTED) for p in whole[max(done - 1, 0) : done]])
        rest = run(again)
        assert sorted(p.overrides for p in rest) == sorted(p.overrides for p in whole[max(done - 1, 0) :])
        assert {p: p.labels for p in rest} == {p: p.labels for p in whole[max(done - 1, 0) :]}

    def test_what_is_not_of_it_is_not_covered(self):
        plan = plan_of("peft=lora,head")
        for overrides in (
            ("peft=lora", "optimizer.lr=0.0015"),
            ("peft=lora", "optimizer.lr=0.0015", "seed=9"),
            ("peft=lora", "optimizer.lr=0.0016", "seed=1"),
            ("peft=full", "optimizer.lr=2e-05", "seed=1"),
            (),
        ):
            assert not plan.covers(Proposal(overrides))
        assert plan.covers(Proposal(("peft=lora", "optimizer.lr=0.0015", "seed=1")))

    @pytest.mark.parametrize(
        ("arguments", "spec", "parts"),
        [
            (["peft=lora,head"], {"full_runs": 4}, ["sweep.budget.full_runs = 4", "peft=lora", "3 only"]),
            (["a=1,2"], {}, ["which methods", "peft=lora,head,full"]),
            (["peft=lora,head", "optimizer.lr=1e-3"], {"full_runs": 2}, ["1 only"]),
            (["peft=lora", "seed=0,1"], {"space": WIDE, "prune": "asha"}, ["several seeds"]),
        ],
    )
    def test_what_cannot_be_compared_is_refused(self, arguments, spec, parts):
        with pytest.raises(ConfigError) as error:
            plan_of(*arguments, **spec)
        assert all(part in str(error.value) for part in parts), error.value

    def test_a_rate_that_is_none_asks_for_a_space(self):
        with pytest.raises(ConfigError, match=r"peft=lora: optimizer.lr is None.*sweep.methods"):
            plan_of("peft=lora,head", default_of=lambda key, _: None)

    def test_without_a_test_there_is_no_result(self):
        with pytest.raises(ConfigError, match=r"budget.test=true"):
            plan_of("peft=lora,head", default_of=lambda key, _: False)


class TestResults:
    def test_the_final_runs_alone_are_counted(self):
        plan = plan_of("peft=lora,head")
        outcomes = run(plan)
        finals = of(outcomes, "lora", "final")
        records = [record_of(p, o, entity_f1=0.1) for p, o in outcomes.items() if p.labels["phase"] == "search"]
        records += [record_of(p, outcomes[p], entity_f1=0.8 + n / 100, loss=n) for n, p in enumerate(finals)]
        stray = Proposal((*finals[0].overrides[:-1], "seed=1", "model.dropout=0.5"))
        records.append(record_of(stray, completed(0.1234), entity_f1=0.0))
        rows = {row["method"]: row for row in plan.results(records)}
        assert list(rows) == ["lora", "head"]
        assert rows["lora"] | {"validation": None} == {
            "method": "lora",
            "choice": "optimizer.lr=0.0015",
            "validation": None,
            "full_runs": 3.0,
            "n": 3,
            "entity_f1": pytest.approx(0.81),
            "entity_f1 SD": pytest.approx(0.01),
            "entity_f1 from": pytest.approx(0.81 - 4.30265 * 0.01 / math.sqrt(3), abs=1e-6),
            "entity_f1 to": pytest.approx(0.81 + 4.30265 * 0.01 / math.sqrt(3), abs=1e-6),
            "loss": 1.0,
            "loss SD": 1.0,
            "note": "",
        }
        assert rows["head"].keys() == rows["lora"].keys()
        assert rows["head"]["n"] == 0

    def test_a_final_run_that_failed_is_told_of(self):
        plan = plan_of("peft=lora")
        outcomes = run(plan, lambda p: FAILED if p.overrides[-1] == "seed=2" else completed(score(p)))
        records = [record_of(p, o, entity_f1=0.5) for p, o in outcomes.items() if o.status == "completed"]
        (row,) = plan.results(records)
        assert (row["n"], row["note"]) == (2, "1 of 3 final runs failed")

    def test_scores_of_classes_are_left_out_and_the_first_is_first(self):
        scores = {"loss": 0.3, "entity_f1/LOC": 0.9, "entity_f1": 0.8}
        (row,) = result_table([Finding("lora", ["a=1"], {}, [scores])], "entity_f1")
        assert list(row)[3:] == [
            "entity_f1",
            "entity_f1 SD",
            "entity_f1 from",
            "entity_f1 to",
            "loss",
            "loss SD",
            "note",
        ]
        assert (row["entity_f1"], row["entity_f1 SD"], row["entity_f1 from"]) == (0.8, None, None)

    def test_nan_is_left_out(self):
        (row,) = result_table([Finding("lora", [], {}, [{"f1": math.nan}, {"f1": 0.5}])])
        assert (row["f1"], row["f1 SD"]) == (0.5, None)

    def test_intervals_have_no_value_that_the_score_cannot_have(self):
        (row,) = result_table([Finding("lora", [], {}, [{"f1": 0.98}, {"f1": 1.0}])], "f1")
        assert (row["f1 from"] > 0, row["f1 to"]) == (True, 1)

    @pytest.mark.parametrize(
        ("values", "critical"),
        [([0.1, 0.2], 12.7062), ([0.1, 0.2, 0.4], 4.30265), ([0.5, 0.6, 0.7, 0.4, 0.1], 2.77645)],
    )
    def test_intervals_by_the_table_of_t(self, values, critical):
        half = critical * statistics.stdev(values) / math.sqrt(len(values))
        (row,) = result_table([Finding("lora", [], {}, [{"loss": value} for value in values])], "loss")
        low, high = row["loss from"], row["loss to"]
        assert (high - low) / 2 == pytest.approx(half, rel=1e-5)
        assert (high + low) / 2 == pytest.approx(statistics.fmean(values))
