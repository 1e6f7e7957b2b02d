"""The area over the perturbation curve: its limits by enumeration, and what orders of known worth get."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest

from peftlab.use.explanation.faithfulness import area, faithfulness, limits, steps_of


class Game:
    """A subject whose logit is a function of which words are there."""

    def __init__(self, words, worth):
        self.words, self.worth, self.asked = range(words), worth, 0

    def value(self, present):
        self.asked += len(present)
        return np.asarray([self.worth(one.astype(float)) for one in present])

    full = property(lambda self: float(self.value(np.ones((1, len(self.words)), dtype=bool))[0]))
    empty = property(lambda self: float(self.value(np.zeros((1, len(self.words)), dtype=bool))[0]))


def tangled(words, seed=0):
    """Return a game in which words help and hinder each other."""
    draws = np.random.default_rng(seed)
    pairs, single = draws.normal(size=(words, words)), draws.normal(size=words)
    return Game(words, lambda present: present @ pairs @ present + single @ present)


def added(*values):
    return Game(len(values), lambda present: float(present @ np.asarray(values)))


def test_the_area_is_the_mean_loss_after_each_step():
    # without word 0: 4; and 2: 5; and 1: 7
    assert area(added(4, 2, 1), np.asarray([0, 2, 1])) == pytest.approx((4 + 5 + 7) / 3)


@pytest.mark.parametrize("words", [1, 2, 5])
def test_the_limits_are_those_of_all_orders(words):
    game = tangled(words)
    areas = [area(game, np.asarray(order)) for order in permutations(range(words))]
    found = limits(game)
    assert found.exact
    assert (found.low, found.high) == pytest.approx((min(areas), max(areas)))


def test_a_wide_beam_finds_them_too_and_a_narrow_one_finds_no_more(monkeypatch):
    game = tangled(6)
    exact = limits(game)
    monkeypatch.setattr("peftlab.use.explanation.faithfulness.EXACT", 0)
    wide, narrow = limits(game, width=64), limits(game, width=1)
    assert not wide.exact
    assert (wide.low, wide.high) == pytest.approx((exact.low, exact.high))
    assert exact.low - 1e-9 <= narrow.low <= narrow.high <= exact.high + 1e-9


@pytest.mark.parametrize("words", [7, 12])
def test_the_best_order_of_a_sum_gets_all_and_its_reverse_nothing(words):
    values = np.random.default_rng(1).normal(size=words)
    made, random, within = faithfulness(added(*values), {"right": values, "wrong": -values, "none": 0 * values})
    assert within.exact == (words <= 8)
    assert (made["right"].comprehensiveness, made["right"].sufficiency) == pytest.approx((1, 0))
    assert (made["wrong"].comprehensiveness, made["wrong"].sufficiency) == pytest.approx((0, 1))
    margins = [one.margin for one in random]
    assert len(margins) == (200 if words <= 8 else 20)
    assert np.mean(margins) == pytest.approx(0)  # of every seed: an order and its reverse cancel
    assert 0 < max(margins) < 1
    assert abs(made["none"].margin) < 1  # of equal values in a random order, not in that of the text


def test_of_a_long_text_several_words_go_at_each_step():
    assert list(steps_of(3)) == [1, 2, 3]
    assert list(steps_of(50)) == pytest.approx([2.5 * step for step in range(1, 21)], abs=0.5)
    values = np.random.default_rng(1).normal(size=50)
    game = added(*values)
    made, _, within = faithfulness(game, {"right": values})
    assert not within.exact
    assert (made["right"].comprehensiveness, made["right"].sufficiency) == pytest.approx((1, 0))
    assert game.asked < 5000  # with a word a step, some 20,000


def test_random_orders_are_drawn_anew_for_no_reason_but_the_seed():
    game, values = tangled(10), {"one": np.arange(10.0)}
    first, again, other = (faithfulness(game, values, seed=seed)[1] for seed in (0, 0, 1))
    assert first == again != other


def test_nothing_is_said_where_all_orders_are_equal():
    assert faithfulness(added(3.0), {"one": np.asarray([1.0])}) is None
    assert faithfulness(added(2.0, 2.0, 2.0), {"one": np.asarray([1.0, 2.0, 3.0])}) is None


def test_a_random_order_is_as_good_in_the_mean_as_its_reverse():
    game = tangled(5)
    both = [area(game, np.asarray(order)) - area(game, np.asarray(order)[::-1]) for order in permutations(range(5))]
    assert np.mean(both) == pytest.approx(0, abs=1e-9)


def test_a_subject_computes_each_set_once(pretrained, processor, classification):
    from peftlab.tasks.inputs.texts import Text
    from peftlab.use.explanation.subject import subjects
    from peftlab.use.predictor import Predictor

    task = classification()
    predictor = Predictor(model=pretrained.backbone(task), task=task, processor=processor, max_tokens=32)
    (subject,) = subjects(predictor, Text("text:0", "Marie moved to Rome", None), None, ["pad"])
    passes = []
    predictor.model.register_forward_pre_hook(lambda *_: passes.append(1))
    limits(subject)
    assert len(passes) == 2  # the full text, then all other sets at once
    limits(subject)
    assert len(passes) == 2
    assert len(subject.known) == 16
