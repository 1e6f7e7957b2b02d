from __future__ import annotations

import itertools
import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peftlab.sweep.pruning import Asha, Hyperband, Median, Pruner, SuccessiveHalving, rungs

NAN = float("nan")
SCORES = st.floats(0, 1) | st.just(NAN)


def worth(score):
    return -math.inf if math.isnan(score) else score


def curve_of(peak, pace, count=9):
    """Scores that rise to `peak`, at validations after each 1/count of the training."""
    return [(n / count, peak * (1 - math.exp(-pace * n / count))) for n in range(1, count + 1)]


class Simulation:
    """Trials with known curves under a pruner, several at a time, their validations in random order."""

    def __init__(self, pruner, curves, workers=3, seed=0):
        self.pruner, self.curves = pruner, curves
        self.seen = dict.fromkeys(range(len(curves)), 0)
        """How many validations each trial has behind it."""
        self.resumed = []
        self.completed = set()
        draw = random.Random(seed)
        running, left = [], list(range(len(curves)))
        while True:
            while len(running) < workers:
                trial = next(pruner.candidates(), None)
                if trial is not None:
                    self.resumed.append(trial)
                    pruner.resume(trial)
                elif left:
                    trial = left.pop(0)
                    pruner.begin(trial)
                else:
                    pruner.close()
                    if next(pruner.candidates(), None) is None:
                        break
                    continue
                running.append(trial)
            if not running:
                break
            trial = draw.choice(running)
            self.validate(trial, running)

    def validate(self, trial, running):
        fraction, score = self.curves[trial][self.seen[trial]]
        self.seen[trial] += 1
        goes_on = self.pruner.report(trial, fraction, score)
        if self.seen[trial] == len(self.curves[trial]):
            assert goes_on, "at the end there is nothing left to stop"
            running.remove(trial)
            self.pruner.end(trial, completed=True)
            self.completed.add(trial)
        elif not goes_on:
            running.remove(trial)
            self.pruner.pause(trial)

    @property
    def full_runs(self):
        return sum(self.curves[trial][n - 1][0] for trial, n in self.seen.items() if n)


@pytest.mark.parametrize(
    ("eta", "least", "levels"),
    [
        (3, 0.1, (1 / 9, 1 / 3)),
        (3, 0.3, (1 / 3,)),
        (3, 1 / 9, (1 / 9, 1 / 3)),
        (2, 0.1, (0.125, 0.25, 0.5)),
        (4, 0.5, (0.5,)),
    ],
)
def test_rungs(eta, least, levels):
    assert rungs(eta, least) == pytest.approx(levels)


def test_without_a_rule_all_go_on():
    simulation = Simulation(Pruner(), [curve_of(0.1 * n, 3) for n in range(5)])
    assert simulation.completed == set(range(5))


class TestAsha:
    @pytest.mark.slow
    @given(st.lists(SCORES, min_size=1, max_size=40), st.integers(2, 4))
    def test_who_goes_on_at_once_is_among_the_best_there(self, scores, eta):
        pruner = Asha(eta, 1 / eta)
        for trial, score in enumerate(scores):
            pruner.begin(trial)
            goes_on = pruner.report(trial, 1 / eta, score)
            there = sorted(map(worth, scores[: trial + 1]), reverse=True)
            best = there[: (trial + 1) // eta]
            if goes_on:
                assert worth(score) in best
                assert not math.isnan(score)
            elif best and not math.isnan(score):
                assert worth(score) <= best[-1]

    @pytest.mark.slow
    @given(st.lists(SCORES, min_size=1, max_size=40), st.integers(2, 4))
    def test_who_is_paused_and_comes_to_be_among_the_best_is_promoted(self, scores, eta):
        pruner = Asha(eta, 1 / eta)
        on = set()
        for trial, score in enumerate(scores):
            pruner.begin(trial)
            if pruner.report(trial, 1 / eta, score):
                on.add(trial)
            else:
                pruner.pause(trial)
            while (promoted := next(pruner.candidates(), None)) is not None:
                assert promoted not in on
                pruner.resume(promoted)
                on.add(promoted)
            ranked = sorted(range(trial + 1), key=lambda one: (-worth(scores[one]), one))
            best = [one for one in ranked[: (trial + 1) // eta] if not math.isnan(scores[one])]
            assert on.issuperset(best)
            # at the time each that went on was among the best: with scores in falling order there are no others
            if all(worth(a) >= worth(b) for a, b in itertools.pairwise(scores)):
                assert len(on) <= (trial + 1) // eta + 1

    def test_the_highest_rung_is_promoted_from_first(self):
        pruner = Asha(2, 0.25)
        for trial in range(4):
            pruner.begin(trial)
            pruner.see(trial, 0.25, 0.1 * trial)
            pruner.pause(trial)
        assert list(pruner.candidates()) == [3, 2]
        pruner.resume(2)
        pruner.see(2, 0.5, 0.5)
        pruner.pause(2)
        assert list(pruner.candidates()) == [3]
        pruner.resume(3)
        assert not pruner.report(3, 0.5, 0.4)
        pruner.pause(3)
        assert list(pruner.candidates()) == [2]

    def test_rungs_between_two_validations_are_one(self):
        pruner = Asha(2, 0.125)
        for trial, score in enumerate([0.1, 0.2, 0.3]):
            pruner.begin(trial)
            assert pruner.report(trial, 0.25, score) == (trial > 0)
        assert pruner.target(2) == 0.5

    def test_a_trial_is_as_good_as_its_best_checkpoint(self):
        pruner = Asha(2, 0.5)
        for trial, curve in enumerate([(0.2, 0.3), (0.9, 0.1), (NAN, 0.4), (0.8, NAN)]):
            pruner.begin(trial)
            pruner.report(trial, 0.25, curve[0])
            pruner.report(trial, 0.5, curve[1])
            pruner.pause(trial)
        assert list(pruner.candidates()) == [1, 3]

    def test_validations_between_rungs_stop_nothing(self):
        pruner = Asha(2, 0.5)
        for trial in range(2):
            pruner.begin(trial)
            pruner.report(trial, 0.5, trial)
        assert pruner.report(1, 0.7, 0.0)
        assert pruner.report(1, 0.5, 0.0), "a validation that is repeated changes nothing"

    def test_finds_the_best_for_a_fraction_of_the_cost(self):
        draw = random.Random(1)
        curves = [curve_of(draw.random(), draw.uniform(2, 6)) for _ in range(60)]
        simulation = Simulation(Asha(3, 0.1), curves)
        best = max(range(60), key=lambda trial: curves[trial][-1][1])
        assert best in simulation.completed
        assert simulation.full_runs < 60 / 2.5


class TestSuccessiveHalving:
    @pytest.mark.parametrize("workers", [1, 4, 27])
    @pytest.mark.parametrize("seed", range(3))
    def test_a_third_of_the_bracket_passes_each_rung(self, workers, seed):
        draw = random.Random(seed)
        curves = [curve_of(draw.random(), 3) for _ in range(27)]
        simulation = Simulation(SuccessiveHalving(3, 0.1, size=27), curves, workers, seed)
        ranked = sorted(range(27), key=lambda trial: -curves[trial][-1][1])
        assert simulation.completed == set(ranked[:3])
        assert {trial for trial, n in simulation.seen.items() if n > 1} == set(ranked[:9])
        assert all(simulation.seen[trial] == 1 for trial in ranked[9:])

    def test_without_a_size_a_bracket_leaves_one(self):
        simulation = Simulation(SuccessiveHalving(3, 0.1), [curve_of(n / 18, 3) for n in range(18)], workers=1)
        assert simulation.completed == {8, 17}

    def test_a_bracket_that_stays_short_is_decided_when_no_trial_is_left(self):
        simulation = Simulation(SuccessiveHalving(3, 0.1, size=50), [curve_of(n / 7, 3) for n in range(7)])
        assert simulation.completed == {6}

    def test_nobody_waits_for_the_dead(self):
        pruner = SuccessiveHalving(2, 0.5, size=3)
        for trial in range(3):
            pruner.begin(trial)
        for trial in range(2):
            assert not pruner.report(trial, 0.5, trial)
            pruner.pause(trial)
        assert list(pruner.candidates()) == []
        pruner.end(2, completed=False)
        assert list(pruner.candidates()) == [1]

    def test_nan_never_passes(self):
        pruner = SuccessiveHalving(2, 0.5, size=2)
        for trial in range(2):
            pruner.begin(trial)
            assert not pruner.report(trial, 0.5, NAN)
            pruner.pause(trial)
        assert list(pruner.candidates()) == []

    def test_rungs_before_the_first_validation_are_left_out(self):
        pruner = SuccessiveHalving(2, 0.125, size=4)
        for trial in range(4):
            pruner.begin(trial)
        goes_on = [pruner.report(trial, 0.3, trial) for trial in range(4)]
        assert goes_on == [False, False, False, True]
        pruner.pause(2)
        assert list(pruner.candidates()) == [2]


class TestHyperband:
    def test_brackets_are_those_of_the_paper(self):
        pruner = Hyperband(3, 1 / 81)  # Li et al. 2018, table 1
        shapes = [next(pruner._shapes) for _ in range(5)]
        assert shapes == [(0, 81), (1, 34), (2, 15), (3, 8), (4, 5)]

    def test_trials_are_first_judged_where_their_bracket_begins(self):
        pruner = Hyperband(3, 0.1)  # brackets of 9, 5 and 3 trials
        targets = []
        for trial in range(17):
            targets.append(pruner.target(None))
            pruner.begin(trial)
        assert targets == pytest.approx([1 / 9] * 9 + [1 / 3] * 5 + [1.0] * 3)
        assert not pruner.report(0, 1 / 9, 0.5)
        assert pruner.report(9, 1 / 9, 0.0)
        assert not pruner.report(9, 1 / 3, 0.0)
        assert pruner.report(14, 1 / 3, 0.0)

    @pytest.mark.parametrize("workers", [1, 5])
    def test_some_of_each_bracket_are_completed(self, workers):
        draw = random.Random(0)
        curves = [curve_of(draw.random(), 3) for _ in range(17)]
        simulation = Simulation(Hyperband(3, 0.1), curves, workers)

        def best(trials, count):
            return set(sorted(trials, key=lambda trial: -curves[trial][-1][1])[:count])

        assert simulation.completed == best(range(9), 1) | best(range(9, 14), 1) | {14, 15, 16}


class TestMedian:
    def judged(self, others, scores, warmup=1, least=0.1):
        pruner = Median(least, warmup)
        for trial, curve in enumerate(others):
            pruner.begin(trial)
            for n, score in enumerate(curve, start=1):
                pruner.see(trial, n / 4, score)
            pruner.end(trial, completed=True)
        pruner.begin(99)
        return [pruner.report(99, n / 4, score) for n, score in enumerate(scores, start=1)]

    def test_the_best_so_far_is_compared_with_the_median_of_averages(self):
        others = [[0.1, 0.3, 0.3, 0.3], [0.2, 0.4, 0.4, 0.4], [0.3, 0.9, 0.9, 0.9]]  # after a half: 0.2, 0.3, 0.6
        assert self.judged(others, [0.2, 0.301]) == [True, True]
        assert self.judged(others, [0.2, 0.29]) == [True, False]
        assert self.judged(others, [0.19]) == [False]
        assert self.judged(others, [0.31, 0.0]) == [True, True]

    def test_nothing_is_stopped_too_soon(self):
        assert self.judged([[0.9] * 4] * 2, [0.1], warmup=3) == [True]
        assert self.judged([[0.9] * 4] * 2, [0.1, 0.1], least=0.5) == [True, False]
        assert self.judged([[0.9] * 4] * 2, [0.9, 0.9, 0.9, 0.1]) == [True] * 4
        assert self.judged([], [NAN]) == [True]

    def test_nan_is_worse_than_everything(self):
        assert self.judged([[0.1] * 4] * 3, [NAN]) == [False]
        assert self.judged([[NAN] * 4] * 3, [0.1]) == [True]

    def test_who_is_stopped_stays_so(self):
        pruner = Median(0.1, 1)
        pruner.begin(0)
        pruner.pause(0)
        assert list(pruner.candidates()) == []

    def test_saves_and_finds_the_best(self):
        draw = random.Random(2)
        curves = [curve_of(draw.random(), draw.uniform(2, 6)) for _ in range(60)]
        simulation = Simulation(Median(0.1, 5), curves)
        assert max(range(60), key=lambda trial: curves[trial][-1][1]) in simulation.completed
        assert simulation.full_runs < 50
